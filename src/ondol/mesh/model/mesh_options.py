"""What Istio's mesh configuration says of security: trust domains, providers, normalisation of paths.

It is the ConfigMap `istio` of `istio-system`, whose key `mesh` is a YAML document. All else in it is read by
nobody. What is wrong in one provider is that provider's `problem`, and spoils no other.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import msgspec
import yaml

from ondol.api.objects import Key, Object
from ondol.mesh.model import istio, syntax
from ondol.mesh.model.istio import Duration, PortNumber, Struct

CONFIG_MAP: Final = Key("istio-system", "istio")
TRUST_DOMAIN: Final = "cluster.local"
_KEY: Final = "mesh"
_STATUS_CODES: Final = frozenset(
    {*range(200, 209), 226, *range(300, 306), 307, 308, *range(400, 419), 421, 422, 423, 424, 426, 428, 429}
    | {431, *range(500, 509), 510, 511, 100}
)
"""What Envoy has a name for."""
_NAME_MAX: Final = 63
_DOMAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")
"""The SPIFFE ID standard, section 2.1, and upper case, as Istio has it."""

Normalization = Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]
_NORMALIZATIONS: Final[dict[str, Normalization]] = {each: each for each in get_args(Normalization)}


class RequestBody(Struct, frozen=True):
    max_request_bytes: istio.Count = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class HttpServer(Struct, frozen=True):
    """A server of external authorization that is asked by plain HTTP."""

    service: str
    port: PortNumber
    timeout: Duration | None = None
    path_prefix: str = ""
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_headers_in_check: tuple[str, ...] = ()
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: dict[str, str] = msgspec.field(default_factory=dict)
    include_request_body_in_check: RequestBody | None = None
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


class GrpcServer(Struct, frozen=True):
    """A server of external authorization that is asked by gRPC."""

    service: str
    port: PortNumber
    timeout: Duration | None = None
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_request_body_in_check: RequestBody | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """Who decides for CUSTOM policies that name it; or why nobody can."""

    name: str
    server: HttpServer | GrpcServer | None = None
    problem: str = ""


@dataclass(frozen=True, eq=False)
class MeshOptions:
    """Equal only to itself: it is made once per version of the ConfigMap."""

    trust_domain: str = TRUST_DOMAIN
    trust_domain_aliases: tuple[str, ...] = ()
    providers: Mapping[str, Provider] = field(default_factory=dict)
    normalization: Normalization = "DEFAULT"
    problem: str = ""
    """Why the document could not be read, if it could not; then there are no providers."""

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """Its own first."""
        return tuple(dict.fromkeys((self.trust_domain, *self.trust_domain_aliases)))

    def provider(self, name: str) -> Provider:
        """The provider of the name, with its problem if there is none."""
        if name in self.providers:
            return self.providers[name]
        available = ", ".join(sorted(self.providers)) or "none"
        text = self.problem or f"available providers are {available} but not {name!r}"
        return Provider(name, problem=text)


DEFAULTS: Final = MeshOptions()


def options(config_map: Object | None) -> MeshOptions:
    """What the ConfigMap says; the defaults where there is none."""
    text = ((config_map or {}).get("data") or {}).get(_KEY) or ""
    return _parsed(str(text)) if text else DEFAULTS


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> MeshOptions:
    try:
        document = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that there is not is a ValueError
        return MeshOptions(problem=f"the mesh's configuration is no YAML: {error}")
    if not isinstance(document, dict):
        return MeshOptions(problem="the mesh's configuration is no mapping")
    try:
        return _options(document)
    except (ValueError, TypeError, AttributeError) as error:
        return MeshOptions(problem=f"the mesh's configuration is none of Istio's: {error}")


def _options(document: Mapping[str, Any]) -> MeshOptions:
    """What a mapping says; an error where a value is of another type than Istio's."""
    providers: dict[str, Provider] = {}
    for each in document.get("extensionProviders") or ():
        if isinstance(each, dict):
            provider = _provider(each, providers)
            if provider is not None:
                providers[provider.name] = provider
    normalization = (document.get("pathNormalization") or {}).get("normalization")
    trust_domain = str(document.get("trustDomain") or TRUST_DOMAIN)
    if _DOMAIN.fullmatch(trust_domain) is None:  # no certificate could say it
        raise ValueError(f"{trust_domain!r} is no trust domain")
    return MeshOptions(
        trust_domain,
        tuple(map(str, document.get("trustDomainAliases") or ())),
        providers,
        _NORMALIZATIONS.get(str(normalization), "DEFAULT"),
    )


def _provider(document: Mapping[str, Any], others: Mapping[str, Provider]) -> Provider | None:
    """None for what authorizes nobody: providers of traces and logs are of no concern here."""
    name = str(document.get("name") or "")
    kinds: tuple[tuple[str, type[HttpServer | GrpcServer]], ...] = (
        ("envoyExtAuthzHttp", HttpServer),
        ("envoyExtAuthzGrpc", GrpcServer),
    )
    for field_name, struct in kinds:
        if field_name not in document:
            continue
        if name in others:
            return Provider(name, problem=f"extension provider name must be unique, {name} is there twice")
        try:
            server = msgspec.convert(document[field_name] or {}, struct)
        except msgspec.ValidationError as error:
            return Provider(name, problem=f"provider {name}: {error}")
        problem = _name_problem(name) or _problem(server)
        return Provider(name, server, f"provider {name}: {problem}" if problem else "")
    return None


def _name_problem(name: str) -> str:
    if not name or len(name) > _NAME_MAX or not syntax.is_label(name) or name != name.lower():
        return f"{name!r} is no name of a provider: a label of lower case letters, digits and hyphens"
    return ""


def _problem(server: HttpServer | GrpcServer) -> str:
    if not server.service:
        return "service must not be empty"
    status = server.status_on_error
    if status and not (status.isdigit() and int(status) in _STATUS_CODES):
        return f"unsupported statusOnError {status}"
    if server.timeout is not None and (problem := syntax.duration(server.timeout)):
        return problem
    if isinstance(server, HttpServer):
        if server.path_prefix and not server.path_prefix.startswith("/"):
            return f"pathPrefix should begin with / but is {server.path_prefix!r}"
        headers = (
            *server.include_headers_in_check,
            *server.include_request_headers_in_check,
            *server.headers_to_upstream_on_allow,
            *server.headers_to_downstream_on_deny,
            *server.headers_to_downstream_on_allow,
        )
        if "*" in headers:
            return 'a single wildcard ("*") is not supported, change it to either prefix or suffix match'
    return ""
