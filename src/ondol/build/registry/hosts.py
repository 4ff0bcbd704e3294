"""Where a registry's name leads: mirrors first, in TLS but for those that are named, under which authorities.

Pure but for reading the file of certificates. A registry on this machine's loopback is spoken to in plain
HTTP, as other clients do: nothing leaves the machine.
"""

from __future__ import annotations

import ipaddress
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from ondol.base import comma_list, errors
from ondol.build.reference import DOCKER_HUB, LOCAL_HOST, Reference

_HUB_SERVER: Final = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks the registry's API."""

    scheme: str
    authority: str
    """Host and perhaps port."""
    prefix: str = ""
    """Path before that of the API, empty for most."""

    def url(self, path: str) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}/v2/{path}"


@dataclass(frozen=True)
class Hosts:
    """What an administrator has said of registries."""

    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """URLs of mirrors by registry; they are asked first."""
    insecure: frozenset[str] = frozenset()
    """Hosts, with their port if it is not the usual one, that are spoken to in plain HTTP."""
    ca_file: str = ""
    """PEM file of authorities that are believed besides the system's."""
    local: frozenset[str] = frozenset({LOCAL_HOST})
    """Hosts whose images are in the store or nowhere."""

    def endpoints(self, reference: Reference) -> list[Endpoint]:
        """The servers that may have the image, in the order in which they are asked."""
        listed = [self._endpoint(mirror) for mirror in self.mirrors.get(reference.host, ())]
        return [*listed, self.origin(reference)]

    def origin(self, reference: Reference) -> Endpoint:
        """The registry itself, which alone is written to."""
        return self._endpoint(_HUB_SERVER if reference.host == DOCKER_HUB else reference.host)

    def _endpoint(self, place: str) -> Endpoint:
        scheme, separator, rest = place.partition("://")
        authority, slash, path = (rest if separator else place).partition("/")
        if not separator:
            is_plain = authority in self.insecure or is_loopback(authority)
            scheme = "http" if is_plain else "https"
        return Endpoint(scheme, authority, f"{slash}{path}".rstrip("/"))

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Made once: it reads the system's authorities."""
        context = ssl.create_default_context()
        if self.ca_file:
            try:
                context.load_verify_locations(cafile=self.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise errors.HostError(
                    f"the registries' certificates {self.ca_file} cannot be read: {errors.why(error)}",
                    remedy="correct the setting registry_ca_file",
                ) from error
        return context


def is_loopback(authority: str) -> bool:
    host = urllib.parse.urlsplit(f"//{authority}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def mirrors(text: str) -> dict[str, list[str]]:
    """`docker.io=https://mirror.example, quay.io=http://10.0.0.2:5000/quay`; `ValueError` if it is not so."""
    by_registry: dict[str, list[str]] = {}
    for item in comma_list.items(text):
        registry, equals, place = item.partition("=")
        url = urllib.parse.urlsplit(place.strip())
        if not equals or not registry.strip() or url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(item)
        by_registry.setdefault(registry.strip().lower(), []).append(place.strip())
    return by_registry


def hosts(mirror_list: str, insecure: str, ca_file: str, local: Sequence[str] = ()) -> Hosts:
    """From the texts of settings."""
    return Hosts(
        mirrors(mirror_list),
        frozenset(comma_list.items(insecure)),
        str(Path(ca_file).expanduser()) if ca_file else "",
        frozenset({LOCAL_HOST, *local}),
    )
