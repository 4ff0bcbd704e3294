"""Rules of Jobs and CronJobs."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from ondol.api import cron, labels, objects
from ondol.api.schema import causes
from ondol.api.validation import fields, pods, workloads
from ondol.base.errors import Cause

JOB_NAME: Final = ("job-name", "batch.kubernetes.io/job-name")
CONTROLLER_UID: Final = ("controller-uid", "batch.kubernetes.io/controller-uid")
_HUNDRED_THOUSAND: Final = 100_000
_MANY: Final = 10_000
_RULES_MAX: Final = 20
_EXIT_CODES_MAX: Final = 255
_INDEXES_BYTES: Final = 64 * 1024
_MANAGER_MAX: Final = 63
_CRON_NAME_MAX: Final = 52
_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")
_ZONE_PART: Final = re.compile(r"[A-Za-z._0-9+-]{1,14}")
_MISMATCH: Final = "`selector` does not match template `labels`"


def job(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from _generated(obj)
    yield from _spec(spec, "spec")
    selector = spec.get("selector")
    if selector is None:
        yield causes.required("spec.selector")
    else:
        problems = list(workloads.label_selector(selector, "spec.selector"))
        yield from problems
        labelled = objects.labels(spec.get("template") or {})
        if not problems and not labels.from_document(selector).matches(labelled):
            yield causes.invalid("spec.template.metadata.labels", dict(labelled) or None, _MISMATCH)
    if spec.get("completionMode") == "Indexed" and (spec.get("completions") or 0) > 0:
        yield from _last_hostname(objects.name(obj), spec["completions"])


def _last_hostname(name: str, completions: int) -> Iterator[Cause]:
    hostname = f"{name}-{completions - 1}"
    if next(fields.label("", hostname), None) is not None:
        detail = f"will not able to create pod with invalid DNS label: {hostname}"
        yield causes.invalid("metadata.name", name, detail)


def _generated(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """A selector nobody wrote selects the job's own pods and no others."""
    spec = objects.spec(obj)
    if spec.get("manualSelector") or spec.get("selector") is None:
        return
    labelled = objects.labels(spec.get("template") or {})
    uid, name = objects.uid(obj), objects.name(obj)
    own = {**dict.fromkeys(CONTROLLER_UID, uid), **dict.fromkeys(JOB_NAME, name)}
    for key in (CONTROLLER_UID[0], JOB_NAME[0], CONTROLLER_UID[1], JOB_NAME[1]):
        path = f"spec.template.metadata.labels[{key}]"
        if key not in labelled:
            yield causes.required(path, f"must be '{own[key]}'")
        elif labelled[key] != own[key]:
            yield causes.invalid(path, dict(labelled), f"must be '{own[key]}'")
    if any(True for _ in workloads.label_selector(spec["selector"], "")):
        return
    if not labels.from_document(spec["selector"]).matches(own):
        yield causes.invalid("spec.selector", dict(spec["selector"]), "`selector` not auto-generated")


