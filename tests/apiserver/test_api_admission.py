"""Admission that waits: what is written meanwhile is not lost, and what was reserved is given back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from ondol import store
from ondol.api import objects
from ondol.api.objects import Object
from ondol.apiserver.admission.chain import Chain, Plugins
from ondol.apiserver.admission.request import Request
from ondol.apiserver.reservations import Reservations
from ondol.apiserver.strategy import Context
from ondol.base import errors
from ondol.store import Retention, Store
from ondol.store.sqlite import Database
from ondol.store.writer import Append, Inline, Work

pytestmark = pytest.mark.anyio

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
Step = Callable[[Context, Request], Awaitable[None]]
Write = Callable[[], Awaitable[Any]]


async def _nothing(context: Context, request: Request) -> None:
    del context, request


class Outside:
    """What is asked by the port, as webhooks will be."""

    def __init__(self, mutate: Step = _nothing, validate: Step = _nothing) -> None:
        self._steps = (mutate, validate)

    async def mutate(self, context: Context, request: Request) -> None:
        await self._steps[0](context, request)

    async def validate(self, context: Context, request: Request) -> None:
        await self._steps[1](context, request)


class Slow:
    """A step that waits at the first write of an object of a name, until it is told to go on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.reached = anyio.Event()
        self.go_on = anyio.Event()
        self.seen: list[Object] = []

    async def __call__(self, context: Context, request: Request) -> None:
        del context
        if objects.name(request.new or request.old or {}) != self._name:
            return
        self.seen.append(request.old or request.new)
        if not self.reached.is_set():
            self.reached.set()
            await self.go_on.wait()


async def _meanwhile(
    slow: Slow, write: Callable[[], Awaitable[Any]], other: Callable[[], Awaitable[Any]]
) -> Any:
    """The answer to a write that waits while another one is made, which must succeed."""
    answers: list[Any] = []

    async def first() -> None:
        answers.append(await write())

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await slow.reached.wait()
        assert (await other()).status < 300
        slow.go_on.set()
    return answers[0]


@pytest.mark.parametrize("phase", ["mutate", "validate"])
async def test_an_update_is_decided_anew_on_what_was_written_meanwhile(
    start: Any, config_map: Any, phase: str
) -> None:
    """Both changes are in the object, and the plug-in was asked again about the newer one."""
    slow = Slow("slow")
    async with start(admission=Outside(**{phase: slow})) as api:
        slow.reached.set()
        await api.post(CONFIG_MAPS, config_map("slow", {"a": "1"}))
        slow.reached, slow.seen = anyio.Event(), []
        target = f"{CONFIG_MAPS}/slow"

        async def other() -> Any:
            return await api.patch(target, {"data": {"c": "3"}})

        answer = await _meanwhile(slow, lambda: api.patch(target, {"data": {"b": "2"}}), other)
        assert answer.status == 200
        assert answer.json["data"] == {"a": "1", "b": "2", "c": "3"}
        assert [old["data"] for old in slow.seen] == [{"a": "1"}, {"a": "1"}, {"a": "1", "c": "3"}]


async def test_an_update_of_a_version_loses_to_a_newer_one(start: Any, config_map: Any) -> None:
    """Decided anew, its condition does not hold any more."""
    slow = Slow("slow")
    async with start(admission=Outside(slow)) as api:
        slow.reached.set()
        stored = (await api.post(CONFIG_MAPS, config_map("slow"))).json
        slow.reached = anyio.Event()
        target = f"{CONFIG_MAPS}/slow"
        answer = await _meanwhile(
            slow,
            lambda: api.put(target, {**stored, "data": {"a": "mine"}}),
            lambda: api.patch(target, {"data": {"a": "theirs"}}),
        )
        assert (answer.status, answer.json["reason"]) == (409, "Conflict")
        assert (await api.get(target)).json["data"] == {"a": "theirs"}


async def test_a_create_loses_to_one_that_was_faster(start: Any, config_map: Any) -> None:
    """The second one waits for nobody; the first one finds the name taken."""
    slow = Slow("slow")
    async with start(admission=Outside(slow)) as api:
        answer = await _meanwhile(
            slow,
            lambda: api.post(CONFIG_MAPS, config_map("slow", {"by": "first"})),
            lambda: api.post(CONFIG_MAPS, config_map("slow", {"by": "second"})),
        )
        assert (answer.status, answer.json["reason"]) == (409, "AlreadyExists")
        assert (await api.get(f"{CONFIG_MAPS}/slow")).json["data"] == {"by": "second"}


async def test_nothing_is_created_in_a_namespace_that_went_meanwhile(start: Any, config_map: Any) -> None:
    """It was there when the plug-ins began."""
    slow = Slow("slow")
    async with start(admission=Outside(slow)) as api:
        await api.post("/api/v1/namespaces", {"metadata": {"name": "going"}})
        path = "/api/v1/namespaces/going/configmaps"
        answer = await _meanwhile(
            slow,
            lambda: api.post(path, config_map("slow")),
            lambda: api.delete("/api/v1/namespaces/going"),
        )
        assert answer.status == 403
        assert "because it is being terminated" in answer.json["message"]


