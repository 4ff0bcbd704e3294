"""Paths that are not resources: discovery, versions, health."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from ondol.api import kinds_discovery, openapi, resources
from ondol.api.openapi import gnostic
from ondol.apiserver import answers, documents
from ondol.apiserver.aggregation.remotes import Remote
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Reply, Request
from ondol.apiserver.handlers import backups, platform_metrics, state_metrics
from ondol.base import errors

_FORMS: Final = {
    "v2": b"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "v2beta1": b"application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
}
_FOREVER: Final = (b"cache-control", b"public, immutable")
_HEALTH: Final = frozenset({"healthz", "livez", "readyz"})


async def handle(core: Core, request: Request) -> Answer:
    if request.method not in ("GET", "HEAD"):
        raise errors.MethodNotAllowed("the server does not allow this method on the requested resource")
    parts = [part for part in request.info.path.split("/") if part]
    if request.info.path == backups.PATH:
        return await backups.get(core)
    if request.info.path in platform_metrics.PATHS:
        return await platform_metrics.get(core, request.info.path)
    if request.info.path == state_metrics.PATH:
        return state_metrics.get(core, request)
    answer = _plain(core, request, parts)
    if answer is None:
        raise errors.NotFound("the server could not find the requested resource")
    return answer


def _plain(core: Core, request: Request, parts: list[str]) -> Answer | None:
    match parts:
        case []:
            return answers.document(request, {"paths": _all_paths(core)})
        case ["version"]:
            return answers.document(request, version(core))
        case [check, *rest] if check in _HEALTH:
            return _health(core, request, check, rest)
        case ["metrics"]:
            return platform_metrics.own(core)
        case ["api" | "apis", *rest]:
            return _discovery(core, request, parts[0], rest)
        case ["openapi", version_name, *rest]:
            return _openapi(core, request, version_name, rest)
        case _:
            return _token_keys(core, request, parts)


def _discovery(core: Core, request: Request, root: str, rest: list[str]) -> Answer | None:
    registry = core.catalogue.registry
    match root, rest:
        case "api", []:
            return _discovered(
                core,
                request,
                core=True,
                legacy=lambda: kinds_discovery.api_versions(registry, _address(core)),
            )
        case "api", [version_name]:
            return _maybe(request, kinds_discovery.resource_list(registry, "", version_name))
        case "apis", _ if core.remotes.is_used:
            return _everywhere(core, request, rest)
        case "apis", []:
            return _discovered(core, request, core=False, legacy=lambda: kinds_discovery.group_list(registry))
        case "apis", [group]:
            return _maybe(request, kinds_discovery.group(registry, group))
        case "apis", [group, version_name]:
            return _maybe(request, kinds_discovery.resource_list(registry, group, version_name))
        case _:
            return None


def _everywhere(core: Core, request: Request, rest: list[str]) -> Answer | None:
    """What is below `/apis` here and at other servers."""
    from ondol.apiserver.aggregation import discovery  # noqa: PLC0415 - few servers need it

    registry, remotes = core.catalogue.registry, core.remotes
    groups = discovery.versions(registry, remotes, core.list_objects(resources.API_SERVICE))
    match rest:
        case []:
            listed = [discovery.group(name, versions) for name, versions in groups.items()]
            legacy = {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
            return _aggregated(
                request, lambda: discovery.aggregated(registry, remotes, groups), lambda: legacy
            )
        case [group] if group in groups:
            document = {"kind": "APIGroup", "apiVersion": "v1", **discovery.group(group, groups[group])}
            return answers.document(request, document)
        case [group, version_name]:
            return _maybe(request, kinds_discovery.resource_list(registry, group, version_name))
        case _:
            return None


def _openapi(core: Core, request: Request, version_name: str, rest: list[str]) -> Answer | None:
    match version_name, rest:
        case "v2", []:
            return _openapi_v2(core, request)
        case "v3", _:
            return _openapi_v3(core, request, "/".join(rest))
        case _:
            return None


def _token_keys(core: Core, request: Request, parts: list[str]) -> Answer | None:
    """What others need to check service-account tokens, where this server issues them (OpenID discovery)."""
    if core.tokens is None:
        return None
    match parts:
        case [".well-known", "openid-configuration"]:
            address = f"https://{_address(core)}/openid/v1/jwks"
            return answers.document(request, core.tokens.openid_configuration(address))
        case ["openid", "v1", "jwks"]:
            return answers.document(request, core.tokens.jwks())
        case _:
            return None


def _openapi_v2(core: Core, request: Request) -> Reply:
    media_types = {clause.partition(";")[0].strip() for clause in request.header(b"accept").split(",")}
    if media_types.isdisjoint(gnostic.ACCEPTED):
        return Reply(core.openapi.v2())
    return Reply(core.openapi.v2_message(), 200, gnostic.MEDIA_TYPE.encode())


def _openapi_v3(core: Core, request: Request, path: str) -> Answer | None:
    """The index, or a document: for ever if asked for by its hash, elsewhere if the hash is stale."""
    if not path:
        hashes = {
            each: entry[0] for each in core.openapi.paths() if (entry := core.openapi.v3(each)) is not None
        }
        if core.remotes.is_used:
            described = ((each, core.remotes.documents(each).openapi_v3) for each in core.remotes)
            hashes |= {each.root.removeprefix("/"): digest for each, digest in described if digest}
        return answers.document(request, openapi.index(hashes))
    if core.remotes.is_used and (remote := core.remotes.at(f"/{path}")) is not None:
        return _openapi_elsewhere(core, request, remote)
    entry = core.openapi.v3(path)
    if entry is None:
        return None
    current, body = entry
    digest = request.query.get("hash")
    if digest and digest != current:
        location = f"/openapi/v3/{path}?hash={current}"
        return Reply(b"", 301, headers=[(b"location", location.encode())])
    return Reply(body, headers=[_FOREVER] if digest else [(b"etag", f'"{current}"'.encode())])


def _openapi_elsewhere(core: Core, request: Request, remote: Remote) -> Answer:
    """The other server's document as it is now; elsewhere if the hash is stale."""
    from ondol.apiserver.aggregation import requests  # noqa: PLC0415 - few servers need it

    current, digest = core.remotes.documents(remote).openapi_v3, request.query.get("hash")
    if digest and current and digest != current:
        location = f"/openapi/v3{remote.root}?hash={current}"
        return Reply(b"", 301, headers=[(b"location", location.encode())])
    return requests.description(core, request, remote)


