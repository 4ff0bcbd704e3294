"""The scheduler: a node for every pod, or the reason why there is none."""
