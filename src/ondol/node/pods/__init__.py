"""Pods on this node: what each should be, what it is, and the steps between."""
