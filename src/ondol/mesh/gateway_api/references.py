"""What objects refer to: backends and Secrets, at home or where a ReferenceGrant permits it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.contracts import cluster
from ondol.mesh.gateway_api.documents import Document
from ondol.mesh.gateway_api.model import ReferenceGrantSpec, SecretReference
from ondol.mesh.gateway_api.names import GROUP
from ondol.mesh.gateway_api.routes import BackendReference
from ondol.mesh.model import istio
from ondol.mesh.translate.credentials import Content

INVALID_KIND: Final = "InvalidKind"
NOT_PERMITTED: Final = "RefNotPermitted"
NOT_FOUND: Final = "BackendNotFound"


@dataclass(frozen=True, slots=True)
class Referrer:
    """Who refers: a kind of Gateway API's, in a namespace."""

    kind: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Target:
    group: str
    kind: str
    key: Key


class Grants:
    """The ReferenceGrants, by the namespace that grants."""

    def __init__(self, listed: Iterable[Document[ReferenceGrantSpec]] = ()) -> None:
        self._of: dict[str, list[ReferenceGrantSpec]] = {}
        for each in listed:
            self._of.setdefault(each.namespace, []).append(each.spec)

    def permit(self, who: Referrer, what: Target) -> bool:
        """Whether the reference may be followed; within one namespace it always may."""
        if who.namespace == what.key.namespace:
            return True
        return any(
            _is_from(spec, who)
            and any(
                to.group == what.group and to.kind == what.kind and to.name in (None, "", what.key.name)
                for to in spec.to
            )
            for spec in self._of.get(what.key.namespace, ())
        )


def _is_from(spec: ReferenceGrantSpec, who: Referrer) -> bool:
    return any(
        (each.group, each.kind, each.namespace) == (GROUP, who.kind, who.namespace) for each in spec.from_
    )


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a reference leads, or why nowhere."""

    destination: istio.Destination | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Backends:
    """Answers for the backends of Routes."""

    services: Mapping[Key, Object] = field(default_factory=dict)
    grants: Grants = field(default_factory=Grants)
    cluster_domain: str = cluster.DOMAIN

    def find(self, who: Referrer, reference: BackendReference) -> Backend:
        key = Key(reference.namespace or who.namespace, reference.name)
        if (reference.group, reference.kind) != ("", "Service"):
            kind = f"{reference.kind}.{reference.group}" if reference.group else reference.kind
            return Backend(None, INVALID_KIND, f"backends of kind {kind} are not served: name a Service")
        if not self.grants.permit(who, Target("", "Service", key)):
            text = f"no ReferenceGrant in namespace {key.namespace} permits the backend {key.name}"
            return Backend(None, NOT_PERMITTED, text)
        service = self.services.get(key)
        if service is None:
            return Backend(None, NOT_FOUND, f"there is no Service {key}")
        if objects.spec(service).get("type") == "ExternalName":
            text = f"Service {key} is of type ExternalName, which has no endpoints"
            return Backend(None, NOT_FOUND, text)
        ports = objects.spec(service).get("ports") or ()
        if not any(
            port["port"] == reference.port and (port.get("protocol") or "TCP") == "TCP" for port in ports
        ):
            return Backend(None, NOT_FOUND, f"Service {key} has no TCP port {reference.port}")
        host = cluster.service_host(key.name, key.namespace, self.cluster_domain)
        return Backend(istio.Destination(host, port=istio.PortSelector(reference.port or 0)))


@dataclass(frozen=True, slots=True)
class Shown:
    """The certificate that a listener shows, `namespace/secret`; or why there is none, or an earlier one."""

    name: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Answers for the certificates of listeners."""

    contents: Mapping[Key, Content] = field(default_factory=dict)
    grants: Grants = field(default_factory=Grants)

    def find(self, who: Referrer, reference: SecretReference) -> Shown:
        key = Key(reference.namespace or who.namespace, reference.name)
        if (reference.group, reference.kind) != ("", "Secret"):
            return Shown(reason="InvalidCertificateRef", message=f"{reference.kind} {key} is no Secret")
        if not self.grants.permit(who, Target("", "Secret", key)):
            text = f"no ReferenceGrant in namespace {key.namespace} permits the Secret {key.name}"
            return Shown(reason=NOT_PERMITTED, message=text)
        content = self.contents.get(key)
        if content is None:
            text = f"there is no Secret {key} of type kubernetes.io/tls"
            return Shown(reason="InvalidCertificateRef", message=text)
        name = str(key) if content.certificate is not None else ""
        if content.no_certificate:
            return Shown(name, "InvalidCertificateRef", f"Secret {key}: {content.no_certificate}")
        return Shown(name)
