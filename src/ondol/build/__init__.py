"""Images from source, without a registry: `image.build` makes, `store.ImageStore` keeps. Used by `cli`."""

from __future__ import annotations

from ondol.build.errors import BuildError, StoreError
from ondol.build.image import Built, BuiltLayer
from ondol.build.reference import full as full_reference
from ondol.build.store import Collected, Damage, Image, ImageStore

__all__ = [
    "BuildError",
    "Built",
    "BuiltLayer",
    "Collected",
    "Damage",
    "Image",
    "ImageStore",
    "StoreError",
    "full_reference",
]
