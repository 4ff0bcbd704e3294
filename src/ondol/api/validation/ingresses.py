"""Rules of Ingresses and their classes: hosts, paths and what is behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base import addresses, names
from ondol.base.errors import Cause

CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
"""Where the class stood before it was a field; what stands there still counts."""
_PATH_TYPES: Final = ("Exact", "ImplementationSpecific", "Prefix")
_SEQUENCES: Final = ("//", "/./", "/../", "%2f", "%2F")
_SUFFIXES: Final = ("/..", "/.")
_CONTROLLER_MAX: Final = 250
_HTTP_PATH: Final = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_WILDCARD: Final = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must"
    " consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g."
    " '*.example.com', regex used for validation is"
    " '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def ingress(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    backend, rules = spec.get("defaultBackend"), spec.get("rules") or ()
    if not rules and backend is None:
        yield causes.invalid("spec", None, "either `defaultBackend` or `rules` must be specified")
    if backend is not None:
        yield from _backend(backend, "spec.defaultBackend")
    for index, rule in enumerate(rules):
        yield from _rule(rule, f"spec.rules[{index}]")
    for index, tls in enumerate(spec.get("tls") or ()):
        for at, host in enumerate(tls.get("hosts") or ()):
            yield from _host(host, f"spec.tls[{index}].hosts[{at}]")
        if tls.get("secretName"):
            yield from fields.subdomain(f"spec.tls[{index}].secretName", tls["secretName"])
    if spec.get("ingressClassName") is not None:
        yield from fields.subdomain("spec.ingressClassName", spec["ingressClassName"])


def new_ingress(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """What only holds when it is created: its class is not said in two ways."""
    annotation = objects.annotations(obj).get(CLASS_ANNOTATION)
    name = objects.spec(obj).get("ingressClassName")
    if annotation is not None and name is not None and annotation != name:
        detail = "must match `ingressClassName` when both are specified"
        yield causes.invalid(f"annotations.{CLASS_ANNOTATION}", annotation, detail)


def _rule(rule: Mapping[str, Any], path: str) -> Iterator[Cause]:
    host, http = rule.get("host") or "", rule.get("http")
    if addresses.parsed(host) is not None:
        yield causes.invalid(f"{path}.host", host, "must be a DNS name, not an IP address")
    if host:
        yield from _host(host, f"{path}.host")
    if http is None:
        return
    if not http.get("paths"):
        yield causes.required(f"{path}.http.paths")
    for index, each in enumerate(http.get("paths") or ()):
        yield from _path(each, f"{path}.http.paths[{index}]")


def _host(host: str, path: str) -> Iterator[Cause]:
    if "*" not in host:
        yield from fields.subdomain(path, host)
    elif not host.startswith("*.") or not names.is_dns1123_subdomain(host[2:]):
        yield causes.invalid(path, host, _WILDCARD)


def _path(each: Mapping[str, Any], path: str) -> Iterator[Cause]:
    kind, text = each.get("pathType"), each.get("path") or ""
    if kind is None:
        yield causes.required(f"{path}.pathType", "pathType must be specified")
        return
    if kind not in _PATH_TYPES:
        yield causes.not_supported(f"{path}.pathType", kind, _PATH_TYPES)
    elif (text or kind != "ImplementationSpecific") and not text.startswith("/"):
        yield causes.invalid(f"{path}.path", text, "must be an absolute path")
    if kind in ("Exact", "Prefix"):
        for sequence in _SEQUENCES:
            if sequence in text:
                yield causes.invalid(f"{path}.path", text, f"must not contain '{sequence}'")
        for suffix in _SUFFIXES:
            if text.endswith(suffix):
                yield causes.invalid(f"{path}.path", text, f"cannot end with '{suffix}'")
    yield from _backend(each.get("backend") or {}, f"{path}.backend")


def _backend(backend: Mapping[str, Any], path: str) -> Iterator[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        yield causes.invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        yield from _reference(resource, f"{path}.resource")
    elif service is not None:
        yield from _service(service, path)
    else:
        yield causes.invalid(path, "", "resource or service backend is required")


def _service(service: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if not service.get("name"):
        yield causes.required(f"{path}.service.name")
    else:
        yield from fields.label_1035(f"{path}.service.name", service["name"])
    port = service.get("port") or {}
    name, number = port.get("name") or "", port.get("number") or 0
    if name and number:
        yield causes.invalid(path, "", "cannot set both port name & port number")
    elif name:
        yield from fields.port_name(f"{path}.service.port.name", name)
    elif number:
        yield from fields.port(f"{path}.service.port.number", number)
    else:
        yield causes.required(path, "port name or number is required")


def _reference(reference: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if reference.get("apiGroup") is not None:
        yield from fields.subdomain(f"{path}.apiGroup", reference["apiGroup"])
    for field in ("kind", "name"):
        if not reference.get(field):
            yield causes.required(f"{path}.{field}")
        else:
            yield from fields.path_segment(f"{path}.{field}", reference[field])


def ingress_class(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    controller = spec.get("controller") or ""
    if len(controller) > _CONTROLLER_MAX:
        yield causes.too_long("spec.controller", _CONTROLLER_MAX)
    yield from _domain_prefixed("spec.controller", controller)
    if spec.get("parameters") is not None:
        yield from _parameters(spec["parameters"], "spec.parameters")


def _domain_prefixed(path: str, value: str) -> Iterator[Cause]:
    """The path of something in a domain that is somebody's."""
    if not value:
        yield causes.required(path)
        return
    host, _, rest = value.partition("/")
    if not host or not rest:
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        yield causes.invalid(path, value, detail)
        return
    yield from fields.subdomain(path, host)
    if not _HTTP_PATH.fullmatch(rest):
        yield causes.invalid(
            path, rest, f"Invalid path (regex used for validation is '{_HTTP_PATH.pattern}')"
        )


def _parameters(parameters: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from _reference(parameters, path)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope not in ("Cluster", "Namespace"):
        yield causes.not_supported(f"{path}.scope", scope or "", ("Cluster", "Namespace"))
    elif scope == "Cluster" and namespace is not None:
        yield causes.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")
    elif scope == "Namespace" and namespace is None:
        yield causes.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    elif scope == "Namespace":
        yield from fields.label(f"{path}.namespace", namespace or "")


def ingress_class_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """Who answers for a class stays; with what parameters may change."""
    controller, was = objects.spec(new).get("controller"), objects.spec(old).get("controller")
    yield from fields.same("spec.controller", controller, was)
