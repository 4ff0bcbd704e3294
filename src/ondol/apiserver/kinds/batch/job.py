"""Jobs: each selects its own pods by a label made from its uid, unless it says that it brings a selector."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from ondol.api import objects
from ondol.api.defaults import workloads as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, jobs, statuses
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.core import pod
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Workload
from ondol.apiserver.unsupported import Unsupported


class Job(Workload):
    """In its first version deletes left the pods behind, and it is still served as that."""

    default_propagation: ClassVar[str] = "Orphan"
    default_propagation_warning: ClassVar[str] = (
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background "
        "to remove "
        "them or set propagationPolicy=Orphan to suppress this warning"
    )

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        if not objects.spec(new).get("manualSelector"):
            _select_own(new)


def _select_own(job: Object) -> None:
    spec: Any = job["spec"]
    uid, name = objects.uid(job), objects.name(job)
    own = {**dict.fromkeys(jobs.JOB_NAME, name), **dict.fromkeys(jobs.CONTROLLER_UID, uid)}
    template = spec["template"].setdefault("metadata", {})
    template["labels"] = {**own, **(template.get("labels") or {})}
    selector = spec.setdefault("selector", {})
    selector["matchLabels"] = {jobs.CONTROLLER_UID[1]: uid, **(selector.get("matchLabels") or {})}


KIND: Final = Kind(
    "batch",
    "Job",
    strategy=Job(),
    default=defaults.job,
    rules=Rules(jobs.job, jobs.job_update, parts={"status": statuses.job}),
    layout=builtin.layout("batch", "Job"),
    unsupported=Unsupported(pod.UNSUPPORTED, ("spec", "template", "spec")),
    access=Access(view=("jobs", "jobs/status"), edit=("jobs",)),
)
