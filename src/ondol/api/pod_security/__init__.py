"""Pod Security: what the labels of a namespace ask of the pods in it, and whether a pod keeps to it. Pure.

Follows the Pod Security Standards and `k8s.io/pod-security-admission` as of Kubernetes 1.34, to the words.
`policies` reads labels, `checks` are the rules; the API server's admission brings both together.
"""
