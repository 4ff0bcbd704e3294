"""Names for pods: the Kubernetes DNS specification over the node's caches."""
