"""What is refused in Serving's kinds beyond their schema, and what its author is warned of.

Pure; compose hands `rules()` to the API server, so that a mistake is told to whoever makes it, as the
webhooks of Knative do. A template's pod is held to the rules of the Deployment it would become.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api import defaults, objects, validation
from ondol.api import resources as kinds
from ondol.api.objects import Object
from ondol.api.schema import causes, typed
from ondol.api.validation import fields
from ondol.base import errors
from ondol.base.errors import Cause
from ondol.serverless.serving import metadata as words
from ondol.serverless.serving import resources

Document: TypeAlias = Mapping[str, Any]
Check: TypeAlias = Callable[[Document, Document | None], Iterator[Cause]]

_DEPLOYMENT: Final = "io.k8s.api.apps.v1.Deployment"
_TEMPLATE: Final = "spec.template"
_POD: Final = "spec.template.spec"
_NOTES: Final = "spec.template.metadata.annotations"
_PORT_NAMES: Final = ("", "http1", "h2c")
_RESERVED_ENV: Final = frozenset({"K_SERVICE", "K_CONFIGURATION", "K_REVISION"})
_RESERVED_PATHS: Final = frozenset({"/", "/dev", "/dev/log"})


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one kind; `unsupported` says what the node would not honour in a workload."""

    check: Check
    templated: bool = False
    unsupported: Callable[[Object], Sequence[str]] = lambda _: ()

    def problems(self, new: Document, old: Document | None) -> list[Cause]:
        """Everything wrong with the object; nothing while its user's part stays what it was."""
        if old is not None and _of_users(new) == _of_users(old):
            return []
        return list(self.check(new, old))

    def warnings(self, new: Document, old: Document | None) -> list[str]:
        """What of the object has no effect; of a change, only what it brings."""
        if not self.templated:
            return []
        before = set(self._warnings(old)) if old is not None else set()
        return [message for message in self._warnings(new) if message not in before]

    def _warnings(self, obj: Document) -> Iterator[str]:
        yield from words.without_effect(objects.annotations(obj))
        notes = objects.annotations(_template(obj))
        yield from (f"{_NOTES}[{key}]: this annotation is not known" for key in words.unknown(notes))
        spec = _template(obj).get("spec") or {}
        if spec.get("containerConcurrency") and resources.user_port(spec)[1] == "h2c":
            yield f"{_POD}.containerConcurrency: with the port name h2c it counts connections, not requests"
        try:
            yield from self.unsupported(_deployment(obj))
        except errors.BadRequest:
            return  # it is refused, with the reason


def rules(unsupported: Callable[[Object], Sequence[str]] = lambda _: ()) -> dict[str, Rules]:
    """By group and resource."""
    return {
        kinds.KNATIVE_SERVICE.group_resource: Rules(service, True, unsupported),
        kinds.KNATIVE_CONFIGURATION.group_resource: Rules(configuration, True, unsupported),
        kinds.KNATIVE_REVISION.group_resource: Rules(revision),
        kinds.KNATIVE_ROUTE.group_resource: Rules(route),
    }


def service(new: Document, old: Document | None) -> Iterator[Cause]:
    yield from fields.label_1035("metadata.name", objects.name(new))
    yield from _visibility(new)
    for key in sorted(objects.annotations(new)):
        if key.startswith(words.AUTOSCALING):
            said = f"autoscaling annotations must be put under {_NOTES} to work"
            yield causes.forbidden(f"metadata.annotations[{key}]", said)
    yield from _templated(new, old)
    yield from _traffic(objects.spec(new).get("traffic") or (), of_service=True)


def configuration(new: Document, old: Document | None) -> Iterator[Cause]:
    yield from fields.label_1035("metadata.name", objects.name(new))
    yield from _templated(new, old)


def route(new: Document, old: Document | None) -> Iterator[Cause]:
    del old
    yield from fields.label_1035("metadata.name", objects.name(new))
    yield from _visibility(new)
    yield from _traffic(objects.spec(new).get("traffic") or (), of_service=False)


def revision(new: Document, old: Document | None) -> Iterator[Cause]:
    if old is not None and objects.spec(new) != objects.spec(old):
        yield causes.forbidden(
            "spec", "a Revision is immutable; change spec.template of its Service for a new one"
        )


def _of_users(obj: Document) -> list[Any]:
    return [objects.spec(obj), objects.labels(obj), objects.annotations(obj)]


def _template(obj: Document) -> Document:
    return objects.spec(obj).get("template") or {}


def _visibility(obj: Document) -> Iterator[Cause]:
    given = objects.labels(obj).get(words.VISIBILITY)
    if given not in (None, words.CLUSTER_LOCAL):
        yield causes.not_supported(f"metadata.labels[{words.VISIBILITY}]", given, (words.CLUSTER_LOCAL,))


