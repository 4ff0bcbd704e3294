"""Images on the node: the local OCI store read, layers unpacked once, root file systems stacked."""
