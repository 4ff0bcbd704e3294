"""CronJobs."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import workloads as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, jobs
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.core import pod
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Context, Workload
from ondol.apiserver.unsupported import Unsupported
from ondol.base.errors import Cause

_TEMPLATE: Final = ("spec", "jobTemplate", "spec", "template")


class CronJob(Workload):
    """Its pods are made by a template within the template of its Jobs."""

    template_path: ClassVar[tuple[str, ...]] = _TEMPLATE

    def problems(self, context: Context, new: Object, old: Object | None) -> list[Cause]:
        return list(jobs.new_cron_job(new)) if old is None else []


KIND: Final = Kind(
    "batch",
    "CronJob",
    strategy=CronJob(),
    default=defaults.cron_job,
    rules=Rules(jobs.cron_job),
    layout=builtin.layout("batch", "CronJob"),
    unsupported=Unsupported(pod.UNSUPPORTED, (*_TEMPLATE, "spec")),
    access=Access(view=("cronjobs", "cronjobs/status"), edit=("cronjobs",)),
)