def _spec(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Of a Job, or of the template of a CronJob."""
    for field in (
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ):
        yield from fields.non_negative(f"{path}.{field}", spec.get(field))
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        yield causes.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if spec.get("managedBy") is not None:
        yield from _manager(spec["managedBy"], f"{path}.managedBy")
    yield from _mode(spec, path)
    if spec.get("podFailurePolicy") is not None:
        yield from _failure_policy(spec, f"{path}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        yield from _success_policy(spec, f"{path}.successPolicy")
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None:
        allowed = (
            ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
        )
        if replacement not in allowed:
            yield causes.not_supported(f"{path}.podReplacementPolicy", replacement, allowed)
    yield from pods.template(spec.get("template") or {}, f"{path}.template")
    yield from _restarts(spec, f"{path}.template.spec.restartPolicy")


def _restarts(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    policy = objects.spec(spec.get("template") or {}).get("restartPolicy") or ""
    if policy in ("Always", ""):
        yield causes.required(path, 'valid values: "OnFailure", "Never"')
    elif policy not in ("OnFailure", "Never"):
        yield causes.not_supported(path, policy, ("OnFailure", "Never"))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        yield causes.invalid(path, policy, detail)


def _manager(name: str, path: str) -> Iterator[Cause]:
    """A domain with a path behind it."""
    domain, _, rest = name.partition("/")
    if not name:
        yield causes.required(path)
    elif not domain or not rest:
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        yield causes.invalid(path, name, detail)
    else:
        yield from fields.subdomain(path, domain)
    if len(name) > _MANAGER_MAX:
        yield causes.too_long(path, _MANAGER_MAX)


def _mode(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    mode = spec.get("completionMode")
    if mode not in (None, "NonIndexed", "Indexed"):
        yield causes.not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed"))
    elif mode == "Indexed":
        yield from _indexed(spec, path)
    else:
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(field) is not None:
                yield causes.invalid(f"{path}.{field}", spec[field], "requires indexed completion mode")


def _indexed(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    failed = spec.get("maxFailedIndexes")
    if completions is None:
        yield causes.required(f"{path}.completions", "when completion mode is Indexed")
    if parallelism > _HUNDRED_THOUSAND:
        detail = f"must be less than or equal to {_HUNDRED_THOUSAND} when completion mode is Indexed"
        yield causes.invalid(f"{path}.parallelism", parallelism, detail)
    if completions is not None and failed is not None and failed > completions:
        yield causes.invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions")
    if failed is not None and failed > _HUNDRED_THOUSAND:
        detail = f"must be less than or equal to {_HUNDRED_THOUSAND}"
        yield causes.invalid(f"{path}.maxFailedIndexes", failed, detail)
    if (completions or 0) <= _HUNDRED_THOUSAND or spec.get("backoffLimitPerIndex") is None:
        return
    if failed is None:
        detail = f"must be specified when completions is above {_HUNDRED_THOUSAND}"
        yield causes.required(f"{path}.maxFailedIndexes", detail)
    detail = (
        f"must be less than or equal to {_MANY} when completions are above {_HUNDRED_THOUSAND} and used with "
        "backoff limit per index"
    )
    for field, number in (("parallelism", parallelism), ("maxFailedIndexes", failed or 0)):
        if number > _MANY:
            yield causes.invalid(f"{path}.{field}", number, detail)


def _failure_policy(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    rules = spec["podFailurePolicy"].get("rules") or ()
    if len(rules) > _RULES_MAX:
        yield causes.too_many(f"{path}.rules", len(rules), _RULES_MAX)
    pod = objects.spec(spec.get("template") or {})
    names = {c.get("name") for f in ("containers", "initContainers") for c in pod.get(f) or ()}
    for index, rule in enumerate(rules):
        yield from _failure_rule(spec, rule, f"{path}.rules[{index}]", names)


def _failure_rule(
    spec: Mapping[str, Any], rule: Mapping[str, Any], path: str, names: Collection[Any]
) -> Iterator[Cause]:
    action = rule.get("action") or ""
    if not action:
        listed = " ".join(f'"{each}"' for each in _ACTIONS)
        yield causes.required(f"{path}.action", f"valid values: [{listed}]")
    elif action not in _ACTIONS:
        yield causes.not_supported(f"{path}.action", action, _ACTIONS)
    elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        yield causes.invalid(f"{path}.action", action, "requires the backoffLimitPerIndex to be set")
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or ()
    if codes is not None:
        yield from _exit_codes(codes, f"{path}.onExitCodes", names)
    if len(conditions) > _RULES_MAX:
        yield causes.too_many(f"{path}.onPodConditions", len(conditions), _RULES_MAX)
    for index, condition in enumerate(conditions):
        yield from _pattern(condition, f"{path}.onPodConditions[{index}]")
    if codes is not None and conditions:
        yield _whole(path, "specifying both OnExitCodes and OnPodConditions is not supported")
    if codes is None and not conditions:
        yield _whole(path, "specifying one of OnExitCodes and OnPodConditions is required")


def _whole(path: str, detail: str) -> Cause:
    """A cause that shows no value."""
    return Cause("FieldValueInvalid", f"Invalid value: {detail}", path)


def _pattern(condition: Mapping[str, Any], path: str) -> Iterator[Cause]:
    kind, status = condition.get("type") or "", condition.get("status") or ""
    for detail in labels.label_key_problems(kind):
        yield causes.invalid(f"{path}.type", kind, detail)
    if not status:
        yield causes.required(f"{path}.status", 'valid values: ["False" "True" "Unknown"]')
    elif status not in ("False", "True", "Unknown"):
        yield causes.not_supported(f"{path}.status", status, ("False", "True", "Unknown"))


def _exit_codes(codes: Mapping[str, Any], path: str, names: Collection[Any]) -> Iterator[Cause]:
    operator, values = codes.get("operator") or "", list(codes.get("values") or ())
    if not operator:
        yield causes.required(f"{path}.operator", 'valid values: ["In" "NotIn"]')
    elif operator not in ("In", "NotIn"):
        yield causes.not_supported(f"{path}.operator", operator, ("In", "NotIn"))
    container = codes.get("containerName")
    if container is not None and container not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        yield causes.invalid(f"{path}.containerName", container, detail)
    if not values:
        yield causes.invalid(f"{path}.values", None, "at least one value is required")
    elif len(values) > _EXIT_CODES_MAX:
        yield causes.too_many(f"{path}.values", len(values), _EXIT_CODES_MAX)
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            detail = "must not be 0 for the In operator"
            yield causes.invalid(f"{path}.values[{index}]", value, detail)
    yield from fields.unique(f"{path}.values", enumerate(values))
    if values != sorted(values):
        yield causes.invalid(f"{path}.values", values, "must be ordered")


def _success_policy(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    policy = spec["successPolicy"]
    if spec.get("completionMode") != "Indexed":
        yield causes.invalid(path, dict(policy), "requires indexed completion mode")
        return
    rules = policy.get("rules") or ()
    if not rules:
        detail = "at least one rules must be specified when the successPolicy is specified"
        yield causes.required(f"{path}.rules", detail)
    if len(rules) > _RULES_MAX:
        yield causes.too_many(f"{path}.rules", len(rules), _RULES_MAX)
    for index, rule in enumerate(rules):
        yield from _success_rule(rule, spec.get("completions") or 0, f"{path}.rules[{index}]")


def _success_rule(rule: Mapping[str, Any], completions: int, path: str) -> Iterator[Cause]:
    count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
    total = 0
    if count is None and indexes is None:
        yield causes.required(path, "at least one of succeededCount or succeededIndexes must be specified")
    if indexes is not None:
        if len(indexes) > _INDEXES_BYTES:
            yield causes.too_long(f"{path}.succeededIndexes", _INDEXES_BYTES)
        try:
            total = counted(indexes, completions)
        except ValueError as error:
            detail = f"error parsing succeededIndexes: {error}"
            yield causes.invalid(f"{path}.succeededIndexes", indexes, detail)
    yield from fields.non_negative(f"{path}.succeededCount", count)
    for limit, what in (
        (completions, "the number of specified completions"),
        (total, "the number of indexes in the specified succeededIndexes field"),
    ):
        if count is not None and count > limit and (limit is completions or indexes is not None):
            detail = f"must be less than or equal to {limit} ({what})"
            yield causes.invalid(f"{path}.succeededCount", count, detail)


def counted(text: str, completions: int) -> int:
    """How many indexes `0,2-5` names; `ValueError` if they are none below the completions, in order."""
    total, last = 0, None
    for part in text.split(",") if text else ():
        first, end = _interval(part, completions)
        if last is not None and last >= first:
            raise ValueError(f"non-increasing order, previous: {last}, current: {first}")
        total += end - first + 1
        last = end
    return total


def _interval(text: str, completions: int) -> tuple[int, int]:
    ends = text.split("-")
    if len(ends) > 2:
        raise ValueError(
            f'the fragment "{text}" violates the requirement that an index interval can have at most '
            f"two parts "
            "separated by '-'"
        )
    numbers = []
    for end in ends:
        if not end.isdecimal():
            raise ValueError(f'cannot convert string to integer for index: "{end}"')
        if int(end) >= completions:
            raise ValueError(f'too large index: "{end}"')
        numbers.append(int(end))
    if len(numbers) == 2 and numbers[0] >= numbers[1]:
        raise ValueError(f"non-increasing order, previous: {numbers[0]}, current: {numbers[1]}")
    return numbers[0], numbers[-1]


def job_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    spec, was = objects.spec(new), objects.spec(old)
    if spec.get("completionMode") != "Indexed":
        yield from fields.same("spec.completions", spec.get("completions"), was.get("completions"))
    elif spec.get("completions") not in (None, was.get("completions"), spec.get("parallelism")):
        detail = "can only be modified in tandem with spec.parallelism"
        yield causes.invalid("spec.completions", spec["completions"], detail)
    yield from fields.same("spec.selector", spec.get("selector"), was.get("selector"))
    template, former = spec.get("template") or {}, was.get("template") or {}
    if was.get("suspend") and not objects.status(old).get("startTime"):
        former = _rescheduled(former, template)
    yield from fields.same("spec.template", template, former)
    for field in ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        yield from fields.same(f"spec.{field}", spec.get(field), was.get(field))


def _rescheduled(former: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """The old template with what of the new one a job that waits may still change: where its pods run."""
    pod, now = {**objects.spec(former)}, objects.spec(template)
    for field in ("nodeSelector", "tolerations", "schedulingGates"):
        _take(pod, now, field)
    affinity = {**(pod.get("affinity") or {})}
    _take(affinity, now.get("affinity") or {}, "nodeAffinity")
    if affinity or now.get("affinity") == {}:
        pod["affinity"] = affinity
    else:
        pod.pop("affinity", None)
    metadata = {**objects.metadata(former)}
    for field in ("labels", "annotations"):
        _take(metadata, objects.metadata(template), field)
    return {**former, "metadata": metadata, "spec": pod}


def _take(target: dict[str, Any], source: Mapping[str, Any], field: str) -> None:
    target.pop(field, None)
    if field in source:
        target[field] = source[field]


def cron_job(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    schedule = spec.get("schedule") or ""
    if not schedule:
        yield causes.required("spec.schedule")
    else:
        yield from _schedule(schedule)
    yield from fields.non_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    if spec.get("timeZone") is not None:
        yield from _time_zone(spec["timeZone"])
    policies = ("Allow", "Forbid", "Replace")
    yield from fields.one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), policies, required=True)
    template = objects.spec(spec.get("jobTemplate") or {})
    yield from _spec(template, "spec.jobTemplate.spec")
    if template.get("selector") is not None:
        detail = "`selector` will be auto-generated"
        yield causes.invalid("spec.jobTemplate.spec.selector", dict(template["selector"]), detail)
    if template.get("manualSelector"):
        yield causes.not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false"))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        yield from fields.non_negative(f"spec.{field}", spec.get(field))


def new_cron_job(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """Its Jobs are named after it, with eleven characters more."""
    name = objects.name(obj)
    if len(name) > _CRON_NAME_MAX:
        yield causes.invalid("metadata.name", name, "must be no more than 52 characters")


def _schedule(schedule: str) -> Iterator[Cause]:
    try:
        cron.parse(schedule)
    except ValueError as error:
        yield causes.invalid("spec.schedule", schedule, str(error))
    if "TZ" in schedule:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        yield causes.invalid("spec.schedule", schedule, detail)


def _time_zone(zone: str) -> Iterator[Cause]:
    path = "spec.timeZone"
    if not zone:
        yield causes.invalid(path, zone, "timeZone must be nil or non-empty string")
        return
    if not _well_formed(zone.split("/")):
        yield causes.invalid(path, zone, f"unknown time zone {zone}")
        return
    if zone.lower() == "local":
        detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        yield causes.invalid(path, zone, detail)
    elif zone != "UTC" and not _exists(zone):
        yield causes.invalid(path, zone, f"unknown time zone {zone}")


def _well_formed(parts: Iterable[str]) -> bool:
    return all(
        part not in (".", "..") and not part.startswith("-") and _ZONE_PART.fullmatch(part) for part in parts
    )


def _exists(zone: str) -> bool:
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
