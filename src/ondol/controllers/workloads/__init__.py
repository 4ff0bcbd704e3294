"""Workloads: controllers that keep pods, and the kit they are written with.

`claims` (whose is a child), `podcontrol` (make and remove pods), `history` (revisions of a template).
What a pod says of itself is `ondol.api.pods`. A folder a kind.
"""
