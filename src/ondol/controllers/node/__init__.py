"""The life of nodes: heartbeats that stop, taints that follow, pods that must leave."""
