"""Why a registry was of no use, classed by what the caller does next."""

from __future__ import annotations

from ondol.build.errors import BuildError


class RegistryError(BuildError):
    """The registry did not do what was asked."""


class Unavailable(RegistryError):
    """It cannot be reached, or is not able to answer: try later."""


class Broken(Unavailable):
    """An answer that had begun well broke off: what is missing of it can be asked for."""


class Denied(RegistryError):
    """It wants other credentials."""


class Absent(RegistryError):
    """It has no such image."""


class Refused(RegistryError):
    """What it sent is not taken: no image for this machine, or not what it should be."""


class Stopped(RegistryError):
    """Nobody waits for it any more."""
