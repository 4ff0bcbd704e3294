"""Images for the node from registries: where `node` and `build`, which do not know each other, meet.

What pulling needs is imported by the first pull: a node that runs images of its own machine is spared it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from ondol.base import errors
from ondol.compose.settings import Settings
from ondol.node.images.pulling import UNAVAILABLE, ImageUnavailable, PullSecret

if TYPE_CHECKING:
    from ondol.build.registry.credentials import Keyring
    from ondol.build.registry.hosts import Hosts
    from ondol.build.registry.pulling import Pull

_PULLS_AT_ONCE: Final = 4


class RegistrySource:
    """The node's `ImageSource`: into the store of this data directory, as the settings say of registries."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hosts: Hosts | None = None
        self._limiter: anyio.CapacityLimiter | None = None

    async def pull(self, reference: str, secrets: Sequence[PullSecret]) -> int:
        """As the port says. It runs in threads of its own number: what is here already never waits for it."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_PULLS_AT_ONCE)
        try:
            pull, logins = await anyio.to_thread.run_sync(self._prepared, reference, secrets)
            try:
                image = await anyio.to_thread.run_sync(
                    pull.run, logins, abandon_on_cancel=True, limiter=self._limiter
                )
            except anyio.get_cancelled_exc_class():
                pull.stop()
                raise
        except errors.HostError as error:
            raise _refusal(reference, error) from error
        return int(image.size_bytes)

    async def remove(self, names: Sequence[str]) -> None:
        await anyio.to_thread.run_sync(self._remove, names)

    def _remove(self, names: Sequence[str]) -> None:
        from ondol.build.store import ImageStore  # noqa: PLC0415 - see the module

        store = ImageStore(self._settings.data_dir / "images")
        for name in names:
            store.remove(name)
        store.garbage_collect()

    def _prepared(self, reference: str, secrets: Sequence[PullSecret]) -> tuple[Pull, Keyring]:
        from ondol.build import reference as references  # noqa: PLC0415 - see the module
        from ondol.build.registry import credentials  # noqa: PLC0415 - likewise
        from ondol.build.registry.pulling import Pull  # noqa: PLC0415 - likewise
        from ondol.build.store import ImageStore  # noqa: PLC0415 - likewise

        if self._hosts is None:
            self._hosts = hosts_of(self._settings)
        named = references.remote(reference)
        if named.host in self._hosts.local:
            raise errors.HostError(f"{named} is of this machine, and not here")
        store = ImageStore(self._settings.data_dir / "images")
        logins = credentials.keyring(_documents(secrets))
        return Pull(named, store, self._hosts), logins


def hosts_of(settings: Settings) -> Hosts:
    """What the settings say of registries."""
    from ondol.build.registry import hosts  # noqa: PLC0415 - see the module

    return hosts.hosts(settings.registry_mirrors, settings.registry_insecure, settings.registry_ca_file)


def _documents(secrets: Sequence[PullSecret]) -> list[Any]:
    """The configurations in Secrets; one that cannot be read is an error, as it is the kubelet's."""
    from ondol.build.registry import credentials  # noqa: PLC0415 - see the module

    documents = []
    for secret in secrets:
        for key in (credentials.CONFIG_JSON, credentials.CONFIG):
            if key in secret:
                try:
                    documents.append(credentials.document(secret[key], key))
                except (json.JSONDecodeError, RecursionError, ValueError) as error:
                    raise errors.HostError(f"the pull secret's {key} cannot be read: {error}") from error
    return documents


def _refusal(reference: str, error: errors.HostError) -> ImageUnavailable:
    from ondol.build.registry.errors import Unavailable  # noqa: PLC0415 - see the module

    if isinstance(error, Unavailable):
        message = f"image pull failed for {reference} because the registry is unavailable: {error}"
        return ImageUnavailable(UNAVAILABLE, message)
    return ImageUnavailable("ErrImagePull", str(error))
