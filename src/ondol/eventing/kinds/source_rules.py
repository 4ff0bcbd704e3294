"""Defaults and refusals of the sources (knative/eventing pkg/apis/sources).

Pods of a ContainerSource are held to the rules of the Deployment they become.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import names
from ondol.contracts import eventing
from ondol.eventing import filters
from ondol.eventing.configuration import features
from ondol.eventing.kinds import checks, pods
from ondol.eventing.kinds.broker_rules import fill_namespace
from ondol.eventing.kinds.checks import Causes
from ondol.eventing.kinds.writes import Configuration, Document, Rules, Write
from ondol.eventing.sources import overrides, schedules, ticking, wellknown

_MODES: Final = (wellknown.REFERENCE_MODE, wellknown.RESOURCE_MODE)
_JSON: Final = "application/json"
_GROUP_VERSION: Final = re.compile(r"[^/]+(?:/[^/]+)?")
_KIND: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PROVIDERS: Final = ("github", "gitlab")


def rules(configuration: Configuration) -> dict[str, Rules]:
    """By group and resource."""
    return {
        eventing.PING_SOURCE.group_resource: Rules(configuration, ping_source, fill_ping_source),
        eventing.API_SERVER_SOURCE.group_resource: Rules(
            configuration, api_server_source, fill_api_server_source, advise_api_server_source
        ),
        eventing.CONTAINER_SOURCE.group_resource: Rules(configuration, container_source, fill_sink),
        eventing.SINK_BINDING.group_resource: Rules(configuration, sink_binding, fill_sink_binding),
        eventing.INTEGRATION_SOURCE.group_resource: Rules(
            configuration, integration_source, fill_integration_source, advise_integration_source
        ),
        eventing.WEBHOOK_SOURCE.group_resource: Rules(configuration, webhook_source, fill_sink),
    }


def fill_sink(new: Object, _configuration: Configuration) -> None:
    """A sink without a namespace is one of the source's own."""
    fill_namespace(new.setdefault("spec", {}).get("sink"), objects.namespace(new))


def source_causes(write: Write) -> Causes:
    """What all sources have: a sink, and overrides."""
    yield from checks.destination(write.spec.get("sink"), "spec.sink", write.namespace, write.features)
    yield from overrides.problems(write.spec)


def fill_ping_source(new: Object, configuration: Configuration) -> None:
    fill_sink(new, configuration)
    new["spec"].setdefault("schedule", schedules.DEFAULT)


def ping_source(write: Write) -> Causes:
    spec = write.spec
    try:
        schedules.of_spec(spec)
    except schedules.Unusable as error:
        yield checks.invalid(f"spec.{error.field}", str(error))
    yield from source_causes(write)
    yield from _payload(spec, _data_max(write.configuration))


def _data_max(configuration: Configuration) -> int:
    """How long data may be, by `config-ping-defaults`; negative for any."""
    data: Mapping[str, Any] = (configuration.ping_defaults or {}).get("data") or {}
    try:
        return int(str(data.get("data-max-size", data.get("dataMaxSize", -1))))
    except ValueError:
        return -1


def _payload(spec: Document, length_max: int) -> Causes:
    text, encoded = spec.get("data"), spec.get("dataBase64")
    if text and encoded:
        yield from checks.both("spec.data", "spec.dataBase64")
        return
    for name, value in (("data", text), ("dataBase64", encoded)):
        length = len(str(value or "").encode())
        if value and 0 <= length_max < length:
            message = f"the {name} length of {length} bytes exceeds limit set at {length_max}."
            yield checks.invalid(f"spec.{name}", message)
    decoded = str(text or "").encode()
    if encoded:
        try:
            decoded = base64.b64decode(str(encoded), validate=True)
        except (binascii.Error, ValueError) as error:
            yield checks.invalid("spec.dataBase64", str(error))
            return
    if decoded and spec.get("contentType") == _JSON and (reason := _no_object(decoded)):
        yield checks.invalid("spec.dataBase64" if encoded else "spec.data", reason)


