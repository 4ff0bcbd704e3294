"""Jobs and CronJobs, as kubectl users know them."""

from __future__ import annotations

from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

JOBS: Final = "/apis/batch/v1/namespaces/default/jobs"
CRON_JOBS: Final = "/apis/batch/v1/namespaces/default/cronjobs"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"


def _template(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "example.org/app:1"}]
    return {"spec": {"containers": containers, "restartPolicy": "Never", **spec}}


def _job(name: str = "a", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"template": _template(), **spec}}


def _cron_job(name: str = "a", job: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    own = {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": _template(), **(job or {})}}}
    return {"metadata": {"name": name}, "spec": {**own, **spec}}


async def test_a_job_is_completed(api: Any) -> None:
    """Defaults, and a selector of its own pods made from its uid."""
    stored = await api.post(JOBS, _job())
    assert stored.status == 201, stored.json
    assert stored.json["metadata"]["generation"] == 1
    uid, spec = stored.json["metadata"]["uid"], stored.json["spec"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert spec["template"]["metadata"]["labels"] == {
        "job-name": "a",
        "batch.kubernetes.io/job-name": "a",
        "controller-uid": uid,
        "batch.kubernetes.io/controller-uid": uid,
    }
    defaults = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "TerminatingOrFailed",
        "manualSelector": False,
    }
    assert {field: spec[field] for field in defaults} == defaults
    assert stored.json["status"] == {}
    assert stored.warnings == []


async def test_a_job_takes_the_labels_of_its_template(api: Any) -> None:
    """Unless it has labels of its own."""
    template = {**_template(), "metadata": {"labels": {"app": "x"}}}
    assert (await api.post(JOBS, _job(template=template))).json["metadata"]["labels"] == {"app": "x"}
    own = {**_job("b", template=template), "metadata": {"name": "b", "labels": {"a": "b"}}}
    assert (await api.post(JOBS, own)).json["metadata"]["labels"] == {"a": "b"}


async def test_some_defaults_of_jobs_depend_on_others(api: Any) -> None:
    """Parallel jobs have no number of completions; retries by index are not limited as a whole."""
    spec = (await api.post(JOBS, _job(parallelism=3))).json["spec"]
    assert "completions" not in spec
    indexed = {"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1}
    policy = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
    spec = (await api.post(JOBS, _job("b", podFailurePolicy=policy, **indexed))).json["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (2**31 - 1, "Failed")
    assert spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"] == "True"


def _exit(**codes: Any) -> dict[str, Any]:
    return {"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": codes}]}}


_INDEXED: Final[dict[str, Any]] = {"completionMode": "Indexed", "completions": 3}
REFUSED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "pods that stay": (
        {"template": _template(restartPolicy="Always")},
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
    ),
    "a policy that is none": (
        {"template": _template(restartPolicy="Once")},
        'spec.template.spec.restartPolicy: Unsupported value: "Once": supported values: "OnFailure", "Never"',
    ),
    "a negative number": (
        {"ttlSecondsAfterFinished": -1},
        "spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0",
    ),
    "indexes without a number": (
        {"completionMode": "Indexed", "parallelism": 1},
        "spec.completions: Required value: when completion mode is Indexed",
    ),
    "a mode": (
        {"completionMode": "Both"},
        'spec.completionMode: Unsupported value: "Both": supported values: "NonIndexed", "Indexed"',
    ),
    "limits of indexes without any": (
        {"backoffLimitPerIndex": 1},
        "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
    ),
    "failed indexes alone": (
        {**_INDEXED, "maxFailedIndexes": 1},
        "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
    ),
    "more failed indexes than there are": (
        {**_INDEXED, "maxFailedIndexes": 4, "backoffLimitPerIndex": 1},
        "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
    ),
    "many completions": (
        {
            "completionMode": "Indexed",
            "completions": 100_001,
            "backoffLimitPerIndex": 1,
            "parallelism": 10_001,
        },
        (
            "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when "
            "completions are above "
            "100000 and used with backoff limit per index"
        ),
    ),
    "a manager": (
        {"managedBy": "me"},
        'spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")',
    ),
    "a replacement policy": (
        {"podReplacementPolicy": "Never"},
        (
            'spec.podReplacementPolicy: Unsupported value: "Never": supported values: "Failed", '
            '"TerminatingOrFailed"'
        ),
    ),
    "a failure policy with restarts": (
        {**_exit(operator="In", values=[1]), "template": _template(restartPolicy="OnFailure")},
        (
            'spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when '
            "podFailurePolicy is specified"
        ),
    ),
    "an exit code of success": (
        _exit(operator="In", values=[0]),
        (
            "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 "
            "for the In "
            "operator"
        ),
    ),
    "exit codes in disorder": (
        _exit(operator="In", values=[2, 1]),
        "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1]: must be ordered",
    ),
    "no exit codes": (
        _exit(operator="In"),
        (
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: null: at least one value "
            "is required"
        ),
    ),
    "a container that is not there": (
        _exit(operator="In", values=[1], containerName="side"),
        (
            'spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "side": must '
            "be one of the "
            "container or initContainer names in the pod template"
        ),
    ),
    "a rule for nothing": (
        {"podFailurePolicy": {"rules": [{"action": "Ignore"}]}},
        (
            "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and "
            "OnPodConditions is "
            "required"
        ),
    ),
    "an action": (
        {"podFailurePolicy": {"rules": [{"action": "Cry", "onPodConditions": [{"type": "a"}]}]}},
        (
            'spec.podFailurePolicy.rules[0].action: Unsupported value: "Cry": supported values: "Count", '
            '"FailIndex", "FailJob", "Ignore"'
        ),
    ),
    "success of indexes that are not": (
        {**_INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "0-3"}]}},
        (
            'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-3": error parsing '
            "succeededIndexes: "
            'too large index: "3"'
        ),
    ),
    "more successes than indexes": (
        {**_INDEXED, "successPolicy": {"rules": [{"succeededIndexes": "0,2", "succeededCount": 3}]}},
        (
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or "
            "equal to 2 (the "
            "number of indexes in the specified succeededIndexes field)"
        ),
    ),
    "success without indexes": (
        {"successPolicy": {"rules": [{"succeededCount": 1}]}},
        (
            'spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed '
            "completion mode"
        ),
    ),
    "a selector of its own": (
        {"selector": {"matchLabels": {"app": "x"}}},
        "`selector` not auto-generated",
    ),
    "a manual job without a selector": ({"manualSelector": True}, "spec.selector: Required value"),
    "a label that is the server's": (
        {"template": {**_template(), "metadata": {"labels": {"job-name": "other"}}}},
        "spec.template.metadata.labels[job-name]: Invalid value",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_no_job_may_be(api: Any, name: str) -> None:
    """Refused in Kubernetes' words, at the field that is wrong."""
    spec, message = REFUSED[name]
    refused = await api.post(JOBS, _job(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_the_pods_of_an_indexed_job_have_host_names(api: Any) -> None:
    """A name with the last index behind it must be a label."""
    refused = await api.post(JOBS, _job("a" * 62, **_INDEXED))
    assert "will not able to create pod with invalid DNS label" in refused.json["message"]


async def test_what_may_change_of_a_job(api: Any) -> None:
    """How many at once, its deadlines, whether it waits: not what it runs."""
    await api.post(JOBS, _job(parallelism=2))
    changed = await api.patch(f"{JOBS}/a", {"spec": {"parallelism": 3, "suspend": True}})
    assert (changed.status, changed.json["metadata"]["generation"]) == (200, 2)
    for field, value in (("completions", 5), ("completionMode", "Indexed"), ("managedBy", "a.example/b")):
        refused = await api.patch(f"{JOBS}/a", {"spec": {field: value}})
        assert refused.status == 422, field
        assert f"spec.{field}: Invalid value" in refused.json["message"] or field == "completionMode"
    refused = await api.patch(f"{JOBS}/a", {"spec": {"selector": {"matchLabels": {"a": "b"}}}})
    assert "spec.selector: Invalid value" in refused.json["message"]
    replaced = await api.put(f"{JOBS}/a", _job())
    assert "spec.selector: Required value" in replaced.json["message"]


async def test_a_job_that_waits_may_run_elsewhere(api: Any) -> None:
    """Until its first start, what schedules its pods may change; what they run may not."""
    await api.post(JOBS, _job(suspend=True))
    moved = {"nodeSelector": {"disk": "fast"}}
    changed = await api.patch(f"{JOBS}/a", {"spec": {"template": {"spec": moved}}})
    assert changed.status == 200, changed.json
    image = {"containers": [{"name": "main", "image": "other"}]}
    refused = await api.patch(f"{JOBS}/a", {"spec": {"template": {"spec": image}}})
    assert "spec.template: Invalid value" in refused.json["message"]
    await api.patch(f"{JOBS}/a/status", {"status": {"startTime": "2026-01-01T00:00:00Z"}})
    refused = await api.patch(
        f"{JOBS}/a", {"spec": {"template": {"spec": {"nodeSelector": {"disk": "slow"}}}}}
    )
    assert "spec.template: Invalid value" in refused.json["message"]


async def test_completions_of_indexed_jobs_follow_their_parallelism(api: Any) -> None:
    """They change together or not at all."""
    await api.post(JOBS, _job(**_INDEXED, parallelism=3))
    changed = await api.patch(f"{JOBS}/a", {"spec": {"completions": 5, "parallelism": 5}})
    assert changed.status == 200, changed.json
    refused = await api.patch(f"{JOBS}/a", {"spec": {"completions": 6}})
    assert (
        "spec.completions: Invalid value: 6: can only be modified in tandem with spec.parallelism"
    ) in refused.json["message"]


async def test_a_deleted_job_leaves_its_pods_unless_it_is_said(api: Any) -> None:
    """As the first version of the API did, with a warning; who says what is to happen is not warned."""
    for name in ("a", "b"):
        await api.post(JOBS, _job(name))
    await api.delete(f"{JOBS}/a?propagationPolicy=Background")
    assert (await api.get(f"{JOBS}/a")).status == 404
    deleted = await api.delete(f"{JOBS}/b")
    assert deleted.json["metadata"]["finalizers"] == ["orphan"]
    assert "child pods are preserved by default when jobs are deleted" in deleted.warnings[0]
    again = await api.delete(f"{JOBS}/b")
    assert again.json["metadata"]["finalizers"] == ["orphan"]


async def test_jobs_by_what_they_came_to(api: Any) -> None:
    """A field selector on successes, and the columns kubectl prints."""
    for name in ("a", "b"):
        await api.post(JOBS, _job(name))
    times = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:30Z"}
    done = [{"type": each, "status": "True"} for each in ("SuccessCriteriaMet", "Complete")]
    await api.patch(f"{JOBS}/a/status", {"status": {**times, "succeeded": 1, "conditions": done}})
    listed = (await api.get(f"{JOBS}?fieldSelector=status.successful=1")).json["items"]
    assert [each["metadata"]["name"] for each in listed] == ["a"]
    table = (await api.get(JOBS, accept=TABLE)).json
    assert [row["cells"][:5] for row in table["rows"]] == [
        ["a", "Complete", "1/1", "90s", "0s"],
        ["b", "Running", "0/1", "", "0s"],
    ]


async def test_a_cron_job_is_completed(api: Any) -> None:
    """Its own defaults, and none of the Job's but those of the pod."""
    stored = await api.post(CRON_JOBS, _cron_job())
    assert stored.status == 201, stored.json
    spec = stored.json["spec"]
    assert (spec["concurrencyPolicy"], spec["suspend"]) == ("Allow", False)
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 1)
    assert set(spec["jobTemplate"]["spec"]) == {"template"}
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert stored.json["status"] == {}
    table = (await api.get(CRON_JOBS, accept=TABLE)).json
    assert table["rows"][0]["cells"] == [
        "a",
        "*/5 * * * *",
        "<none>",
        "False",
        0,
        "<none>",
        "0s",
        "main",
        "example.org/app:1",
        "<none>",
    ]


REFUSED_CRON: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no schedule": ({"schedule": ""}, "spec.schedule: Required value"),
    "four fields": (
        {"schedule": "* * * *"},
        'spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4: [* * * *]',
    ),
    "a minute too late": (
        {"schedule": "60 * * * *"},
        'spec.schedule: Invalid value: "60 * * * *": end of range (60) above maximum (59): 60',
    ),
    "a zone in the schedule": (
        {"schedule": "TZ=UTC 0 * * * *"},
        (
            'spec.schedule: Invalid value: "TZ=UTC 0 * * * *": cannot use TZ or CRON_TZ in schedule, '
            "use timeZone "
            "field instead"
        ),
    ),
    "a zone that is none": (
        {"timeZone": "Mars/Olympus"},
        'spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus',
    ),
    "the machine's own zone": (
        {"timeZone": "Local"},
        (
            'spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in '
            "https://www.iana.org/time-zones"
        ),
    ),
    "an empty zone": (
        {"timeZone": ""},
        'spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string',
    ),
    "a policy": (
        {"concurrencyPolicy": "Queue"},
        'spec.concurrencyPolicy: Unsupported value: "Queue": supported values: "Allow", "Forbid", "Replace"',
    ),
    "a negative history": (
        {"failedJobsHistoryLimit": -1},
        "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED_CRON)
async def test_what_no_cron_job_may_be(api: Any, name: str) -> None:
    """Refused in Kubernetes' words, at the field that is wrong."""
    spec, message = REFUSED_CRON[name]
    refused = await api.post(CRON_JOBS, _cron_job(**spec))
    assert refused.status == 422
    assert message in refused.json["message"]


async def test_the_job_in_a_cron_job_is_checked(api: Any) -> None:
    """As a Job is, but that its selector is never written."""
    refused = await api.post(CRON_JOBS, _cron_job(job={"template": _template(restartPolicy="Always")}))
    assert (
        "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "
        '"OnFailure", "Never"'
    ) in refused.json["message"]
    refused = await api.post(CRON_JOBS, _cron_job(job={"selector": {"matchLabels": {"a": "b"}}}))
    assert "spec.jobTemplate.spec.selector: Invalid value" in refused.json["message"]
    assert "`selector` will be auto-generated" in refused.json["message"]
    refused = await api.post(CRON_JOBS, _cron_job(job={"manualSelector": True}))
    assert "spec.jobTemplate.spec.manualSelector: Unsupported value: true" in refused.json["message"]


async def test_the_name_of_a_cron_job_leaves_room(api: Any) -> None:
    """Its Jobs have eleven characters more."""
    assert (await api.post(CRON_JOBS, _cron_job("a" * 52))).status == 201
    assert (await api.patch(f"{CRON_JOBS}/{'a' * 52}", {"spec": {"suspend": True}})).status == 200
    refused = await api.post(CRON_JOBS, _cron_job("a" * 53))
    assert "metadata.name: Invalid value" in refused.json["message"]
    assert "must be no more than 52 characters" in refused.json["message"]


_START: Final = "2026-01-01T00:00:00Z"
_END: Final = "2026-01-01T00:01:00Z"


def _ended(*kinds: str, **fields: Any) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": "True"} for kind in kinds], "startTime": _START, **fields}


REFUSED_STATUSES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "a negative count": (
        {"active": -1},
        "status.active: Invalid value: -1: must be greater than or equal to 0",
    ),
    "two ends": (
        _ended("Complete", "SuccessCriteriaMet", "Failed", "FailureTarget", completionTime=_END),
        "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions",
    ),
    "a failure out of nowhere": (
        _ended("Failed"),
        "cannot set Failed=True condition without the FailureTarget=true condition",
    ),
    "an end without a time": (
        _ended("Complete", "SuccessCriteriaMet"),
        "status.completionTime: Required value: completionTime is required for Complete jobs",
    ),
    "a time without an end": (
        {"startTime": _START, "completionTime": _END},
        "cannot set completionTime when there is no Complete=True condition",
    ),
    "an end before the start": (
        _ended("Complete", "SuccessCriteriaMet", startTime=_END, completionTime=_START),
        "must be equal to or after `startTime`",
    ),
    "pods that still run": (
        _ended("Failed", "FailureTarget", active=1),
        "status.active: Invalid value: 1: active>0 is invalid for finished job",
    ),
    "more ready than there are": (
        {"active": 1, "ready": 2},
        "status.ready: Invalid value: 2: cannot set more ready pods than active",
    ),
    "indexes of a job without any": (
        {"completedIndexes": "0"},
        "cannot set non-empty completedIndexes when non-indexed completion mode",
    ),
    "an index that is not there": (
        {"completedIndexes": "7"},
        'status.completedIndexes: Invalid value: "7": error parsing completedIndexes: too large index: "7"',
    ),
}


@pytest.mark.parametrize("name", REFUSED_STATUSES)
async def test_what_cannot_have_become_of_a_job(api: Any, name: str) -> None:
    """Refused in Kubernetes' words, whoever manages the Job."""
    await api.post(JOBS, _job())
    status, message = REFUSED_STATUSES[name]
    refused = await api.patch(f"{JOBS}/a/status", {"status": status})
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_what_happened_to_a_job_has_happened(api: Any) -> None:
    """Ends, times and counts are not taken back."""
    await api.post(JOBS, _job())
    ended = _ended("Complete", "SuccessCriteriaMet", completionTime=_END, succeeded=1)
    assert (await api.patch(f"{JOBS}/a/status", {"status": ended})).status == 200
    for status, message in (
        ({"conditions": []}, "cannot disable the terminal Complete=True condition"),
        ({"succeeded": 0}, "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter"),
        ({"completionTime": "2026-01-02T00:00:00Z"}, "field is immutable"),
        ({"startTime": None}, "startTime cannot be removed for unsuspended job"),
    ):
        refused = await api.patch(f"{JOBS}/a/status", {"status": status})
        assert refused.status == 422, message
        assert message in refused.json["message"]
