"""Pods: created in phase Pending, deleted gracefully by their node; and the fields no node acts on."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from ondol.api import facts, objects, pods, quality, volume_kinds
from ondol.api.defaults import pods as defaults
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.schema import causes
from ondol.api.tables import pods as table
from ondol.api.validation import Rules, pod_parts, warnings
from ondol.api.validation import pods as validation
from ondol.apiserver.admission import accounts, priority, runtime_classes
from ondol.apiserver.admission import pods as admission
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy
from ondol.apiserver.unsupported import Rule, Unsupported
from ondol.base.errors import Cause

_DEFAULT_GRACE_S: Final = 30


class Pod(Strategy):
    has_generation: ClassVar[bool] = True
    has_status: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = True
    status_reset: ClassVar[FieldSet] = {
        "f:spec": {},
        "f:metadata": {"f:deletionTimestamp": {}, "f:ownerReferences": {}},
    }

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        new["status"] = {"phase": "Pending", "qosClass": quality.of(new)}

    def prepare_for_status_update(self, context: Context, new: Object, old: Object) -> None:
        """What older agents do not know of and so leave out stays as it was."""
        before, status = objects.status(old), {**objects.status(new)}
        for field in ("qosClass", "observedGeneration"):
            if not status.get(field) and before.get(field):
                status[field] = before[field]
        if "conditions" in status:
            status["conditions"] = _observed(status["conditions"], before.get("conditions") or ())
        new["status"] = status

    def problems(self, context: Context, new: Object, old: Object | None) -> list[Cause]:
        if old is not None or not objects.spec(new).get("ephemeralContainers"):
            return []
        return [causes.forbidden("spec.ephemeralContainers", "cannot be set on create")]

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Only of new ones: what changes pods is rarely a person."""
        return warnings.pod(new) if old is None else []

    def grace_period_s(self, obj: Object, requested_s: int | None) -> int | None:
        """Nobody runs a pod that was not bound or is over: it goes at once."""
        if not objects.spec(obj).get("nodeName") or pods.is_terminal(obj):
            return 0
        if requested_s is not None:
            return requested_s
        own_s = objects.spec(obj).get("terminationGracePeriodSeconds")
        return _DEFAULT_GRACE_S if own_s is None else max(int(own_s), 1 if own_s < 0 else 0)


def _observed(conditions: Iterable[Object], before: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The conditions, each with the generation it was of before where it now names none."""
    observed = {each.get("type"): each.get("observedGeneration") for each in before}
    return [
        {**each, "observedGeneration": observed[each.get("type")]}
        if not each.get("observedGeneration") and observed.get(each.get("type"))
        else each
        for each in conditions
    ]


_NO_LSM: Final = "security modules are left as the host has them"


def volume_rules(
    kinds: Collection[str] = volume_kinds.KINDS, projections: Collection[str] = volume_kinds.PROJECTIONS
) -> Iterator[Rule]:
    """A rule for each kind of volume, and part of one, that nodes do not make: all that are not listed."""
    message = "the node refuses pods with such a volume"
    yield Rule(
        "volumes[*].emptyDir.medium", message, tuple(medium for medium in volume_kinds.MEDIA if medium)
    )
    for name in sorted(_fields("VolumeProjection") - set(projections)):
        yield Rule(f"volumes[*].projected.sources[*].{name}", message)
    for name in sorted(_fields("Volume") - set(kinds) - {"name"}):
        yield Rule(f"volumes[*].{name}", message)


def _fields(type_name: str) -> set[str]:
    return set(facts.type_named(f"io.k8s.api.core.v1.{type_name}").fields)


_CONTAINER: Final = (
    Rule("resources.claims", "there are no dynamic resources"),
    Rule("securityContext.appArmorProfile", _NO_LSM),
    Rule("securityContext.seLinuxOptions", _NO_LSM),
    Rule("securityContext.windowsOptions", "containers are Linux containers"),
    Rule("volumeDevices", "the node refuses containers with raw block devices"),
)
UNSUPPORTED: Final = (
    Rule("hostUsers", "user namespaces are not made, and the node refuses pods that want one", (True,)),
    Rule("schedulingGroup", "pods are scheduled one by one, and wait for no group"),
    Rule("os.name", "containers are Linux containers", ("linux",)),
    Rule("resourceClaims", "there are no dynamic resources"),
    Rule("securityContext.appArmorProfile", _NO_LSM),
    Rule("securityContext.seLinuxChangePolicy", _NO_LSM),
    Rule("securityContext.seLinuxOptions", _NO_LSM),
    Rule("securityContext.windowsOptions", "containers are Linux containers"),
    Rule("schedulingGroup", "pods are scheduled one by one, and wait for no group"),
    *volume_rules(),
    *(
        replace(rule, path=f"{group}[*].{rule.path}")
        for group in ("containers", "initContainers", "ephemeralContainers")
        for rule in _CONTAINER
    ),
)
"""Of a pod's spec, wherever it stands: also in the templates of workloads."""

KIND: Final = Kind(
    "",
    "Pod",
    strategy=Pod(),
    default=defaults.pod,
    rules=Rules(
        validation.pod,
        validation.pod_update,
        parts={"ephemeralcontainers": pod_parts.ephemeral_containers, "resize": pod_parts.resize},
    ),
    layout=table.LAYOUT,
    unsupported=Unsupported(UNSUPPORTED),
    plugins=Plugins(
        mutating=(accounts.admit, admission.admit, priority.admit_pod, runtime_classes.admit),
        validating=(runtime_classes.check,),
    ),
    access=Access(view=("pods", "pods/status", "pods/log"), edit=("pods",)),
)
