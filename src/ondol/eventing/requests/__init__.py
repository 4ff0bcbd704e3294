"""RequestReplies: a request and its answer over a broker, as the control plane sees them."""
