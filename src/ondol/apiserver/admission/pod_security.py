"""PodSecurity: pods keep to the level their namespace's labels ask for; templates of pods are warned about.

What is to be audited is told in the log. The rules themselves are `ondol.api.pod_security`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ondol.api import objects, resources, status
from ondol.api.objects import Object
from ondol.api.pod_security import checks, policies
from ondol.api.pod_security.policies import LevelVersion, Policy
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors, log

_OTHER_SUBRESOURCES: Final = frozenset(
    {"attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"}
)
"""Parts of a pod that cannot change what it may do; any other is checked like the pod itself."""
TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "podtemplates": ("template",),
    "replicationcontrollers": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
"""Where the kinds that make pods keep their template."""
_HARMLESS: Final = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "nodeName")
"""What an update of a pod's spec may change without being checked anew."""
_PODS_MAX: Final = 1000
_AUDIT: Final = "pod-security.kubernetes.io/"
"""How many of a namespace's pods a stricter level is tried on: the labels wait for it."""


def admit(parts: Parts, context: Context, request: Request) -> None:
    if request.operation == "delete":
        return
    resource = request.served.resource.group_resource
    if resource == "namespaces":
        _namespace(parts, context, request)
    elif resource == "pods":
        _pod(parts, context, request)
    elif resource in TEMPLATES and not request.subresource:
        _template(parts, context, request, TEMPLATES[resource])


# --- namespaces


def _namespace(parts: Parts, context: Context, request: Request) -> None:
    if request.subresource:
        return
    settings, name = parts.config.pod_security, objects.name(request.new)
    policy, causes = policies.of_labels(objects.labels(request.new), settings.defaults)
    before, old_causes = policies.of_labels(objects.labels(request.old or {}), settings.defaults)
    if causes and (request.old is None or causes != old_causes):
        raise status.invalid(resources.NAMESPACE, name, causes)
    if request.old is not None and not _is_stricter(policy.enforce, before.enforce):
        return
    if name in settings.exempt_namespaces:
        warning = policies.ignored(name, objects.labels(request.new), policy, settings.defaults)
        for message in [warning] if warning else []:
            context.warn(message)
    elif request.old is not None:
        for message in _existing(parts, name, policy.enforce):
            context.warn(message)


def _is_stricter(new: LevelVersion, old: LevelVersion) -> bool:
    """Whether pods that were allowed may be no more; another release's standards may be either."""
    if new == old or new.level == policies.PRIVILEGED:
        return False
    return new.version != old.version or new.is_stricter_than(old)


def _existing(parts: Parts, namespace: str, enforce: LevelVersion) -> Iterator[str]:
    """Warnings about the existing pods of a namespace, those with the same violations in one."""
    every = _one_of_each_first(parts.config.pod_security, parts.state.list_objects(resources.POD, namespace))
    together: dict[str, list[str]] = {}
    for pod in every[:_PODS_MAX]:
        if violations := checks.evaluate(enforce, objects.metadata(pod), objects.spec(pod)):
            together.setdefault(checks.reasons(violations), []).append(objects.name(pod))
    if len(every) > _PODS_MAX:
        yield (
            f"new PodSecurity enforce level only checked against the first {_PODS_MAX} of {len(every)} "
            "existing pods"
        )
    if together:
        level = f'the new PodSecurity enforce level "{enforce}"'
        yield f'existing pods in namespace "{namespace}" violate {level}'
    yield from sorted(f"{_first_and_others(names)}: {reason}" for reason, names in together.items())


def _one_of_each_first(settings: policies.Settings, pods: Iterable[Object]) -> list[Object]:
    """Pods that are not exempt: of those with one controller the first, and the others at the end."""
    firsts: list[Object] = []
    others: list[Object] = []
    controllers = set()
    for pod in pods:
        owner = objects.controller_of(pod)
        if objects.spec(pod).get("runtimeClassName") in settings.exempt_runtime_classes:
            continue
        uid = owner["uid"] if owner is not None else ""
        (others if uid in controllers else firsts).append(pod)
        controllers |= {uid} if uid else set()
    return [*firsts, *others]


