"""What Serving fills in when one of its kinds is written, so that whoever reads it back finds it stored.

The values are those of Knative's `config-defaults`, live, the rules those of its defaulting webhook
(knative/serving `pkg/apis/serving/v1/*_defaults.go`). A template that a write leaves as it was stays as it
was stored: what a newer version would fill in otherwise never makes a new Revision by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.serverless.serving import templates, wellknown

USER_CONTAINER: Final = "user-container"
INIT_CONTAINER: Final = "init-container"
TIMEOUT_S: Final = 300
PROBE_KINDS: Final = ("httpGet", "tcpSocket", "exec", "grpc")
_PROBES: Final = ("readinessProbe", "livenessProbe", "startupProbe")
_WRITABLE: Final = ("emptyDir", "persistentVolumeClaim", "ephemeral")


@dataclass(frozen=True, slots=True)
class Defaults:
    """`config-defaults`: what a revision gets that says nothing, and how much it may ask for."""

    timeout_s: int = TIMEOUT_S
    timeout_max_s: int = 600
    response_start_s: int = 0
    idle_s: int = 0
    concurrency: int = 0
    concurrency_max: int = 1000
    allow_zero_concurrency: bool = True
    service_links: bool | None = False
    container_name: str = USER_CONTAINER
    init_container_name: str = INIT_CONTAINER
    requests: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[str, str], ...] = ()


KNATIVE: Final = Defaults()


def service(new: Object, old: Object | None, user: str, values: Defaults = KNATIVE) -> None:
    """Fill a Service in, in place, and note who wrote it; `old` is None on create."""
    _template(new, old, values)
    spec = new["spec"]
    if not spec.get("traffic"):
        spec["traffic"] = [{"latestRevision": True, "percent": 100}]
    _targets(spec["traffic"])
    _sign(new, old, user)


def configuration(new: Object, old: Object | None, user: str, values: Defaults = KNATIVE) -> None:
    """Fill a Configuration in, in place; one that a Service made is not signed."""
    _template(new, old, values)
    if not objects.metadata(new).get("ownerReferences"):
        _sign(new, old, user)


def route(new: Object, old: Object | None, user: str, values: Defaults = KNATIVE) -> None:
    """Fill a Route in, in place; one that a Service made is not signed."""
    del values
    _targets(objects.spec(new).get("traffic") or ())
    if not objects.metadata(new).get("ownerReferences"):
        _sign(new, old, user)


def domain_mapping(new: Object, old: Object | None, user: str, values: Defaults = KNATIVE) -> None:
    """Fill a DomainMapping in, in place, and note who wrote it."""
    del values
    new["spec"]["ref"].setdefault("namespace", objects.namespace(new))
    _sign(new, old, user)


def revision(new: Object, old: Object | None, user: str, values: Defaults = KNATIVE) -> None:
    """Fill a new Revision in, in place; its spec never changes later."""
    del user
    if old is None:
        new["spec"] = revision_spec(new["spec"], values, objects.metadata(new))


def _template(new: Object, old: Object | None, values: Defaults) -> None:
    template = new["spec"]["template"]
    before = (objects.spec(old).get("template") or {}) if old is not None else None
    if template != before:
        template["spec"] = revision_spec(template.get("spec") or {}, values, objects.metadata(new))


def template_of(obj: Mapping[str, Any], values: Defaults = KNATIVE) -> Object:
    """The template of an object with everything filled in: what two versions of it are compared by."""
    template = dict(objects.spec(obj).get("template") or {})
    return {**template, "spec": revision_spec(template.get("spec") or {}, values, objects.metadata(obj))}


def _targets(traffic: Sequence[Object]) -> None:
    for target in traffic:
        target.setdefault("latestRevision", not target.get("revisionName"))
        target.setdefault("percent", 0)


def _sign(new: Object, old: Object | None, user: str) -> None:
    """Who made the object and who changed its spec last; a write that leaves them out keeps them."""
    before = objects.annotations(old) if old is not None else {}
    if old is None:
        signed = {wellknown.CREATOR: user, wellknown.LAST_MODIFIER: user}
    elif objects.spec(new) != objects.spec(old):
        signed = {wellknown.LAST_MODIFIER: user}
    else:
        signed = {}
    own = objects.annotations(new)
    unchanged = {
        k: before[k] for k in (wellknown.CREATOR, wellknown.LAST_MODIFIER) if k in before and k not in own
    }
    if signed or unchanged:
        new["metadata"]["annotations"] = {**own, **unchanged, **signed}


def revision_spec(
    spec: Mapping[str, Any], values: Defaults = KNATIVE, parent: Mapping[str, Any] | None = None
) -> Object:
    """A revision's spec with every default: limits, container names, the probe, read-only mounts.

    `parent` is the metadata of whose template it is, by which containers may be named.
    """
    filled = copy.deepcopy(dict(spec))
    # Knative would limit the beginning of an answer to 300 s beside a longer time: who asks for ten minutes
    # means them, and the limit would keep the activator in the path.
    filled["timeoutSeconds"] = filled.get("timeoutSeconds") or values.timeout_s
    for field, value in (
        ("containerConcurrency", values.concurrency),
        ("enableServiceLinks", values.service_links),
        ("responseStartTimeoutSeconds", _shorter(values.response_start_s, filled["timeoutSeconds"])),
        ("idleTimeoutSeconds", _shorter(values.idle_s, filled["timeoutSeconds"])),
    ):
        if filled.get(field) is None and value is not None:
            filled[field] = value
    containers, first = filled.get("containers") or [], filled.get("initContainers") or []
    taken = {str(c.get("name") or "") for c in (*containers, *first)}
    _name(containers, _base_name(values.container_name, parent or {}), taken)
    _name(first, _base_name(values.init_container_name, parent or {}), taken)
    writable = {v.get("name") for v in filled.get("volumes") or () if any(v.get(k) for k in _WRITABLE)}
    writable |= {v.get("name") for v in filled.get("volumes") or () if "emptyDir" in v}
    for container in containers:
        _container(container, serves=len(containers) == 1 or bool(container.get("ports")), writable=writable)
        _resources(container["resources"], values)
    return filled


def _shorter(limit_s: int, total_s: int) -> int | None:
    """A limit of silence that says something beside the whole time."""
    return limit_s if 0 < limit_s < total_s else None


def _base_name(template: str, parent: Mapping[str, Any]) -> str:
    fields = {"Name": str(parent.get("name") or ""), "Namespace": str(parent.get("namespace") or "")}
    return templates.filled(template, fields, parent.get("labels"), parent.get("annotations"))


def _resources(asked: Object, values: Defaults) -> None:
    """What a container does not ask for, and is not limited by."""
    for kind, amounts in (("requests", values.requests), ("limits", values.limits)):
        if amounts:
            asked[kind] = {**dict(amounts), **(asked.get(kind) or {})}


def _name(containers: Sequence[Object], base: str, taken: set[str]) -> None:
    """A container without a name gets one that no other has."""
    number = 0
    for container in containers:
        if container.get("name"):
            continue
        name = base
        while len(containers) > 1 or name in taken:
            name, number = f"{base}-{number}", number + 1
            if name not in taken:
                break
        container["name"] = name


def _container(container: Object, *, serves: bool, writable: set[Any]) -> None:
    container.setdefault("resources", {})
    if serves:
        probe = container["readinessProbe"] = container.get("readinessProbe") or {}
        if not any(kind in probe for kind in PROBE_KINDS):
            probe["tcpSocket"] = {"port": 0}
    if (probe := container.get("readinessProbe")) is not None:
        probe["successThreshold"] = probe.get("successThreshold") or 1
        if probe.get("periodSeconds"):
            probe["failureThreshold"] = probe.get("failureThreshold") or 3
            probe["timeoutSeconds"] = probe.get("timeoutSeconds") or 1
    for field in _PROBES:
        _handler(container.get(field) or {})
    for mount in container.get("volumeMounts") or ():
        if mount.get("name") not in writable:
            mount["readOnly"] = True


def _handler(probe: Object) -> None:
    """Port 0 stands for the port the container serves on, to be filled in when the pod is built."""
    for kind in ("httpGet", "tcpSocket"):
        if kind in probe:
            probe[kind] = {"port": 0, **(probe[kind] or {})}
    if "grpc" in probe:
        probe["grpc"] = {"service": "", "port": 0, **(probe["grpc"] or {})}
