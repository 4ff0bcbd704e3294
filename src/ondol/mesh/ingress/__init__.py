"""Ingresses of Kubernetes, told as the mesh's own Gateways and VirtualServices."""
