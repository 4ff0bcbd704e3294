"""Gateway API v1, at the ingress and between pods: its kinds, what they become, what is said of them."""
