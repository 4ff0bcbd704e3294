"""The node agent: runs the pods bound to this machine with containers, networks, volumes and probes."""
