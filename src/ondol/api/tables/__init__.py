"""The output of `kubectl get`: objects as a `meta.k8s.io` Table, or as their metadata alone.

The API server calls `table.table` (or `table.partial`) when a client asks for that representation.
`builtin` has the columns of built-in kinds, `custom` those a CustomResourceDefinition declares. Ages
are relative to a `now` the caller gives.
"""
