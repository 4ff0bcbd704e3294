"""Defaults, refusals and warnings for Serving's kinds beyond what their schema says.

Pure; compose hands `rules()` to the API server, so that a mistake is told to whoever makes it, as the
webhooks of Knative do. A template's pod is held to the rules of the Deployment it would become.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from ondol.api import defaults as builtin
from ondol.api import objects, resources, validation
from ondol.api.defaults import workloads as workload_defaults
from ondol.api.objects import Object
from ondol.api.schema import causes, typed
from ondol.api.validation import fields, workloads
from ondol.base import errors
from ondol.base.errors import Cause
from ondol.contracts import cluster, serving
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.config.rules import ConfigMapRules
from ondol.serverless.config.values import ServingConfig
from ondol.serverless.serving import defaults, documents, limits, podspec, wellknown
from ondol.serverless.serving.defaults import Defaults

Document: TypeAlias = Mapping[str, Any]
Fill: TypeAlias = Callable[[Object, Object | None, str, Defaults], None]

_DEPLOYMENT: Final = "io.k8s.api.apps.v1.Deployment"
_RULES: Final = validation.Rules(workloads.deployment)
_TEMPLATE: Final = "spec.template"
_POD: Final = "spec.template.spec"
_NOTES: Final = "spec.template.metadata.annotations"
_OWNERS: Final = {wellknown.SERVICE_LABEL: "Service", wellknown.CONFIGURATION_LABEL: "Configuration"}


@dataclass(frozen=True)
class Write:
    """An object as it is to be written and as it was (None on create), and the configuration that holds."""

    new: Document
    old: Document | None
    config: ServingConfig

    @cached_property
    def workload(self) -> Object:
        """The Deployment that the template would become, made once; `BadRequest` if there can be none."""
        return _deployment(self.new)


Check: TypeAlias = Callable[[Write], Iterator[Cause]]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one kind; `unsupported` says what the node would not honour in a workload."""

    check: Check
    fill: Fill
    templated: bool = False
    unsupported: Callable[[Object], Sequence[str]] = lambda _: ()
    config: Callable[[], ServingConfig] = ServingConfig

    def default(self, new: Object, old: Document | None, user: str) -> None:
        """Fill in, in place, what Knative's webhook would; the object fits its schema."""
        self.fill(new, dict(old) if old is not None else None, user, self.config().defaults)

    def judge(
        self,
        new: Document,
        old: Document | None,
        user: str = "",  # noqa: ARG002 - anybody's write is judged alike
    ) -> tuple[list[Cause], list[str]]:
        """Everything wrong with the object, and what of it has no effect; of a change, only what it brings.

        Nothing while its user's part stays what it was.
        """
        if old is not None and _of_users(new) == _of_users(old):
            return [], []
        write = Write(new, old, self.config())
        if problems := list(self.check(write)):
            return problems, []
        return [], self._warnings(write) if self.templated else []

    def _warnings(self, write: Write) -> list[str]:
        """Warnings of the new object that the old one did not have; none for an unchanged template."""
        messages = list(_notes(write.new))
        before = set(_notes(write.old)) if write.old is not None else set()
        if write.old is None or _template(write.new) != _template(write.old):
            messages += self.unsupported(write.workload)
            before |= self._unsupported_in(write.old) if write.old is not None else set()
        return [message for message in messages if message not in before]

    def _unsupported_in(self, obj: Document) -> set[str]:
        """Fields of a stored object that the node does not honour."""
        try:
            return set(self.unsupported(_deployment(obj)))
        except errors.BadRequest:
            return set()  # stored by an earlier version that took it


def _notes(obj: Document) -> Iterator[str]:
    """Annotations that do nothing."""
    notes = objects.annotations(_template(obj))
    yield from (f"{_NOTES}[{key}]: this annotation is not known" for key in wellknown.unknown(notes))


def rules(
    unsupported: Callable[[Object], Sequence[str]] = lambda _: (),
    config: LiveConfig | None = None,
) -> dict[str, Rules | ConfigMapRules]:
    """By group and resource; `config` is what holds at a write, without it Knative's defaults do."""
    config = config or LiveConfig(ServingConfig())
    templated = (True, unsupported, config)
    return {
        serving.SERVICE.group_resource: Rules(service, defaults.service, *templated),
        serving.CONFIGURATION.group_resource: Rules(configuration, defaults.configuration, *templated),
        serving.REVISION.group_resource: Rules(revision, defaults.revision, config=config),
        serving.ROUTE.group_resource: Rules(route, defaults.route),
        serving.DOMAIN_MAPPING.group_resource: Rules(domain_mapping, defaults.domain_mapping),
        resources.CONFIG_MAP.group_resource: ConfigMapRules(config.base),
    }


