"""What runs in a template: a Python that has loaded what most programs load, and forks into containers.

A package by itself, with nothing of the platform in it: a fresh interpreter loads it, as `forking`, and it
needs the standard library alone. `server` makes blanks, `shim` looks after a container as conmon does,
`container` puts a process into its namespaces and takes its rights, `program` runs what the container is for.
"""
