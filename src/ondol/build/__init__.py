"""Images from source, without a registry: `image` builds, `ImageStore` keeps. Used by the command line."""

from __future__ import annotations

from ondol.build.assemble import Built, BuiltLayer, image
from ondol.build.errors import BuildError, StoreError
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
    "image",
]
