"""Images: `image.build` makes them, `store.ImageStore` keeps them, `registry` brings and sends them.

The builder is imported by who builds: a node that pulls needs none of it.
"""

from __future__ import annotations

from ondol.build.errors import BuildError, StoreError
from ondol.build.reference import full as full_reference
from ondol.build.store import Collected, Damage, Image, ImageStore

__all__ = [
    "BuildError",
    "Collected",
    "Damage",
    "Image",
    "ImageStore",
    "StoreError",
    "full_reference",
]
