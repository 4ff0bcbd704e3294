"""Why no image came out: `BuildError` for the application, `StoreError` for what is kept on disk."""

from __future__ import annotations

from ondol.base import errors


class BuildError(errors.HostError):
    """This input cannot become an image; `remedy` is what to change or run."""


class StoreError(errors.HostError):
    """The image store cannot do what was asked, or what it holds is damaged."""


class NotManifest(StoreError):
    """What somebody names as a manifest is whole, and is none."""


class BlobMissing(StoreError):
    """An image cannot be named yet: a blob that it is made of is not in the store."""
