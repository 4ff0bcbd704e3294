"""Pods nobody will remove otherwise: of lost nodes, never bound, or ended and too many."""
