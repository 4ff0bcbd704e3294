"""The delta xDS protocol as values and state, without I/O: snapshots in, requests in, responses out."""
