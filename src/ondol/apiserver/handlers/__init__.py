"""Handlers: one function per verb, from a `Request` to a `Reply` or `Stream`."""
