"""DaemonSets."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.defaults import workloads as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, daemon_sets, statuses, workloads
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.core import pod
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Workload
from ondol.apiserver.unsupported import Unsupported

_TEMPLATE_GENERATION: Final = "deprecated.daemonset.template.generation"


class DaemonSet(Workload):
    """Counts the changes of its template, too: in an annotation, where a field was once."""

    names_pods: ClassVar[bool] = False
    empty_status: ClassVar[Object | None] = {
        "currentNumberScheduled": 0,
        "desiredNumberScheduled": 0,
        "numberMisscheduled": 0,
        "numberReady": 0,
    }

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        _count_template(new, max(1, _template_generation(new)))

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        changed = objects.spec(new).get("template") != objects.spec(old).get("template")
        _count_template(new, _template_generation(old) + changed)


def _template_generation(obj: Object) -> int:
    written = objects.annotations(obj).get(_TEMPLATE_GENERATION, "")
    return int(written) if written.isdecimal() else 0


def _count_template(obj: Object, generation: int) -> None:
    annotations = {**objects.annotations(obj), _TEMPLATE_GENERATION: str(generation)}
    obj["metadata"]["annotations"] = annotations


KIND: Final = Kind(
    "apps",
    "DaemonSet",
    strategy=DaemonSet(),
    default=defaults.daemon_set,
    rules=Rules(daemon_sets.daemon_set, workloads.immutable_selector, parts={"status": statuses.daemon_set}),
    layout=builtin.layout("apps", "DaemonSet"),
    unsupported=Unsupported(pod.UNSUPPORTED, ("spec", "template", "spec")),
    access=Access(view=("daemonsets", "daemonsets/status"), edit=("daemonsets",)),
)
