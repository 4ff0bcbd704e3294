"""HorizontalPodAutoscalers: two versions of one object, stored as the second."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import Any, ClassVar, Final

from ondol.api import autoscaling, objects
from ondol.api.defaults import autoscaling as defaults
from ondol.api.objects import Object
from ondol.api.tables import autoscaling as tables
from ondol.api.validation import Rules, statuses
from ondol.api.validation import autoscaling as rules
from ondol.apiserver import documents
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Strategy


class V2(Strategy):
    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {"desiredReplicas": 0}

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        _drop(new)

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        _drop(new)


def _drop(new: Object) -> None:
    """Tolerances are of a feature that Kubernetes leaves off."""
    for scaling in (objects.spec(new).get("behavior") or {}).values():
        scaling.pop("tolerance", None)


class V1(Strategy):
    """What the second version keeps in its spec and its status stands in annotations here."""

    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {"currentReplicas": 0, "desiredReplicas": 0}

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        _keep(new, {}, (autoscaling.CONDITIONS, autoscaling.CURRENT))

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        _keep(new, old, (autoscaling.CONDITIONS, autoscaling.CURRENT))

    def prepare_for_status_update(self, context: Context, new: Object, old: Object) -> None:
        _keep(new, old, (autoscaling.METRICS, autoscaling.BEHAVIOR))


def _keep(new: Object, old: Object, keys: tuple[str, ...]) -> None:
    """Leave these annotations as they were, whatever was sent."""
    annotations: dict[str, Any] = {k: v for k, v in objects.annotations(new).items() if k not in keys}
    annotations |= {k: v for k, v in objects.annotations(old).items() if k in keys}
    new["metadata"].pop("annotations", None)
    if annotations:
        new["metadata"]["annotations"] = annotations


class _Conversion:
    """Between the first version and the second, which is stored."""

    keeps_texts = False

    def as_served(self, value: bytes) -> bytes:
        return documents.dump(autoscaling.v1(documents.parse(value)))

    def stored(self, obj: Object) -> Object:
        return autoscaling.v2(obj)


_REPORTED: Final = {"status": statuses.counts("currentReplicas", "desiredReplicas")}

KINDS: Final = (
    Kind(
        "autoscaling",
        "HorizontalPodAutoscaler",
        version="v1",
        strategy=V1(),
        default=defaults.v1,
        rules=Rules(rules.autoscaler_v1, parts=_REPORTED),
        layout=tables.V1,
        conversion=_Conversion(),
    ),
    Kind(
        "autoscaling",
        "HorizontalPodAutoscaler",
        version="v2",
        strategy=V2(),
        default=defaults.v2,
        rules=Rules(rules.autoscaler, parts=_REPORTED),
        layout=tables.V2,
        access=Access(
            view=("horizontalpodautoscalers", "horizontalpodautoscalers/status"),
            edit=("horizontalpodautoscalers",),
        ),
    ),
)