def _templated(new: Document, old: Document | None) -> Iterator[Cause]:
    template = _template(new)
    yield from _revision_name(new, old)
    _, wrong = words.scaling(objects.annotations(template), container_concurrency=0)
    yield from wrong
    spec = template.get("spec") or {}
    yield from _ports(spec)
    for number, container in enumerate(spec.get("containers") or ()):
        serving = number == resources.serving_container(spec)
        yield from _container(container, f"{_POD}.containers[{number}]", serving=serving)
    yield from _as_deployment(new)


def _revision_name(new: Document, old: Document | None) -> Iterator[Cause]:
    name, path = objects.name(_template(new)), f"{_TEMPLATE}.metadata.name"
    if not name:
        return
    yield from fields.label_1035(path, name)
    prefix = f"{objects.name(new)}-"
    if not name.startswith(prefix):
        yield causes.invalid(path, name, f'must have prefix "{prefix}"')
    before = _template(old) if old is not None else {}
    if name == objects.name(before) and before != _template(new):
        said = "the template was changed without a change of its name, and a Revision never changes"
        yield causes.invalid(path, name, said)


def _ports(spec: Document) -> Iterator[Cause]:
    containers = spec.get("containers") or ()
    declared = [
        (f"{_POD}.containers[{c}].ports[{p}]", port)
        for c, container in enumerate(containers)
        for p, port in enumerate(container.get("ports") or ())
    ]
    for path, _ in declared[1:]:
        yield causes.forbidden(path, "only a single port is allowed across all containers")
    for path, port in declared:
        for field in ("hostPort", "hostIP"):
            if port.get(field):
                yield causes.forbidden(f"{path}.{field}", "must not be set")
        if (port.get("name") or "") not in _PORT_NAMES:
            yield causes.not_supported(f"{path}.name", port["name"], _PORT_NAMES)
        if (port.get("protocol") or "TCP") != "TCP":
            yield causes.not_supported(f"{path}.protocol", port["protocol"], ("TCP",))


def _container(container: Document, path: str, *, serving: bool) -> Iterator[Cause]:
    if container.get("lifecycle"):
        yield causes.forbidden(f"{path}.lifecycle", "must not be set: its hooks are Serving's own")
    reserved = _RESERVED_ENV | ({"PORT"} if serving else set())
    for number, variable in enumerate(container.get("env") or ()):
        if variable.get("name") in reserved:
            said = f"{variable['name']} is a reserved environment variable"
            yield causes.forbidden(f"{path}.env[{number}].name", said)
    for number, mount in enumerate(container.get("volumeMounts") or ()):
        if _normal(str(mount.get("mountPath") or "")) in _RESERVED_PATHS:
            said = f"{mount['mountPath']} is a reserved path"
            yield causes.forbidden(f"{path}.volumeMounts[{number}].mountPath", said)


def _normal(path: str) -> str:
    return path.rstrip("/") or path[:1]


def _as_deployment(obj: Document) -> Iterator[Cause]:
    """What is wrong with the pod of the template, at the same paths."""
    try:
        found = _deployment(obj)
    except errors.BadRequest as error:
        yield Cause("FieldValueInvalid", f"Invalid value: {str(error).rpartition(': Deployment.')[2]}", _POD)
        return
    for cause in validation.validate(_DEPLOYMENT, found):
        if cause.field.startswith((f"{_POD}.", f"{_TEMPLATE}.labels", f"{_TEMPLATE}.annotations")):
            yield cause


def _deployment(obj: Document) -> Object:
    """The Deployment of the Revision that the template would become."""
    wanted = resources.deployment(resources.revision(obj), progress_deadline_s=1)
    document = typed.of(_DEPLOYMENT).decode(wanted)
    defaults.apply(_DEPLOYMENT, document)
    return document


def _traffic(targets: Sequence[Document], *, of_service: bool) -> Iterator[Cause]:
    for number, target in enumerate(targets):
        path = f"spec.traffic[{number}]"
        yield from _named(target, path) if of_service else _one_of(target, path)
    if targets and (total := sum(int(t.get("percent") or 0) for t in targets)) != 100:
        yield causes.invalid("spec.traffic", total, f"Traffic targets sum to {total}, want 100")
    tags = Counter(t["tag"] for t in targets if t.get("tag"))
    for number, target in enumerate(targets):
        if tags[target.get("tag")] > 1:
            yield causes.duplicate(f"spec.traffic[{number}].tag", target["tag"])


def _named(target: Document, path: str) -> Iterator[Cause]:
    latest, name = target.get("latestRevision"), target.get("revisionName")
    if latest and name:
        yield causes.invalid(f"{path}.latestRevision", latest, "must not be true beside a revisionName")
    if latest is False and not name:
        yield causes.invalid(f"{path}.latestRevision", latest, "must not be false without a revisionName")


def _one_of(target: Document, path: str) -> Iterator[Cause]:
    given = [key for key in ("revisionName", "configurationName") if target.get(key)]
    if len(given) != 1:
        found = "both" if given else "neither"
        said = f"expected exactly one of revisionName and configurationName, got {found}"
        yield Cause("FieldValueInvalid", said, path)
    if target.get("latestRevision") and target.get("revisionName"):
        yield causes.invalid(f"{path}.latestRevision", True, "must not be true beside a revisionName")