def service(write: Write) -> Iterator[Cause]:
    yield from _metadata(write.new)
    yield from _rollout(write.new)
    yield from _signatures(write.new, write.old)
    yield from _templated(write)
    yield from _traffic(objects.spec(write.new).get("traffic") or (), of_service=True)


def configuration(write: Write) -> Iterator[Cause]:
    yield from _metadata(write.new)
    if not objects.metadata(write.new).get("ownerReferences"):
        yield from _signatures(write.new, write.old)
    yield from _templated(write)


def route(write: Write) -> Iterator[Cause]:
    yield from _metadata(write.new)
    yield from _rollout(write.new)
    if not objects.metadata(write.new).get("ownerReferences"):
        yield from _signatures(write.new, write.old)
    yield from _traffic(objects.spec(write.new).get("traffic") or (), of_service=False)


def revision(write: Write) -> Iterator[Cause]:
    """What a Configuration stamps out was looked at in its template."""
    new, old = write.new, write.old
    yield from _owned(new)
    if old is not None and objects.spec(new) != objects.spec(old):
        yield causes.forbidden(
            "spec", "a Revision is immutable; change spec.template of its Service for a new one"
        )
    elif old is None and objects.controller_of(new) is None:
        yield from podspec.problems(objects.spec(new), "spec", write.config.features)
        yield from limits.problems(objects.spec(new), "spec", write.config.defaults)


def domain_mapping(write: Write) -> Iterator[Cause]:
    name, reference = objects.name(write.new), objects.spec(write.new).get("ref") or {}
    yield from fields.subdomain("metadata.name", name)
    if "." not in name:
        text = "should be a domain with at least two segments separated by dots"
        yield causes.invalid("metadata.name", name, text)
    if name.endswith(f".{cluster.DOMAIN}"):
        text = f'must not be a subdomain of cluster local domain "{cluster.DOMAIN}"'
        yield causes.invalid("metadata.name", name, text)
    yield from _signatures(write.new, write.old)
    if reference.get("namespace") not in (None, objects.namespace(write.new)):
        text = f'parent namespace "{objects.namespace(write.new)}" does not match it'
        yield causes.invalid("spec.ref.namespace", reference["namespace"], text)
    if not reference.get("apiVersion"):
        yield causes.required("spec.ref.apiVersion")


def _metadata(obj: Document) -> Iterator[Cause]:
    yield from fields.label_1035("metadata.name", objects.name(obj))
    visibility = objects.labels(obj).get(wellknown.VISIBILITY)
    if visibility not in (None, wellknown.CLUSTER_LOCAL):
        yield causes.not_supported(
            f"metadata.labels[{wellknown.VISIBILITY}]", visibility, (wellknown.CLUSTER_LOCAL,)
        )
    for key in sorted(objects.annotations(obj)):
        if key.startswith(wellknown.AUTOSCALING):
            text = f"autoscaling annotations must be put under {_NOTES} to work"
            yield causes.forbidden(f"metadata.annotations[{key}]", text)
    yield from _owned(obj)


def _owned(obj: Document) -> Iterator[Cause]:
    """A label that says whose an object is must be true."""
    owners = {(o.get("kind"), o.get("name")) for o in objects.metadata(obj).get("ownerReferences") or ()}
    for label, kind in _OWNERS.items():
        name = objects.labels(obj).get(label)
        if obj.get("kind") == "Revision" and kind == "Service":
            continue  # its owner is the Configuration, which got the label from the Service
        if name is not None and (kind, name) not in owners:
            yield causes.invalid(f"metadata.labels[{label}]", name, f"no {kind} of this name is its owner")


def _rollout(obj: Document) -> Iterator[Cause]:
    for key in wellknown.ROLLOUT_DURATIONS:
        text = objects.annotations(obj).get(key)
        if not text:
            continue
        try:
            wellknown.whole_s(text)
        except ValueError as error:
            yield causes.invalid(f"metadata.annotations[{key}]", text, str(error))


