"""Pod networks: sandboxes, addresses, the bridge, and address translation for Services."""
