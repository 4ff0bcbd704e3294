"""Images brought from registries and sent to them, as `ondol image pull` and `push` do."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.build import reference as references
from ondol.build.registry import credentials
from ondol.build.registry.credentials import Keyring
from ondol.build.registry.pulling import Progress, Pull
from ondol.build.registry.pushing import Push
from ondol.build.store import Image, ImageStore
from ondol.cli import output, terminal
from ondol.compose import registry
from ondol.compose.image_source import hosts_of
from ondol.compose.settings import Settings

_PLACES: Final = ("${REGISTRY_AUTH_FILE}", "${XDG_RUNTIME_DIR}/containers/auth.json", "~/.docker/config.json")


def pull(reference: str, store: ImageStore, settings: Settings, auth_file: Path | None) -> Image:
    """The image from its registry, in the store."""
    hosts = hosts_of(settings)
    named = references.remote(reference)
    if named.host in hosts.local:
        raise errors.HostError(f"{named} is an image of this machine", remedy="name one of a registry")
    meter = Meter(f"pulling {named}")
    image = Pull(named, store, hosts).run(logins(auth_file), meter.show)
    meter.end()
    return image


def push(image: Image, target: str, store: ImageStore, settings: Settings, auth_file: Path | None) -> None:
    """The image to the registry that the target names."""
    hosts = hosts_of(settings)
    named = references.remote(target)
    if named.host in hosts.local or named.digest:
        raise errors.HostError(
            f"{named} is no name that a registry keeps",
            remedy="name one: ondol image push IMAGE HOST/NAME:TAG",
        )
    meter = Meter(f"pushing {named}")
    Push(image, named, store, hosts).run([*_own(settings), *logins(auth_file)], meter.show)
    meter.end()


def _own(settings: Settings) -> Keyring:
    """The password of the platform's own registry, for who may read it."""
    if not settings.registry_port:
        return ()
    try:
        login = credentials.Login(registry.USER, registry.password(settings.data_dir))
    except OSError:
        return ()
    return [(registry.host(settings), login)]


def logins(auth_file: Path | None) -> Keyring:
    """Those of a file that `docker login` or `podman login` wrote; the first there is, or none."""
    places = [auth_file] if auth_file else [Path(os.path.expandvars(each)).expanduser() for each in _PLACES]
    for place in places:
        if not place.is_file():
            continue
        try:
            document = credentials.document(place.read_bytes(), credentials.CONFIG_JSON)
        except (OSError, ValueError, RecursionError) as error:
            raise errors.HostError(
                f"the logins in {place} cannot be read: {errors.why(error)}",
                remedy="name another: --auth-file",
            ) from error
        return credentials.keyring([document])
    if auth_file:
        raise errors.HostError(
            f"{auth_file}: no such file", remedy="write it with docker, podman or skopeo login"
        )
    return ()


def inspected(image: Image, store: ImageStore) -> str:
    """What the store knows of an image, as a JSON document."""
    document = {
        "reference": image.reference,
        "digest": image.digest,
        "sizeBytes": image.size_bytes,
        "manifest": store.manifest(image.digest),
        "config": store.config(image.digest),
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


class Meter:
    """How far something is, in one line of a terminal; nothing where there is none."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._is_shown = sys.stderr.isatty()
        self._percent = -1

    def show(self, progress: Progress) -> None:
        percent = 100 * progress.done_bytes // max(progress.whole_bytes, 1)
        if self._is_shown and percent != self._percent:
            self._percent = percent
            size = output.megabytes(progress.whole_bytes)
            sys.stderr.write(f"\r\x1b[K{self._title}: {percent} % of {size}")
            sys.stderr.flush()

    def end(self) -> None:
        if self._is_shown and self._percent >= 0:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        terminal.flush()