async def test_a_delete_is_decided_anew_on_what_was_written_meanwhile(start: Any, config_map: Any) -> None:
    """A finalizer that came while the plug-in waited keeps the object."""
    slow = Slow("slow")
    async with start(admission=Outside(validate=slow)) as api:
        slow.reached.set()
        await api.post(CONFIG_MAPS, config_map("slow"))
        slow.reached, slow.seen = anyio.Event(), []
        target = f"{CONFIG_MAPS}/slow"
        answer = await _meanwhile(
            slow,
            lambda: api.delete(target),
            lambda: api.patch(target, {"metadata": {"finalizers": ["example.org/a"]}}),
        )
        assert answer.json["metadata"]["deletionTimestamp"]
        finalizers = [list(objects.finalizers(old)) for old in slow.seen]
        assert finalizers == [[], [], ["example.org/a"]]  # the delete, the patch, the delete anew
        assert (await api.get(target)).status == 200


async def test_a_delete_is_asked_about_and_may_be_refused(start: Any, config_map: Any) -> None:
    """With the object as it is, and nothing as the new one."""
    reviews: list[tuple[str, Object, str]] = []

    async def refuse(context: Context, request: Request) -> None:
        del context
        if request.operation == "delete" and request.old is not None:
            reviews.append((request.operation, request.new, objects.name(request.old)))
            raise errors.Forbidden("not this one")

    async with start(admission=Outside(validate=refuse)) as api:
        await api.post(CONFIG_MAPS, config_map("a"))
        answer = await api.delete(f"{CONFIG_MAPS}/a")
        assert (answer.status, answer.json["message"]) == (403, "not this one")
        assert reviews == [("delete", {}, "a")]
        assert (await api.get(f"{CONFIG_MAPS}/a")).status == 200


async def test_the_phases_stand_on_both_sides_of_validation(start: Any, config_map: Any) -> None:
    """What the first one sets is validated; the second one sees the object as it is stored."""
    seen: list[Object] = []

    async def mutate(context: Context, request: Request) -> None:
        del context
        if objects.name(request.new).startswith("bad"):
            request.new["metadata"]["labels"] = {"a": "not valid!"}
        elif objects.name(request.new) == "good":
            request.new = {**request.new, "data": {**request.new["data"], "added": "yes"}}

    async def validate(context: Context, request: Request) -> None:
        seen.append(request.new)
        context.warn("looked at")

    async with start(admission=Outside(mutate, validate)) as api:
        refused = await api.post(CONFIG_MAPS, config_map("bad"))
        assert refused.status == 422
        assert "metadata.labels" in refused.json["message"]
        seen.clear()
        stored = await api.post(CONFIG_MAPS, config_map("good", {"a": "1"}))
        assert stored.json["data"] == {"a": "1", "added": "yes"}
        assert [{**stored.json, "metadata": None}] == [{**obj, "metadata": None} for obj in seen]
        assert seen[0]["metadata"]["uid"] == stored.json["metadata"]["uid"]
        assert stored.warnings == ['299 - "looked at"']


async def test_a_plug_in_that_fails_refuses_the_write(start: Any, config_map: Any) -> None:
    """Its refusal is the answer; a fault of its own is an internal error. Neither writes."""

    async def fail(context: Context, request: Request) -> None:
        del context
        if objects.name(request.new) == "refused":
            raise errors.Forbidden("no")
        if objects.name(request.new) == "broken":
            raise ZeroDivisionError

    async with start(admission=Outside(fail)) as api:
        assert (await api.post(CONFIG_MAPS, config_map("refused"))).status == 403
        assert (await api.post(CONFIG_MAPS, config_map("broken"))).status == 500
        assert (await api.get(f"{CONFIG_MAPS}/refused")).status == 404
        assert (await api.get(f"{CONFIG_MAPS}/broken")).status == 404


def _service(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80, **spec}]}}


@pytest.mark.parametrize("ending", ["time-out", "refusal", "conflict"])
async def test_what_was_reserved_is_given_back(start: Any, ending: str) -> None:
    """However the write ends, whose plug-in waited with a node port that nobody else may have meanwhile."""
    slow = Slow("slow")

    async def validate(context: Context, request: Request) -> None:
        await slow(context, request)
        if ending == "refusal" and objects.name(request.new) == "slow":
            raise errors.Forbidden("no")

    async with start(admission=Outside(validate=validate)) as api:
        answers: list[Any] = []

        async def write() -> None:
            answers.append(await api.post(SERVICES, _service("slow", nodePort=30080)))

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            await slow.reached.wait()
            taken = await api.post(SERVICES, _service("other", nodePort=30080))
            assert "provided port is already allocated" in taken.json["message"]
            if ending == "conflict":
                assert (await api.post(SERVICES, _service("slow"))).status == 201
            if ending == "time-out":
                await api.clock.advance(60.0)
            else:
                slow.go_on.set()
        assert answers[0].status == {"time-out": 504, "refusal": 403, "conflict": 409}[ending]
        assert (await api.post(SERVICES, _service("other", nodePort=30080))).status == 201


