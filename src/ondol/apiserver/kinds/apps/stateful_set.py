"""StatefulSets."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.defaults import workloads as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, fields, stateful_sets, statuses, warnings
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.core import pod
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Workload
from ondol.apiserver.unsupported import Unsupported

_UNLIMITED: Final = (
    "spec.revisionHistoryLimit: a negative value retains all historical revisions; "
    "a value >= 0 is recommended"
)
_ONE_AT_A_TIME: Final = (
    "spec.updateStrategy.rollingUpdate.maxUnavailable: not kept, an update replaces one pod at a time"
)


class StatefulSet(Workload):
    """Its name is a label, as part of its pods' names; some fields are those of features that are not on."""

    empty_status: ClassVar[Object | None] = {"replicas": 0, "availableReplicas": 0}
    names_pods: ClassVar[bool] = False

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        _drop(context, new)

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        _drop(context, new)
        super().prepare_for_update(context, new, old)

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        spec = objects.spec(new)
        listed = super().warnings(new, old)
        for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
            path = f"spec.volumeClaimTemplates[{index}]"
            listed += warnings.claim(objects.spec(claim), path if old is None else f"{path}.Spec")
        limit = spec.get("revisionHistoryLimit")
        return [*listed, _UNLIMITED] if limit is not None and limit < 0 else listed


def _drop(context: Context, new: Object) -> None:
    """`maxUnavailable` is of a feature that Kubernetes leaves off; here its author is told."""
    rolling = (objects.spec(new).get("updateStrategy") or {}).get("rollingUpdate")
    if rolling is not None and rolling.pop("maxUnavailable", None) is not None:
        context.warn(_ONE_AT_A_TIME)


KIND: Final = Kind(
    "apps",
    "StatefulSet",
    strategy=StatefulSet(),
    default=defaults.stateful_set,
    rules=Rules(
        stateful_sets.stateful_set,
        stateful_sets.stateful_set_update,
        fields.label,
        parts={"status": statuses.stateful_set},
    ),
    layout=builtin.layout("apps", "StatefulSet"),
    unsupported=Unsupported(pod.UNSUPPORTED, ("spec", "template", "spec")),
    access=Access(
        view=("statefulsets", "statefulsets/status", "statefulsets/scale"),
        edit=("statefulsets", "statefulsets/scale"),
    ),
)