def _maybe(request: Request, document: Any) -> Reply | None:
    return answers.document(request, document) if document is not None else None


def _address(core: Core) -> str:
    return f"{core.config.advertise_address}:{core.config.advertise_port}"


def _discovered(core_: Core, request: Request, *, core: bool, legacy: Callable[[], Any]) -> Reply:
    registry = core_.catalogue.registry
    return _aggregated(request, lambda: kinds_discovery.aggregated(registry, core=core), legacy)


def _aggregated(request: Request, aggregated: Callable[[], Any], legacy: Callable[[], Any]) -> Reply:
    """The aggregated form if the client knows it, under an ETag; the legacy form otherwise."""
    accepted = request.header(b"accept").replace(" ", "")
    for name, content_type in _FORMS.items():
        if f"g=apidiscovery.k8s.io;v={name};as=APIGroupDiscoveryList" in accepted:
            document = aggregated()
            document["apiVersion"] = f"apidiscovery.k8s.io/{name}"
            return _tagged(request, documents.dump(document), content_type)
    return answers.document(request, legacy())


def _tagged(request: Request, body: bytes, content_type: bytes) -> Reply:
    tag = f'"{hashlib.sha256(body).hexdigest().upper()}"'
    headers = [(b"etag", tag.encode()), (b"vary", b"Accept")]
    if request.header(b"if-none-match") == tag:
        return Reply(b"", 304, content_type, headers)
    return Reply(body, 200, content_type, headers)


def _all_paths(core: Core) -> list[str]:
    registry = core.catalogue.registry
    paths = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    for group in registry.groups():
        root = f"/apis/{group}" if group else "/api"
        paths += [root, *(f"{root}/{version}" for version in registry.versions(group))]
    paths += [path for remote in core.remotes for path in (f"/apis/{remote.group}", remote.root)]
    return sorted(set(paths))


def version(core: Core) -> dict[str, str]:
    """`/version`: the Kubernetes release whose API this is, marked as ours."""
    minor = str(core.config.kubernetes_minor)
    return {
        "major": "1",
        "minor": minor,
        "gitVersion": f"v1.{minor}.0+ondol",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": "",
        "compiler": "cpython",
        "platform": "linux/amd64",
    }


def _health(core: Core, request: Request, check: str, rest: list[str]) -> Reply | None:
    if rest and rest != ["ping"]:
        return None
    ready = core.ready or check == "livez"
    if request.flag("verbose") or "verbose" in request.query:
        lines = f"[{'+' if ready else '-'}]ping {'ok' if ready else 'failed'}\n{check} check "
        return Reply(
            (lines + ("passed\n" if ready else "failed\n")).encode(),
            200 if ready else 500,
            b"text/plain; charset=utf-8",
        )
    body = b"ok" if ready else b"starting"
    return Reply(body, 200 if ready else 500, b"text/plain; charset=utf-8")
