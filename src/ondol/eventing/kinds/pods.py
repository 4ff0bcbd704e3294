"""What is wrong with templates of pods, Jobs and label selectors inside of Eventing's kinds.

A template is held to the rules of the workload it becomes, at the paths of the kind that has it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

from ondol.api import defaults as builtin
from ondol.api import labels, validation
from ondol.api.defaults import workloads as workload_defaults
from ondol.api.objects import Object
from ondol.api.schema import typed
from ondol.api.validation import jobs, workloads
from ondol.base import errors
from ondol.base.errors import Cause
from ondol.eventing.kinds import checks
from ondol.eventing.kinds.checks import Causes

_DEPLOYMENT: Final = "io.k8s.api.apps.v1.Deployment"
_CRON_JOB: Final = "io.k8s.api.batch.v1.CronJob"
_LABELS: Final = {"sources.knative.dev/source": "name"}
_TEMPLATE: Final = "spec.template"
_JOB: Final = "spec.jobTemplate"


def selector(value: Any, path: str) -> Causes:
    """A label selector."""
    if value is None:
        return
    try:
        labels.from_document(value)
    except errors.ApiError as error:
        yield checks.invalid(path, str(error))


def template(value: Mapping[str, Any], path: str) -> Causes:
    """A template of pods that run until they are stopped."""
    pods = copy.deepcopy(dict(value))
    metadata = pods.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **_LABELS}
    spec = {"selector": {"matchLabels": dict(_LABELS)}, "template": pods}
    problems = _problems(_DEPLOYMENT, spec, workloads.deployment, workload_defaults.deployment)
    yield from _moved(problems, _TEMPLATE, path)


def job(value: Mapping[str, Any], path: str) -> Causes:
    """A Job as it is to be made, which is what a CronJob has a template of."""
    template = {field: copy.deepcopy(value[field]) for field in ("metadata", "spec") if field in value}
    spec = {"schedule": "@daily", "jobTemplate": template}
    yield from _moved(_problems(_CRON_JOB, spec, jobs.cron_job, workload_defaults.cron_job), _JOB, path)


def _moved(problems: list[Cause], before: str, path: str) -> Causes:
    """The problems of the template, at the paths of the kind that has it."""
    for cause in problems:
        if cause.field.startswith(before):
            yield Cause(cause.reason, cause.message, path + cause.field.removeprefix(before))


def _problems(
    type_name: str, spec: Object, rule: Callable[..., Any], fill: Callable[..., Any]
) -> list[Cause]:
    """What is wrong with a workload of this spec."""
    kind = type_name.rpartition(".")[2]
    document: Object = {"kind": kind, "metadata": {"name": "name", "namespace": "default"}, "spec": spec}
    place = _TEMPLATE if "template" in spec else _JOB
    try:
        document = typed.of(type_name).decode(document)
    except errors.BadRequest as error:
        message = str(error).rpartition(f": {kind}.")[2] or str(error)
        return [Cause("FieldValueInvalid", f"Invalid value: {message}", place)]
    builtin.apply(type_name, document, fill)
    return list(validation.validate(document, validation.Rules(rule)))


def has_shape(spec: Mapping[str, Any]) -> bool:
    """Whether a pod's containers can be walked through, before it is validated."""
    lists = [spec.get(field) or [] for field in ("initContainers", "containers")]
    return all(
        isinstance(containers, list)
        and all(isinstance(c, dict) and isinstance(c.get("env") or [], list) for c in containers)
        for containers in lists
    )