def _signatures(new: Document, old: Document | None) -> Iterator[Cause]:
    if old is None:
        return
    is_same = objects.spec(new) == objects.spec(old)
    for key, is_fixed in ((wellknown.CREATOR, True), (wellknown.LAST_MODIFIER, is_same)):
        value = objects.annotations(new).get(key)
        if is_fixed and value != objects.annotations(old).get(key):
            yield causes.invalid(f"metadata.annotations[{key}]", value, "annotation value is immutable")


def _of_users(obj: Document) -> list[Any]:
    return [objects.spec(obj), objects.labels(obj), objects.annotations(obj)]


def _template(obj: Document) -> Document:
    return objects.spec(obj).get("template") or {}


def _templated(write: Write) -> Iterator[Cause]:
    template = _template(write.new)
    yield from _revision_name(write)
    _, wrong = wellknown.scaling(
        objects.annotations(template), container_concurrency=0, defaults=write.config.scaling
    )
    yield from wrong
    spec = template.get("spec") or {}
    own = [
        *podspec.problems(spec, _POD, write.config.features),
        *limits.problems(spec, _POD, write.config.defaults),
    ]
    yield from own or _as_deployment(write)  # what is wrong already would only be told twice


def _revision_name(write: Write) -> Iterator[Cause]:
    new, old, values = write.new, write.old, write.config.defaults
    name, path = objects.name(_template(new)), f"{_TEMPLATE}.metadata.name"
    if not name:
        return
    yield from fields.label_1035(path, name)
    prefix = f"{objects.name(new)}-"
    if not name.startswith(prefix):
        yield causes.invalid(path, name, f'must have prefix "{prefix}"')
    if old is None or name != objects.name(_template(old)):
        return
    if defaults.template_of(old, values) != defaults.template_of(new, values):
        message = "the template was changed without a change of its name, and a Revision never changes"
        yield causes.invalid(path, name, message)


def _as_deployment(write: Write) -> Iterator[Cause]:
    """What is wrong with the pod of the template, at the same paths."""
    try:
        deployment = write.workload
    except errors.BadRequest as error:
        yield Cause("FieldValueInvalid", f"Invalid value: {str(error).rpartition(': Deployment.')[2]}", _POD)
        return
    for cause in validation.validate(deployment, _RULES):
        if cause.field.startswith((f"{_POD}.", f"{_TEMPLATE}.labels", f"{_TEMPLATE}.annotations")):
            yield cause


def _deployment(obj: Document) -> Object:
    """The Deployment of the Revision that the template would become."""
    deployment = documents.deployment(documents.revision(obj), progress_deadline_s=1)
    document = typed.of(_DEPLOYMENT).decode(deployment)
    builtin.apply(_DEPLOYMENT, document, workload_defaults.deployment)
    return document


def _traffic(targets: Sequence[Document], *, of_service: bool) -> Iterator[Cause]:
    for number, target in enumerate(targets):
        path = f"spec.traffic[{number}]"
        yield from _named(target, path) if of_service else _one_of(target, path)
        if target.get("url"):
            yield causes.forbidden(f"{path}.url", "must not be set: the status says it")
    total = sum(int(t.get("percent") or 0) for t in targets)
    if total != 100 and (targets or not of_service):
        yield causes.invalid("spec.traffic", total, f"Traffic targets sum to {total}, want 100")
    tags = Counter(t["tag"] for t in targets if t.get("tag"))
    for number, target in enumerate(targets):
        if tags[target.get("tag")] > 1:
            yield causes.duplicate(f"spec.traffic[{number}].tag", target["tag"])


def _named(target: Document, path: str) -> Iterator[Cause]:
    if target.get("configurationName"):
        yield causes.forbidden(f"{path}.configurationName", "must not be set: it is the Service's own")
    yield from _latest(target, path)


def _latest(target: Document, path: str) -> Iterator[Cause]:
    """Whether the newest is meant and whether one is named must not contradict each other."""
    latest, name = target.get("latestRevision"), target.get("revisionName")
    if latest and name:
        yield causes.invalid(f"{path}.latestRevision", latest, "must not be true beside a revisionName")
    if latest is False and not name:
        yield causes.invalid(f"{path}.latestRevision", latest, "must not be false without a revisionName")


def _one_of(target: Document, path: str) -> Iterator[Cause]:
    named = [key for key in ("revisionName", "configurationName") if target.get(key)]
    if len(named) != 1:
        count = "both" if named else "neither"
        text = f"expected exactly one of revisionName and configurationName, got {count}"
        yield Cause("FieldValueInvalid", text, path)
    yield from _latest(target, path)
