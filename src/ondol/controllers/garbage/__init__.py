"""Garbage collection: objects whose owners are gone go too, in the order the deleter chose."""
