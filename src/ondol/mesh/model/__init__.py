"""Typed, frozen views of the objects the mesh is made from; the documents stay the truth."""
