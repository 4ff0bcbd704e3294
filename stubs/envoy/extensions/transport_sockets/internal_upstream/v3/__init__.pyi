"""Stubs of generated modules."""
