"""Host names of Routes and their tags: by the domain of their labels and Knative's templates of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects
from ondol.base import names
from ondol.contracts import cluster
from ondol.contracts.serving import HTTP_PORT
from ondol.serverless.serving import templates

DOMAIN_TEMPLATE: Final = "{{.Name}}.{{.Namespace}}.{{.Domain}}"
TAG_TEMPLATE: Final = "{{.Tag}}-{{.Name}}"
VISIBILITY: Final = "networking.knative.dev/visibility"
CLUSTER_LOCAL: Final = "cluster-local"
HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Naming:
    """How names are made; `domains` are by labels, the one without any is for all others."""

    domain: str = "localhost"
    """What holds where `config-domain` names no domain for all."""
    public_port: int = HTTP_PORT
    public_tls_port: int = HTTPS_PORT
    domains: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    domain_template: str = DOMAIN_TEMPLATE
    tag_template: str = TAG_TEMPLATE
    scheme: str = "http"

    def domain_for(self, labels: Mapping[str, str]) -> str:
        """The domain whose labels are most of these; of equals the first by name."""
        fitting = [
            (name, selector)
            for name, selector in self.domains
            if all(labels.get(key) == value for key, value in selector)
        ]
        return min(fitting, key=lambda each: (-len(each[1]), each[0]))[0] if fitting else self.domain

    def is_local(self, route: Mapping[str, Any]) -> bool:
        """Whether the Route has no name outside: by its label, or by a domain of the cluster's own."""
        labels = objects.labels(route)
        local = f"svc.{cluster.DOMAIN}"
        return labels.get(VISIBILITY) == CLUSTER_LOCAL or self.domain_for(labels) == local

    def own_name(self, route: Mapping[str, Any], tag: str) -> str:
        """The name of the Route's Service, or of that of one of its tags."""
        name = objects.name(route)
        return tag_name(tag, name, self.tag_template) if tag else name

    def public_host(self, route: Mapping[str, Any], tag: str = "") -> str:
        labels = objects.labels(route)
        fields = {
            "Name": self.own_name(route, tag),
            "Namespace": objects.namespace(route),
            "Domain": self.domain_for(labels),
        }
        return templates.filled(self.domain_template, fields, labels, objects.annotations(route))

    def url(self, route: Mapping[str, Any], tag: str = "") -> str:
        """The address of the Route or of one of its tags, as its status says it."""
        if self.is_local(route):
            return f"http://{cluster.service_host(self.own_name(route, tag), objects.namespace(route))}"
        return self.external(self.public_host(route, tag))

    def external(self, host: str) -> str:
        """The URL of a host at the ingress; a scheme that somebody in front answers has no port of ours."""
        is_own = self.scheme == "http" and self.public_port != HTTP_PORT
        return f"{self.scheme}://{host}" + (f":{self.public_port}" if is_own else "")

    def secure(self, host: str) -> str:
        """The URL of a host that has a certificate."""
        return f"https://{host}" + (f":{self.public_tls_port}" if self.public_tls_port != HTTPS_PORT else "")


def tag_name(tag: str, route_name: str, template: str = TAG_TEMPLATE) -> str:
    """The name of a tag's Service."""
    if template == TAG_TEMPLATE:
        return names.child_name(f"{tag}-", route_name)
    return templates.filled(template, {"Tag": tag, "Name": route_name})
