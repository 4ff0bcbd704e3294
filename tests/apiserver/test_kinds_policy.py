"""PodDisruptionBudgets, and the evictions that ask them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

PODS: Final = "/api/v1/namespaces/default/pods"
BUDGETS: Final = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"

Make = Callable[..., Any]


def _budget(name: str = "b", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"app": "a"}}, **spec}}


async def _running(api: Any, pod: Make, name: str = "p", *, ready: bool = True) -> None:
    document = pod(name)
    document["metadata"]["labels"] = {"app": "a"}
    await api.post(PODS, document)
    await api.post(f"{PODS}/{name}/binding", {"target": {"name": "n1"}})
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"phase": "Running", "conditions": [condition]}
    assert (await api.patch(f"{PODS}/{name}/status", {"status": status})).status == 200


async def _allowing(api: Any, disruptions: int, name: str = "b", **status: Any) -> None:
    counts = {"observedGeneration": 1, "disruptionsAllowed": disruptions, "expectedPods": 2, **status}
    assert (await api.patch(f"{BUDGETS}/{name}/status", {"status": counts})).status == 200


async def _evict(api: Any, name: str = "p", query: str = "", **options: Any) -> Any:
    body = {"metadata": {"name": name}, **({"deleteOptions": options} if options else {})}
    return await api.post(f"{PODS}/{name}/eviction{query}", body)


async def test_a_budget_is_written_and_read(api: Any) -> None:
    """A status of zeros, generations, its own status, columns, and no blind overwriting."""
    stored = await api.post(BUDGETS, _budget(minAvailable="50%"))
    assert stored.status == 201, stored.json
    assert set(stored.json["status"].values()) == {0}
    changed = await api.patch(f"{BUDGETS}/b", {"spec": {"minAvailable": 1}, "status": {"expectedPods": 4}})
    assert (changed.json["metadata"]["generation"], changed.json["status"]["expectedPods"]) == (2, 0)
    refused = await api.put(f"{BUDGETS}/b", _budget())
    assert refused.status == 422
    assert (
        "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
        in refused.json["message"]
    )
    table = (await api.get(BUDGETS, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["b", "1", "N/A", 0, "0s"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"minAvailable": 1, "maxUnavailable": 1}, "minAvailable and maxUnavailable cannot be both set"),
        ({"minAvailable": -1}, "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"),
        ({"minAvailable": "101%"}, 'spec.minAvailable: Invalid value: "101%": must not be greater than 100%'),
        ({"maxUnavailable": "x"}, 'spec.maxUnavailable: Invalid value: "x": a valid percent string'),
        (
            {"unhealthyPodEvictionPolicy": "Never"},
            (
                'spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: '
                '"AlwaysAllow", '
                '"IfHealthyBudget"'
            ),
        ),
        (
            {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "spec.selector.matchExpressions[0].values: Required value",
        ),
    ],
)
async def test_what_no_budget_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(BUDGETS, _budget(**spec))
    assert refused.status == 422
    assert message in refused.json["message"]


async def test_an_eviction_spends_the_budget(api: Any, pod: Make) -> None:
    """Each takes one disruption off and is noted; the last one closes the budget."""
    await _running(api, pod)
    await api.post(BUDGETS, _budget(maxUnavailable=1))
    await _allowing(api, 1)
    assert (await _evict(api)).status == 201
    status = (await api.get(f"{BUDGETS}/b")).json["status"]
    assert status["disruptionsAllowed"] == 0
    assert set(status["disruptedPods"]) == {"p"}
    condition = status["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "DisruptionAllowed",
        "False",
        "InsufficientPods",
    )
    evicted = (await api.get(f"{PODS}/p")).json
    assert evicted["metadata"]["deletionTimestamp"]


async def test_a_spent_budget_refuses(api: Any, pod: Make) -> None:
    """429 with the cause, and the pod is left as it is."""
    await _running(api, pod)
    await api.post(BUDGETS, _budget(minAvailable=2))
    await _allowing(api, 0, desiredHealthy=2, currentHealthy=2)
    refused = await _evict(api)
    assert (refused.status, refused.json["reason"]) == (429, "TooManyRequests")
    assert refused.json["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused.json["details"]["causes"] == [
        {
            "reason": "DisruptionBudget",
            "message": "The disruption budget b needs 2 healthy pods and has 2 currently",
        }
    ]
    pod_now = (await api.get(f"{PODS}/p")).json
    assert "deletionTimestamp" not in pod_now["metadata"]
    assert all(each["type"] != "DisruptionTarget" for each in pod_now["status"]["conditions"])


async def test_a_budget_nobody_has_looked_at_yet_refuses(api: Any, pod: Make) -> None:
    """Its counts say nothing until they are of its latest form."""
    await _running(api, pod)
    await api.post(BUDGETS, _budget(minAvailable=1))
    refused = await _evict(api)
    assert refused.status == 429
    assert refused.json["details"]["retryAfterSeconds"] == 10
    assert "is still being processed by the server" in refused.json["details"]["causes"][0]["message"]


async def test_more_than_one_budget_is_not_supported(api: Any, pod: Make) -> None:
    """Nobody could say which of them to ask."""
    await _running(api, pod)
    for name in ("b", "c"):
        await api.post(BUDGETS, _budget(name))
        await _allowing(api, 5, name)
    refused = await _evict(api)
    assert (refused.status, refused.json["code"]) == (500, 500)
    assert refused.json["message"] == (
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    )


async def test_a_pod_that_serves_nobody_is_not_protected(api: Any, pod: Make) -> None:
    """One that waits to run, or is over, goes whatever the budget says."""
    await api.post(BUDGETS, _budget(minAvailable=1))
    waiting = pod("w")
    waiting["metadata"]["labels"] = {"app": "a"}
    await api.post(PODS, waiting)
    assert (await _evict(api, "w")).status == 201
    assert (await api.get(f"{PODS}/w")).status == 404
    await _running(api, pod)
    await api.patch(f"{PODS}/p/status", {"status": {"phase": "Succeeded"}})
    assert (await _evict(api)).status == 201


async def test_pods_that_are_not_ready_are_not_counted(api: Any, pod: Make) -> None:
    """They go if the budget is met without them, or if it always lets them go."""
    await _running(api, pod, ready=False)
    await api.post(BUDGETS, _budget(minAvailable=1))
    await _allowing(api, 0, desiredHealthy=1, currentHealthy=0)
    assert (await _evict(api)).status == 429
    await _allowing(api, 0, desiredHealthy=1, currentHealthy=1)
    assert (await _evict(api)).status == 201
    assert (await api.get(f"{BUDGETS}/b")).json["status"].get("disruptedPods") is None
    await _running(api, pod, "q", ready=False)
    await api.patch(f"{BUDGETS}/b", {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})
    await _allowing(api, 0, desiredHealthy=1, currentHealthy=0)
    assert (await _evict(api, "q")).status == 201


async def test_a_dry_eviction_changes_nothing(api: Any, pod: Make) -> None:
    """It is refused like a real one, and spends nothing."""
    await _running(api, pod)
    await api.post(BUDGETS, _budget(minAvailable=1))
    assert (await _evict(api, query="?dryRun=All")).status == 429
    await _allowing(api, 1)
    before = (await api.get(f"{PODS}/p")).json
    assert (await _evict(api, query="?dryRun=All")).status == 201
    assert (await _evict(api, dryRun=["All"])).status == 201
    assert (await api.get(f"{PODS}/p")).json == before
    assert (await api.get(f"{BUDGETS}/b")).json["status"]["disruptionsAllowed"] == 1


async def test_an_eviction_may_name_the_pod_it_means(api: Any, pod: Make) -> None:
    """Another uid or version is a conflict, and the pod stays untouched."""
    await _running(api, pod)
    for field, value in (("uid", "other"), ("resourceVersion", "1")):
        refused = await _evict(api, preconditions={field: value})
        assert refused.status == 409, field
    metadata = (await api.get(f"{PODS}/p")).json["metadata"]
    assert "deletionTimestamp" not in metadata
    exact = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    assert (await _evict(api, preconditions=exact)).status == 201
    assert (await _evict(api, "missing")).status == 404
    assert (await api.post(f"{PODS}/p/eviction", {"metadata": {"name": "q"}})).status == 400


async def test_admission_is_asked_about_the_eviction(start: Any, pod: Make) -> None:
    """About its creation and nothing that follows from it."""
    asked: list[tuple[str, str, str]] = []

    class Outside:
        async def mutate(self, context: Any, request: Any) -> None:
            del context
            asked.append((request.operation, request.subresource, request.new.get("kind", "")))

        async def validate(self, context: Any, request: Any) -> None:
            del context, request

    async with start(admission=Outside()) as api:
        await _running(api, pod)
        asked.clear()
        assert (await _evict(api)).status == 201
        assert asked == [("create", "eviction", "Eviction")]
