"""From a Destination to the address that events are sent to. Pure: the caller looks up what it refers to.

The rules and messages are those of Knative's resolver (knative.dev/pkg/resolver).
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ondol.api import objects
from ondol.api.objects import Key
from ondol.base import errors
from ondol.contracts import cluster

Document: TypeAlias = Mapping[str, Any]


class Unresolved(errors.OndolError):
    """A destination has no address, for now; the message says why in Knative's words."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where events are sent to."""

    url: str
    ca_certs: str = ""
    audience: str = ""
    name: str = ""
    """Of several addresses of one object: which."""

    def as_status(self, prefix: str) -> dict[str, str | None]:
        """The three fields of a status that begin with `prefix`; None for one to be absent."""
        return {
            f"{prefix}Uri": self.url or None,
            f"{prefix}CACerts": self.ca_certs or None,
            f"{prefix}Audience": self.audience or None,
        }

    def as_addressable(self) -> dict[str, str]:
        """An entry of `status.addresses`."""
        fields = {"name": self.name, "url": self.url, "CACerts": self.ca_certs, "audience": self.audience}
        return {field: value for field, value in fields.items() if value}


NOWHERE = Address("")


@dataclass(frozen=True, slots=True)
class Reference:
    """Which object is meant: a KReference with its namespace filled in."""

    api_version: str
    kind: str
    namespace: str
    name: str
    address: str = ""
    group: str = ""

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)

    @property
    def is_service(self) -> bool:
        """Whether it is a Service of Kubernetes, whose address is its name."""
        return (self.api_version, self.kind) == ("v1", "Service")

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


def reference(ref: Document, namespace: str) -> Reference:
    """A `ref` as it stands in an object of this namespace."""
    return Reference(
        api_version=str(ref.get("apiVersion") or ""),
        kind=str(ref.get("kind") or ""),
        namespace=str(ref.get("namespace") or namespace),
        name=str(ref.get("name") or ""),
        address=str(ref.get("address") or ""),
        group=str(ref.get("group") or ""),
    )


def reference_of(destination: Document, namespace: str) -> Reference | None:
    """What a destination refers to; None for one that is only a URI."""
    ref = destination.get("ref")
    return reference(ref, namespace) if ref else None


def is_empty(destination: Document | None) -> bool:
    return not destination or not any(destination.values())


def of_uri(destination: Document) -> Address:
    """The address of a destination without a reference; `Unresolved` if it has none."""
    uri = str(destination.get("uri") or "")
    if not uri:
        raise Unresolved("destination missing Ref and URI, expected at least one")
    parts = _split(uri)
    if not parts.scheme or not parts.netloc:
        raise Unresolved(f'URI is not absolute (both scheme and host should be non-empty): "{uri}"')
    return Address(uri, str(destination.get("CACerts") or ""), str(destination.get("audience") or ""))


def of_reference(destination: Document, ref: Reference, obj: Document) -> Address:
    """The address of a destination whose reference leads to this object; `Unresolved` if that has none."""
    address = _of_service(destination, ref) if ref.is_service else _of_addressable(destination, ref, obj)
    uri = str(destination.get("uri") or "")
    if not uri:
        return address
    if _split(uri).scheme:
        raise Unresolved("absolute URI is not allowed when Ref or [apiVersion, kind, name] exists")
    return replace(address, url=urllib.parse.urljoin(_with_path(address.url), uri))


def _split(url: str) -> urllib.parse.SplitResult:
    """The parts of a URL, which may stand in the status of any kind, whoever wrote it."""
    try:
        return urllib.parse.urlsplit(url)
    except ValueError as error:
        raise Unresolved(f"{url!a} is no URL: {error}") from error


def _with_path(url: str) -> str:
    """A relative reference is joined to a root where the address has no path."""
    parts = _split(url)
    return url if parts.path else urllib.parse.urlunsplit(parts._replace(path="/"))


def _of_service(destination: Document, ref: Reference) -> Address:
    ca_certs = str(destination.get("CACerts") or "")
    scheme = "https" if ca_certs else "http"
    url = f"{scheme}://{cluster.service_host(ref.name, ref.namespace)}"
    return Address(url, ca_certs, str(destination.get("audience") or ""), ref.address)


def _of_addressable(destination: Document, ref: Reference, obj: Document) -> Address:
    chosen = _chosen(ref, objects.status(obj))
    url = str(chosen.get("url") or "")
    if not url:
        raise Unresolved(f"URL missing in address of {ref}")
    if not _split(url).netloc:
        raise Unresolved(f"hostname missing in address of {ref}")
    return Address(
        url,
        str(destination.get("CACerts") or chosen.get("CACerts") or ""),
        str(destination.get("audience") or chosen.get("audience") or ""),
        str(chosen.get("name") or ""),
    )


def _chosen(ref: Reference, status: Document) -> Document:
    """Of an object's addresses the one that is asked for by name, else the first."""
    addresses, address = status.get("addresses") or (), status.get("address")
    if not addresses and not address:
        raise Unresolved(f"address not set for {ref}")
    if ref.address:
        for each in addresses:
            if each.get("name") == ref.address:
                return dict(each)
        raise Unresolved(f'address with name "{ref.address}" not found for {ref}')
    return dict(addresses[0] if addresses else address or {})
