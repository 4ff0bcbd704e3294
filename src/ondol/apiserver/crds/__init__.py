"""Custom resources: from a CustomResourceDefinition to a kind that is served, and back to nothing.

`naming` decides whether a definition may have the names it asks for, `serving` turns one into served
kinds, and `controller` applies both whenever a definition changes.
"""
