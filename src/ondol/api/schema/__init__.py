"""Schemas: the shape of documents of built-in and custom kinds, compiled to walkers."""