def _no_object(text: bytes) -> str | None:
    """Why this is no JSON object, which Knative has data of that type be."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return str(error)
    return None if value is None or isinstance(value, dict) else "it is no JSON object"


def fill_api_server_source(new: Object, configuration: Configuration) -> None:
    fill_sink(new, configuration)
    spec = new["spec"]
    for field, value in (("mode", wellknown.REFERENCE_MODE), ("serviceAccountName", "default")):
        if not spec.get(field):
            spec[field] = value


def api_server_source(write: Write) -> Causes:
    spec = write.spec
    if spec.get("mode") not in _MODES:
        yield checks.invalid("spec.mode", spec.get("mode"))
    account = str(spec.get("serviceAccountName") or "")
    if account and not names.is_dns1123_subdomain(account):  # it becomes the name of a user
        yield checks.invalid("spec.serviceAccountName", account)
    yield from source_causes(write)
    if not spec.get("resources"):
        yield checks.missing("spec.resources")
    for number, kind in enumerate(spec.get("resources") or ()):
        yield from _kind(kind, f"spec.resources[{number}]")
        yield from pods.selector(kind.get("selector"), f"spec.resources[{number}].selector")
    if spec.get("owner") is not None:
        yield from _kind(spec["owner"], "spec.owner")
    yield from pods.selector(spec.get("namespaceSelector"), "spec.namespaceSelector")
    if not spec.get("filters"):
        return
    if not write.features.is_on(features.API_SERVER_FILTERS):
        text = "Filters is not empty but the NewAPIServerFilters feature is disabled."
        yield checks.generic("spec.filters", text)
        return
    yield from filters.problems(spec["filters"], "spec.filters")


def _kind(kind: Document, path: str) -> Causes:
    version = str(kind.get("apiVersion") or "")
    if version and not _GROUP_VERSION.fullmatch(version):
        yield checks.invalid(f"{path}.apiVersion", version)
    if not str(kind.get("kind") or "").strip():
        yield checks.missing(f"{path}.kind")


def advise_api_server_source(write: Write) -> Iterator[str]:
    if objects.annotations(write.new).get(wellknown.SKIP_PERMISSIONS) == "true":
        key = f"metadata.annotations[{wellknown.SKIP_PERMISSIONS}]"
        yield f"{key}: rights are not looked at beforehand; what the account may not see stays unseen"


def container_source(write: Write) -> Causes:
    yield from source_causes(write)
    yield from pods.template(write.spec.get("template") or {}, "spec.template")


def fill_sink_binding(new: Object, configuration: Configuration) -> None:
    fill_sink(new, configuration)
    subject = new["spec"].get("subject")
    if isinstance(subject, dict) and not subject.get("namespace"):
        subject["namespace"] = objects.namespace(new)


def sink_binding(write: Write) -> Causes:
    subject = write.spec.get("subject") or {}
    path = "spec.subject"
    if not subject.get("apiVersion"):
        yield checks.missing(f"{path}.apiVersion")
    if not subject.get("kind"):
        yield checks.missing(f"{path}.kind")
    elif not _KIND.fullmatch(str(subject["kind"])):
        yield checks.invalid(f"{path}.kind", subject["kind"])
    if subject.get("namespace") not in (None, "", write.namespace):
        yield checks.invalid(f"{path}.namespace", subject["namespace"])
    if subject.get("selector") is not None and subject.get("name"):
        yield from checks.both(f"{path}.selector", f"{path}.name")
    elif subject.get("selector") is None and not subject.get("name"):
        yield from checks.neither(f"{path}.selector", f"{path}.name")
    yield from pods.selector(subject.get("selector"), f"{path}.selector")
    yield from source_causes(write)


def fill_integration_source(new: Object, configuration: Configuration) -> None:
    fill_sink(new, configuration)
    timer = new["spec"].get("timer")
    if isinstance(timer, dict):
        timer.setdefault("period", ticking.PERIOD_MS)
        timer.setdefault("contentType", "text/plain")


def integration_source(write: Write) -> Causes:
    spec = write.spec
    if spec.get("aws") is not None:
        text = "sources of AWS are not supported; run a client of theirs in a ContainerSource"
        yield checks.disallowed("spec.aws", text)
    elif spec.get("timer") is None:
        yield checks.generic("spec", "at least one source type must be specified")
    timer = spec.get("timer") or {}
    if timer and not timer.get("message"):
        yield checks.missing("spec.timer.message")
    for name, least in (("period", 1), ("repeatCount", 0)):
        if timer.get(name) is not None and timer[name] < least:
            yield checks.invalid(f"spec.timer.{name}", timer[name], f"must be at least {least}")
    yield from source_causes(write)


def advise_integration_source(write: Write) -> Iterator[str]:
    if write.spec.get("template"):
        yield "spec.template has no effect: the timer runs in a process of the platform"


def webhook_source(write: Write) -> Causes:
    spec = write.spec
    if spec.get("provider") not in PROVIDERS:
        details = f"expected one of {', '.join(PROVIDERS)}"
        yield checks.invalid("spec.provider", spec.get("provider"), details)
    ref = (spec.get("secretToken") or {}).get("secretKeyRef")
    if ref is None and not spec.get("allowUnsigned"):
        details = "or set spec.allowUnsigned to take requests of anybody"
        yield checks.missing("spec.secretToken.secretKeyRef", details)
    for name in ("name", "key"):
        if ref is not None and not ref.get(name):
            yield checks.missing(f"spec.secretToken.secretKeyRef.{name}")
    if ref is not None and spec.get("allowUnsigned"):
        yield from checks.both("spec.secretToken", "spec.allowUnsigned")
    yield from source_causes(write)
