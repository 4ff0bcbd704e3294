"""Sequences and Parallels: channels and subscriptions put together."""
