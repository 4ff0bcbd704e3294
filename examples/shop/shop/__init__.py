"""A small shop of plain HTTP services: nothing here knows of Ondol, Kubernetes or a mesh."""
