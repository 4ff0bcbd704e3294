"""Storage: claims bound to volumes, what protects both, ephemeral claims, growing, and the default class."""

from __future__ import annotations

from ondol.controllers.storage import claims, default_class, ephemeral, expansion, protection, volumes
from ondol.sdk import Manager

__all__ = ["add_to"]


def add_to(manager: Manager) -> None:
    manager.add(claims.Reconciler(manager).controller())
    manager.add(volumes.Reconciler(manager).controller())
    manager.add(protection.Claims(manager).controller())
    manager.add(protection.Volumes(manager).controller())
    manager.add(ephemeral.Reconciler(manager).controller())
    manager.add(expansion.Reconciler(manager).controller())
    manager.add(default_class.Reconciler(manager).controller())
