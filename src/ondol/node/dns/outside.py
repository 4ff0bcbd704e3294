"""Names of the outside that the mesh has addresses for: of ServiceEntries, for pods whose calls it carries.

Others ask real name servers, for they would reach nobody at an automatic address. Who may call an entry at
all is `contracts.scoping`'s to say, as it is for the proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from ondol.api import conditions, objects
from ondol.api.objects import Key
from ondol.contracts import cluster, mesh, scoping
from ondol.sdk import Informer

Spec = Mapping[str, Any]
_BY_HOST: Final = "dns-host"
_BY_ADDRESS: Final = "dns-pod-address"


class Outside(Protocol):
    """What is known of names that are no Service's."""

    def addresses(self, name: str, asker: str) -> Sequence[str] | None:
        """The addresses of a name for whoever asks from an address; None if others know."""


class Nothing:
    """Where there is no mesh."""

    def addresses(self, _name: str, _asker: str) -> Sequence[str] | None:
        return None


def answer(
    name: str, pod: Spec, entries: Iterable[Spec], sidecars: Iterable[Spec], zone: str
) -> list[str] | None:
    """The addresses of entries for a name, as a pod may call them; None where there is none with an address.

    The closest host counts: the name itself, then wildcards from the longest; the namespace's own entries
    come before everybody's, as in the mesh.
    """
    namespace = objects.namespace(pod)
    scope = scoping.sidecar_of(sidecars, namespace, objects.labels(pod))
    egress = scoping.egress_of(scope) if scope is not None else ()
    ordered = sorted(entries, key=_age)
    for pattern in patterns(name):
        own: list[str] = []
        others: list[str] = []
        for entry in ordered:
            if pattern in hosts(entry, zone) and _is_heard(entry, pattern, zone, egress, namespace):
                is_own = _audience(entry, pattern, zone) != scoping.EVERYBODY
                (own if is_own else others).extend(_addresses(entry, pattern))
        if listed := own or others:
            return list(dict.fromkeys(listed))
    return None


def patterns(name: str) -> Iterator[str]:
    """The name, and the wildcards that cover it."""
    yield name
    labels = name.split(".")
    for start in range(1, len(labels)):
        yield "*." + ".".join(labels[start:])


def hosts(entry: Spec, zone: str = cluster.DOMAIN) -> list[str]:
    """The hosts of an entry in full."""
    written = objects.spec(entry).get("hosts") or ()
    return [scoping.host_of(host, objects.namespace(entry), zone) for host in written]


def _is_heard(entry: Spec, host: str, zone: str, egress: Sequence[scoping.Egress], namespace: str) -> bool:
    audience = _audience(entry, host, zone)
    if audience != scoping.EVERYBODY and namespace not in audience:
        return False
    if (conditions.get(entry, mesh.ACCEPTED) or {}).get("status") == "False":
        return False
    return not egress or scoping.admits(egress, namespace, objects.namespace(entry), host)


def _audience(entry: Spec, host: str, zone: str) -> tuple[str, ...]:
    export_to = objects.spec(entry).get("exportTo") or ()
    return scoping.audience(objects.namespace(entry), host, export_to, zone)


def _addresses(entry: Spec, host: str) -> Iterator[str]:
    """Those written, which a network is not, or else the host's own."""
    written = objects.spec(entry).get("addresses") or ()
    yield from (text.removesuffix("/32") for text in written if "/" not in text or text.endswith("/32"))
    if not written:
        for each in objects.status(entry).get("addresses") or ():
            if each.get("host") == host and each.get("value"):
                yield str(each["value"])


def _age(entry: Spec) -> tuple[str, str, str]:
    created = str(objects.metadata(entry).get("creationTimestamp") or "")
    return (created, objects.namespace(entry), objects.name(entry))


class Entries:
    """The same out of the informers' caches."""

    def __init__(
        self, entries: Informer, sidecars: Informer, pods: Informer, namespaces: Informer, zone: str
    ) -> None:
        self._entries, self._sidecars, self._pods = entries, sidecars, pods
        self._namespaces = namespaces
        self._zone = zone
        entries.add_index(_BY_HOST, lambda entry: hosts(entry, zone))
        pods.add_index(_BY_ADDRESS, lambda pod: [str(objects.status(pod).get("podIP") or "")])

    def addresses(self, name: str, asker: str) -> Sequence[str] | None:
        listed = {
            objects.key(entry): entry
            for pattern in patterns(name)
            for entry in self._entries.lister.by_index(_BY_HOST, pattern)
        }
        pod = self._pod(asker) if listed else None
        if pod is None:
            return None
        return answer(name, pod, listed.values(), self._sidecars.lister.list(), self._zone)

    def _pod(self, address: str) -> Spec | None:
        """The pod of the mesh that asks."""
        for pod in self._pods.lister.by_index(_BY_ADDRESS, address):
            namespace = self._namespaces.lister.get(Key("", objects.namespace(pod)))
            if not objects.spec(pod).get("hostNetwork") and mesh.in_mesh(pod, namespace):
                return pod
        return None
