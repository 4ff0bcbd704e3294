"""Namespaces: once deleted, everything in one is removed, and then the namespace itself."""