class Gate:
    """A writer that can be held: what is submitted then is committed once it is opened."""

    def __init__(self, inner: Inline) -> None:
        self._inner = inner
        self._jobs: list[Append | Work] | None = None

    def submit(self, job: Append | Work) -> None:
        if self._jobs is None:
            self._inner.submit(job)
        else:
            self._jobs.append(job)

    def hold(self) -> None:
        self._jobs = []

    def open(self) -> None:
        jobs, self._jobs = self._jobs or [], None
        for job in jobs:
            self._inner.submit(job)

    def close(self) -> None:
        self._inner.close()


def _gated() -> tuple[Store, Gate]:
    database = Database(None)
    gate = Gate(Inline(database))
    return Store(database, gate, Retention()), gate


async def test_a_write_given_up_on_its_way_to_the_disk_keeps_its_address(start: Any) -> None:
    """It is made after all: nobody else gets the port, neither before it is there nor afterwards."""
    gated, gate = _gated()
    async with start(gated) as api:
        gate.hold()
        late = await api.overdue(api.post(SERVICES, _service("late", nodePort=30080)))
        assert late.status == 504
        refused = await api.post(SERVICES, _service("other", nodePort=30080))
        assert "provided port is already allocated" in refused.json["message"]
        gate.open()
        assert (await api.get(f"{SERVICES}/late")).status == 200
        refused = await api.post(SERVICES, _service("other", nodePort=30080))
        assert "provided port is already allocated" in refused.json["message"]
        await api.delete(f"{SERVICES}/late")
        assert (await api.post(SERVICES, _service("other", nodePort=30080))).status == 201
    gated.close()


async def test_access_follows_a_write_that_was_given_up(start: Any) -> None:
    """A binding whose request ended before it was on disk counts as soon as it is."""
    gated, gate = _gated()
    async with start(gated) as api:
        bob = api.as_("bob", "system:authenticated")
        assert (await bob.get(CONFIG_MAPS)).status == 403
        binding = {
            "metadata": {"name": "bob"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
        }
        gate.hold()
        path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
        assert (await api.overdue(api.post(path, binding))).status == 504
        assert (await bob.get(CONFIG_MAPS)).status == 403
        gate.open()
        assert (await bob.get("/api/v1/namespaces/default/pods")).status == 200
    gated.close()


async def test_addresses_are_known_after_a_restart(start: Any, tmp_path: Any) -> None:
    """They are read from the Services, not from a book of their own."""
    path = tmp_path / "store.db"
    first = store.open_file(path)
    async with start(first) as api:
        assert (await api.post(SERVICES, _service("a", nodePort=30080))).status == 201
    first.close()
    second = store.open_file(path)
    async with start(second) as api:
        refused = await api.post(SERVICES, _service("b", nodePort=30080))
        assert "provided port is already allocated" in refused.json["message"]
    second.close()


async def test_addresses_are_known_though_their_history_is_forgotten(start: Any) -> None:
    """A server that nobody asked for an address for long reads the Services anew."""
    async with start() as api:
        assert (await api.post(SERVICES, _service("a", nodePort=30080))).status == 201
        assert (await api.post(SERVICES, _service("b", nodePort=30081))).status == 201
        await api.delete(f"{SERVICES}/b")
        await api.store.compact(api.store.revision)
        refused = await api.post(SERVICES, _service("c", nodePort=30080))
        assert "provided port is already allocated" in refused.json["message"]
        assert (await api.post(SERVICES, _service("c", nodePort=30081))).status == 201


async def test_a_value_two_writes_have_reserved_is_free_after_both() -> None:
    """Two updates of one object may hold the same."""
    reservations = Reservations(store.open_memory())
    with reservations.begin() as first:
        first.add("10.96.0.9")
        with reservations.begin() as second:
            second.add("10.96.0.9")
        assert "10.96.0.9" in reservations
    assert "10.96.0.9" not in reservations


async def test_plug_ins_run_in_their_order_plain_or_not() -> None:
    """Those for every kind first, then the kind's own; one that is plain costs no turn of the loop."""
    ran: list[str] = []

    def plain(parts: Any, context: Any, request: Any) -> None:
        del parts, context, request
        ran.append("plain")

    async def waiting(parts: Any, context: Any, request: Any) -> None:
        del parts, context, request
        await anyio.lowlevel.checkpoint()
        ran.append("waiting")

    async def own(parts: Any, context: Any, request: Any) -> None:
        del parts, context, request
        ran.append("own")

    kind: Any = type("Kind", (), {"type": "t"})
    served: Any = type("Served", (), {"kind": kind})
    chain = Chain(parts=_ANY, every=Plugins((waiting, plain), (plain,)), by_type={"t": Plugins((own,))})
    request = Request("create", served, "", {}, None)
    await chain.mutate(_ANY, request)
    assert ran == ["waiting", "plain", "own"]
    ran.clear()
    validating = chain.validate(_ANY, request)
    with pytest.raises(StopIteration):
        validating.send(None)  # done at once: it gave the event loop no turn
    assert ran == ["plain"]


_ANY: Any = None
