"""The Secrets that Ingresses and Gateways name, as they are now: of all others nothing is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.mesh import secrets
from ondol.mesh.translate.credentials import Content, Credentials
from ondol.sdk import Manager

_NOTHING: Final = ("", "", secrets.NOTHING)


class SecretFeed:
    """`named` gives what they hold; what was usable last serves for as long as the same Secret is there."""

    def __init__(self, manager: Manager, changed: Callable[[], None]) -> None:
        # Those of TLS are shared as they are with other parts of the control plane; of the many others only
        # what is for TLS is kept in memory.
        self._informers = [
            manager.informer(resources.SECRET, field_selector=f"type={secrets.TLS_TYPE}"),
            manager.informer(
                resources.SECRET, field_selector=f"type={secrets.ANY_TYPE}", transform=secrets.relevant
            ),
        ]
        self._contents: dict[Key, tuple[str, str, Content]] = {}
        """By Secret: its uid, its version, and what is served of it."""
        self._used: frozenset[Key] = frozenset()

        def on_change(old: Object | None, new: Object | None) -> None:
            key = objects.key(new or old or {})
            if key in self._used:
                changed()

        for informer in self._informers:
            informer.add_handler(on_change)

    def named(self, keys: Iterable[Key]) -> Credentials:
        """What these Secrets hold, as far as they exist; from now on a change of one of them is told."""
        self._used = frozenset(keys)
        contents: dict[Key, tuple[str, str, Content]] = {}
        for key in self._used:
            secret = next((each for informer in self._informers if (each := informer.lister.get(key))), None)
            if secret is None:
                continue
            uid, version = objects.uid(secret), objects.resource_version(secret)
            stored = self._contents.get(key, _NOTHING)
            if stored[:2] != (uid, version):
                before = stored[2] if stored[0] == uid else secrets.NOTHING
                stored = (uid, version, secrets.content(secret, before))
            contents[key] = stored
        self._contents = contents
        return Credentials({key: content for key, (_, _, content) in contents.items()})
