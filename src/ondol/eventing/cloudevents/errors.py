"""Why a message is no event that can be taken; each has the status of the answer to its sender."""

from __future__ import annotations

from ondol.base import errors


class Malformed(errors.BadRequest):
    """400: the message is not a CloudEvent of version 1.0."""


class UnsupportedFormat(errors.UnsupportedMediaType):
    """415: the event may be well, but is in a format that is not read here."""