def _first_and_others(names: list[str]) -> str:
    others = len(names) - 1
    rest = f" (and {others} other {'pod' if others == 1 else 'pods'})" if others else ""
    return min(names) + rest


# --- pods and their templates


def _pod(parts: Parts, context: Context, request: Request) -> None:
    if request.subresource in _OTHER_SUBRESOURCES or not _changes_what_it_may(request.new, request.old):
        return
    _evaluate(parts, context, request, request.new, enforce=True)


def _changes_what_it_may(new: Object, old: Object | None) -> bool:
    return old is None or _weighty(objects.spec(new)) != _weighty(objects.spec(old))


def _weighty(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec without what changes nothing about what the pod may do."""
    return {field: value for field, value in spec.items() if field not in _HARMLESS}


def _template(parts: Parts, context: Context, request: Request, path: tuple[str, ...]) -> None:
    template: Any = request.new
    for field in path:
        template = template.get(field) if isinstance(template, Mapping) else None
    if isinstance(template, Mapping) and template.get("spec") is not None:
        _evaluate(parts, context, request, template, enforce=False)


def _evaluate(
    parts: Parts, context: Context, request: Request, pod: Mapping[str, Any], *, enforce: bool
) -> None:
    """Refuse, record and warn as the namespace asks."""
    policy, causes = _policy(parts, request.namespace)
    if policy.is_privileged and not causes:
        return
    if reason := _exemption(parts.config.pod_security, context, request.namespace, pod):
        context.annotate(f"{_AUDIT}exempt", reason)
        log.get("audit").info("pod_security_exempt", reason=reason, **_named(context, request))
        return
    context.annotate(f"{_AUDIT}enforce-policy", str(policy.enforce))
    violations = _Violations(pod)
    if (broken := violations.of(policy.audit)) != "":
        violation = f'would violate PodSecurity "{policy.audit}": {broken}'
        context.annotate(f"{_AUDIT}audit-violations", violation)
        log.get("audit").warning(
            "pod_security",
            audit_violations=violation,
            enforce_policy=str(policy.enforce),
            problems=[cause.message for cause in causes],
            **_named(context, request),
        )
    if enforce and (broken := violations.of(policy.enforce)) != "":
        raise _forbidden(request, f'violates PodSecurity "{policy.enforce}": {broken}')
    if (broken := violations.of(policy.warn)) != "":
        context.warn(f'would violate PodSecurity "{policy.warn}": {broken}')


class _Violations:
    """What one pod breaks, looked at once for each level asked about."""

    def __init__(self, pod: Mapping[str, Any]) -> None:
        self._metadata: Mapping[str, Any] = pod.get("metadata") or {}
        self._spec: Mapping[str, Any] = pod.get("spec") or {}
        self._by_level: dict[LevelVersion, str] = {}

    def of(self, level: LevelVersion) -> str:
        if level not in self._by_level:
            violations = checks.evaluate(level, self._metadata, self._spec)
            self._by_level[level] = checks.details(violations)
        return self._by_level[level]


def _policy(parts: Parts, namespace: str) -> tuple[Policy, list[errors.Cause]]:
    stored = parts.state.lookup(resources.NAMESPACE, "", namespace) or {}
    return policies.of_labels(objects.labels(stored), parts.config.pod_security.defaults)


def _exemption(settings: policies.Settings, context: Context, namespace: str, pod: Mapping[str, Any]) -> str:
    """Why the pod is not looked at, in Kubernetes' words, or nothing."""
    if namespace in settings.exempt_namespaces:
        return "namespace"
    if context.user.name in settings.exempt_users:
        return "user"
    runtime_class = (pod.get("spec") or {}).get("runtimeClassName")
    return "runtimeClass" if runtime_class in settings.exempt_runtime_classes else ""


def _named(context: Context, request: Request) -> dict[str, str]:
    return {
        "resource": request.served.resource.group_resource,
        "namespace": request.namespace,
        "name": objects.name(request.new),
        "user": context.user.name,
    }


def _forbidden(request: Request, why: str) -> errors.Forbidden:
    name = objects.name(request.new)
    return errors.Forbidden(f'pods "{name}" is forbidden: {why}', details={"name": name, "kind": "pods"})
