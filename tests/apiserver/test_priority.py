"""Priority and fairness by its objects: whose seat a request takes, who waits for one, and who is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio
import pytest

from ondol import apiserver
from ondol.api.objects import Object
from ondol.apiserver.auth.identity import User
from ondol.apiserver.priority import matching
from ondol.apiserver.priority.levels import Level, Levels
from ondol.apiserver.priority.queues import Queues, hand
from ondol.apiserver.requestinfo import RequestInfo
from ondol.base import errors
from ondol.base.clock import ManualClock

pytestmark = pytest.mark.anyio

CMS: Final = "/api/v1/namespaces/default/configmaps"
FLOWS: Final = "/apis/flowcontrol.apiserver.k8s.io/v1"
SCHEMAS, LEVELS = f"{FLOWS}/flowschemas", f"{FLOWS}/prioritylevelconfigurations"
SCHEMA, LEVEL = "x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid"
ANY: Final = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
EVERYWHERE: Final = {**ANY, "clusterScope": True}
ANN: Final = {"kind": "User", "user": {"name": "ann"}}
READING: Final = RequestInfo("get", "/p", "", "v1", "pods", "", "shop", "web")
NODE: Final = RequestInfo("get", "/p", "", "v1", "nodes", "", "", "n")
PATH: Final = RequestInfo("get", "/healthz/etcd")
ACCOUNT: Final = "system:serviceaccount:shop:web"


def _schema(name: str, subject: Object = ANN, rule: Object = EVERYWHERE, **spec: Any) -> Object:
    kind = "nonResourceRules" if "nonResourceURLs" in rule else "resourceRules"
    own = {
        "priorityLevelConfiguration": {"name": "catch-all"},
        "rules": [{"subjects": [subject], kind: [rule]}],
    }
    return {"metadata": {"name": name, "uid": name}, "spec": {**own, **spec}}


def _level(shares: int = 10, **more: Any) -> Object:
    queuing = more.pop("queuing", None)
    response = {"type": "Queue", "queuing": queuing} if queuing else {"type": "Reject"}
    limited = {"nominalConcurrencyShares": shares, "limitResponse": response, **more}
    return {"metadata": {"name": "l", "uid": "l"}, "spec": {"type": "Limited", "limited": limited}}


async def _uid(api: Any, path: str, name: str) -> str:
    return str((await api.get(f"{path}/{name}")).json["metadata"]["uid"])


@pytest.mark.parametrize(
    ("subject", "rule", "user", "info", "fits"),
    [
        (ANN, EVERYWHERE, User("ann"), READING, True),
        (ANN, EVERYWHERE, User("ben"), READING, False),
        ({"kind": "User", "user": {"name": "*"}}, EVERYWHERE, User("ben"), READING, True),
        ({"kind": "Group", "group": {"name": "g"}}, ANY, User("ben", ("g",)), READING, True),
        ({"kind": "Group", "group": {"name": "g"}}, ANY, User("ben"), READING, False),
        (
            {"kind": "ServiceAccount", "serviceAccount": {"namespace": "shop", "name": "*"}},
            ANY,
            User(ACCOUNT),
            READING,
            True,
        ),
        (
            {"kind": "ServiceAccount", "serviceAccount": {"namespace": "sho", "name": "*"}},
            ANY,
            User(ACCOUNT),
            READING,
            False,
        ),
        (ANN, ANY, User("ann"), NODE, False),
        (ANN, {**ANY, "verbs": ["list"]}, User("ann"), READING, False),
        (ANN, {**ANY, "namespaces": ["other"]}, User("ann"), READING, False),
        (ANN, {**ANY, "resources": ["pods/log"]}, User("ann"), READING, False),
        (
            ANN,
            {**ANY, "resources": ["pods/log"]},
            User("ann"),
            READING._replace(subresource="log"),
            True,
        ),
        (ANN, {"verbs": ["get"], "nonResourceURLs": ["/healthz"]}, User("ann"), PATH, True),
        (ANN, {"verbs": ["get"], "nonResourceURLs": ["/health"]}, User("ann"), PATH, False),
        (ANN, {"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}, User("ann"), PATH, True),
    ],
)
def test_what_a_schema_is_about(
    subject: Object, rule: Object, user: User, info: RequestInfo, fits: bool
) -> None:
    """Who asks, and what for, as in Kubernetes."""
    assert matching.matches(_schema("s", subject, rule), user, info) is fits


def test_the_first_schema_by_precedence_and_name_decides() -> None:
    """Smaller numbers first."""
    listed = [_schema("a", matchingPrecedence=20), _schema("c", matchingPrecedence=10), _schema("b")]
    ordered = matching.ordered([*listed, _schema("d", matchingPrecedence=10)])
    assert [each["metadata"]["name"] for each in ordered] == ["c", "d", "a", "b"]


async def test_answers_say_which_flow_they_are_of(api: Any) -> None:
    """By the uids of schema and level; also what is forbidden, and changes count at once."""
    answer = await api.get(CMS)
    assert answer.headers[SCHEMA] == await _uid(api, SCHEMAS, "exempt")
    assert answer.headers[LEVEL] == await _uid(api, LEVELS, "exempt")
    refused = await api.as_("ann", "system:authenticated").get(CMS)
    assert (refused.status, refused.headers[SCHEMA]) == (403, await _uid(api, SCHEMAS, "global-default"))
    parts = await api.as_("system:ondol:control", "system:authenticated").get(CMS)
    assert parts.headers[LEVEL] == await _uid(api, LEVELS, "workload-high")
    answer = await api.post(SCHEMAS, {**_schema("mine"), "metadata": {"name": "mine"}})
    assert answer.status == 201, answer.json
    await api.settle()
    changed = await api.as_("ann", "system:authenticated").get(CMS)
    assert changed.headers[SCHEMA] == answer.json["metadata"]["uid"]


async def test_a_schema_says_whether_its_level_is_there(api: Any) -> None:
    """From the beginning; again when the level comes, and nothing is written at rest."""
    for schema in (await api.get(SCHEMAS)).json["items"]:
        (condition,) = schema["status"]["conditions"]
        assert (condition["type"], condition["status"], condition["reason"]) == ("Dangling", "False", "Found")
    spec: Any = {"priorityLevelConfiguration": {"name": "later"}}
    answer = await api.post(SCHEMAS, {**_schema("mine", **spec), "metadata": {"name": "mine"}})
    assert answer.json["status"]["conditions"][0]["status"] == "True"
    before = await api.as_("ann", "system:authenticated").get(CMS)
    assert before.headers[SCHEMA] != answer.json["metadata"]["uid"], "a schema without a level is passed over"
    await api.settle()
    revision = api.store.revision
    await api.clock.advance(5.0)
    assert api.store.revision == revision
    await api.post(LEVELS, {**_level(), "metadata": {"name": "later"}})
    await api.settle()
    schema = (await api.get(f"{SCHEMAS}/mine")).json
    assert schema["status"]["conditions"][0]["status"] == "False"


async def test_who_finds_no_seat_is_told_when_to_come_again(start: Callable[..., Any]) -> None:
    """429 with Retry-After where the level has no queue; others are answered."""
    config = apiserver.ApiConfig(reads_in_flight_max=20, writes_in_flight_max=20)
    async with start(config=config) as api:
        await api.post(LEVELS, {**_level(0), "metadata": {"name": "none"}})
        spec: Any = {"priorityLevelConfiguration": {"name": "none"}, "matchingPrecedence": 5}
        await api.patch(f"{LEVELS}/none", {"spec": {"limited": {"borrowingLimitPercent": 0}}})
        await api.post(SCHEMAS, {**_schema("mine", **spec), "metadata": {"name": "mine"}})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
        binding = {"metadata": {"name": "v"}, "roleRef": role, "subjects": [{"kind": "User", "name": "ann"}]}
        await api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
        await api.settle()
        refused = await api.as_("ann").get(CMS)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert (await api.get(CMS)).status == 200


def _levels(clock: ManualClock, total: int = 10, **documents: Object) -> Levels:
    levels = Levels(total, clock)
    levels.update(documents)
    return levels


def _take_all(level: Level) -> int:
    count = 0
    while level.take():
        count += 1
    return count


def test_levels_share_out_the_seats() -> None:
    """By their shares, rounded up; what is exempt takes as many as it likes."""
    exempt = {"metadata": {}, "spec": {"type": "Exempt"}}
    levels = _levels(ManualClock(), 10, a=_level(30), b=_level(10), free=exempt)
    assert (levels.by_name["a"].seats, levels.by_name["b"].seats) == (8, 3)
    assert _take_all(levels.by_name["a"]) == 8
    assert all(levels.by_name["free"].take() for _ in range(100))


def test_idle_seats_are_lent_and_no_others() -> None:
    """As many as the lender lends, up to what the borrower may have."""
    levels = _levels(ManualClock(), 20, a=_level(10), b=_level(10, lendablePercent=50))
    assert _take_all(levels.by_name["a"]) == 15
    assert _take_all(levels.by_name["b"]) == 10, "what is its own it gets, whatever was lent"
    bounded = _levels(
        ManualClock(), 20, a=_level(10, borrowingLimitPercent=20), b=_level(lendablePercent=100)
    )
    assert _take_all(bounded.by_name["a"]) == 12


def test_a_change_of_a_level_counts_at_once() -> None:
    """For who comes then."""
    levels = _levels(ManualClock(), 10, a=_level(10), b=_level(10))
    assert _take_all(levels.by_name["a"]) == 5
    levels.update({"a": _level(40), "b": _level(10)})
    assert _take_all(levels.by_name["a"]) == 3


QUEUING: Final = {"queues": 8, "handSize": 2, "queueLengthLimit": 3}


async def test_who_waits_is_served_fairly_by_flow() -> None:
    """A flow that came with many requests does not keep out one that came with one."""
    clock = ManualClock()
    level = _levels(clock, 1, a=_level(queuing=QUEUING)).by_name["a"]
    assert level.take()
    served: list[str] = []

    async def ask(flow: str) -> None:
        seat = await level.wait(flow, 60.0)
        served.append(flow)
        await clock.sleep(1.0)
        seat.leave()

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(ask, "ann")
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask, _far_from("ann"))
        await anyio.wait_all_tasks_blocked()
        level.leave()
        for _ in range(6):
            await anyio.wait_all_tasks_blocked()
            await clock.advance(1.0)
    assert len(served) == 5
    assert _far_from("ann") in served[:3], served
    assert level.taken == 0


def _far_from(flow: str) -> str:
    """A flow that has no queue in common with another."""
    names = (f"flow-{number}" for number in range(100))
    return next(name for name in names if not set(hand(name, 8, 2)) & set(hand(flow, 8, 2)))


async def test_full_queues_and_long_waits_are_refused() -> None:
    """And leave nothing behind: the next one finds its seat."""
    clock = ManualClock()
    level = _levels(clock, 1, a=_level(queuing=QUEUING)).by_name["a"]
    assert level.take()
    refused: list[float] = []

    async def ask() -> None:
        with pytest.raises(errors.TooManyRequests):
            await level.wait("ann", 15.0)
        refused.append(clock.monotonic())

    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert refused == [0.0], "two queues of three each"
        await clock.advance(15.0)
    assert (refused[1:], level.rejected) == ([15.0] * 6, 7)
    level.leave()
    assert level.take()


async def test_who_goes_away_while_waiting_takes_no_seat() -> None:
    """Cancelled in the queue, or just as it was served."""
    level = _levels(ManualClock(), 1, a=_level(queuing=QUEUING)).by_name["a"]

    async def ask() -> None:
        (await level.wait("ann", 60.0)).leave()

    for is_served in (False, True):
        assert level.take()
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            if is_served:
                level.leave()
            group.cancel_scope.cancel()
        if not is_served:
            level.leave()
        assert (level.taken, level.queues is not None and level.queues.waiting) == (0, 0)


def test_hands_differ_from_flow_to_flow() -> None:
    """And are the same each time, so that a flow keeps to its queues."""
    hands = {hand(f"flow-{number}", 64, 6) for number in range(200)}
    assert len(hands) > 190
    assert all(len(set(cards)) == 6 and max(cards) < 64 for cards in hands)
    assert hand("ann", 3, 8) == hand("ann", 3, 8)
    assert Queues(4, 2, 1).waiting == 0
