"""Fairness: what one user sends, slowly or largely, keeps no other one from being answered."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest

from ondol import apiserver
from ondol.apiserver import documents, heavy
from ondol.apiserver.auth.identity import MASTERS, User
from ondol.apiserver.connections import Connection
from ondol.apiserver.documents import Views
from ondol.apiserver.flight import Body, Flight, Places
from ondol.apiserver.heavy import HEAVY_BYTES, Heavy
from ondol.apiserver.ports import CONNECTION
from ondol.base import errors, memory
from ondol.store import Record

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
APPLY = "application/apply-patch+yaml"
ANN, BEN = User("ann"), User("ben")
Make = Callable[..., dict[str, Any]]


class _Slow:
    """A client that begins to send a body, and ends it when it is told to."""

    def __init__(self, api: Any, name: str = "ann", groups: tuple[str, ...] = ("system:masters",)) -> None:
        self._api = api
        self._user = (name, groups)
        self.rest = anyio.Event()
        self.sent: list[dict[str, Any]] = []

    async def create(self, body: bytes = b'{"metadata":{"name":"slow"}}', begin: int = 5) -> None:
        pieces = [body[:begin], body[begin:]]

        async def receive() -> dict[str, Any]:
            if len(pieces) == 1:
                await self.rest.wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        caller = self._api.as_(self._user[0], *self._user[1])
        await self._api.app(caller._scope("POST", CMS, {"content-type": "application/json"}), receive, send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"]) if self.sent else 0


async def test_slow_bodies_take_no_place_among_the_writes(start: Any, config_map: Make) -> None:
    """Others write while they arrive; once they are here they are written."""
    async with start(config=apiserver.ApiConfig(writes_in_flight_max=2)) as api:
        slow = [_Slow(api) for _ in range(4)]
        async with anyio.create_task_group() as group:
            for client in slow:
                group.start_soon(client.create)
            await anyio.wait_all_tasks_blocked()
            turned = await api.post(CMS, config_map("a"))
            assert turned.status == 429, "as many arrive as may: twice the writes"
            slow[0].rest.set()
            await anyio.wait_all_tasks_blocked()
            assert slow[0].status == 201
            assert (await api.post(CMS, config_map("a"))).status == 201
            for client in slow:
                client.rest.set()


async def test_a_body_that_does_not_arrive_in_time_ends_its_connection(start: Any) -> None:
    """504, and the connection is closed: what is left of the body is not the next request."""
    async with start() as api, anyio.create_task_group() as group:
        slow = _Slow(api)
        group.start_soon(slow.create)
        await api.settle()
        await api.clock.advance(29.0)
        assert slow.status == 0, "it has half a minute"
        await api.clock.advance(1.0)
        assert slow.status == 504
        assert (b"connection", b"close") in slow.sent[0]["headers"]
        assert b"did not arrive" in slow.sent[1]["body"]


class _Asking:
    """A client with a connection of its own."""

    def __init__(self, api: Any, name: str, *groups: str) -> None:
        self._api = api
        self._caller = api.as_(name, *groups)
        self.connection = Connection("10.0.0.1")

    async def get(self, headers: dict[str, str] | None = None) -> tuple[int, bool]:
        """The status, and whether the connection ends with the answer."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = self._caller._scope("GET", CMS, headers or {})
        await self._api.app({**scope, CONNECTION: self.connection}, receive, send)
        return sent[0]["status"], (b"connection", b"close") in sent[0]["headers"]


async def test_a_users_connections_are_bounded_and_the_last_is_told(start: Any) -> None:
    """Who opens too many is refused on the next, which is closed; others, and those they have, go on."""
    async with start(config=apiserver.ApiConfig(connections_max=5)) as api:
        first, second, third = (_Asking(api, "ann") for _ in range(3))
        allowed = await first.get()
        assert allowed[1] is False
        assert await second.get() == allowed
        assert await third.get() == (429, True)
        assert not third.connection.is_authenticated
        assert await first.get() == allowed
        root, ben = _Asking(api, "root", MASTERS), _Asking(api, "ben")
        assert await root.get() == (200, False)
        assert await ben.get() == allowed
        for closed in (second, root, ben):
            closed.connection.lost()
        assert await third.get() == allowed


async def test_who_acts_for_another_pays_for_the_connection(start: Any) -> None:
    """It counts among those of who opened it, whoever they say they are in one request or the next."""
    async with start(config=apiserver.ApiConfig(connections_max=5)) as api:
        for name in ("ann", "ben", "eve"):
            asking = _Asking(api, "root", MASTERS)
            assert (await asking.get({"impersonate-user": name}))[0] == 403
        assert await _Asking(api, "ann").get() == (403, False)


async def test_a_body_that_is_late_still_has_the_time_of_a_write(
    start: Any, config_map: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for the body ends with the body."""
    async with start() as api:
        append = api.store.append

        async def slowly(*args: Any, **named: Any) -> Any:
            await api.clock.sleep(45.0)
            return await append(*args, **named)

        monkeypatch.setattr(api.store, "append", slowly)
        assert (await api.overdue(api.post(CMS, config_map("a")), seconds=45.0)).status == 201


def _filled(places: Places, user: User) -> int:
    """How many places a user gets who takes all there are."""
    count = 0
    with contextlib.suppress(errors.TooManyRequests):
        while True:
            places.take(user)
            count += 1
    return count


def test_a_tenant_has_as_many_places_as_it_leaves_free() -> None:
    """Half of them alone, and the next one half of the rest; what is given back is there again."""
    places = Places(7)
    assert _filled(places, ANN) == 3
    assert _filled(places, BEN) == 2
    places.give_back(ANN, 2)
    assert _filled(places, ANN) == 1
    assert _filled(Places(1), ANN) == 1


def test_places_are_kept_for_the_platform_however_many_tenants_there_are() -> None:
    """Each takes what it can get: an eighth is left to administrators, parts and nodes."""
    places = Places(80)
    assert sum(_filled(places, User(f"user-{number}")) for number in range(100)) == 70
    assert _filled(places, User("system:node:n", ("system:nodes",))) == 10


def test_the_service_accounts_of_a_namespace_share_one_account() -> None:
    """Who may make one may make as many as they like."""
    places = Places(8)
    assert _filled(places, User("system:serviceaccount:red:a")) == 3
    assert _filled(places, User("system:serviceaccount:red:b")) == 0
    assert _filled(places, User("system:serviceaccount:blue:a")) == 2


def test_the_platform_may_have_all_places() -> None:
    """Administrators and the platform's own parts work for everybody."""
    places = Places(4)
    for user in (User("root", ("system:masters",)), User("system:ondol:control")):
        places.take(user, 4)
        with pytest.raises(errors.TooManyRequests):
            places.take(ANN)
        places.give_back(user, 4)


def test_bodies_are_bounded_by_their_bytes_together() -> None:
    """A refused piece costs nothing, and all room is given back at the end."""
    flight = Flight(apiserver.ApiConfig(bodies_bytes_max=1000))
    for _ in range(3):
        with Body(flight, ANN) as grow:
            grow(300)
            grow(100)
            with pytest.raises(errors.TooManyRequests):
                grow(50)
            with Body(flight, BEN) as other:
                other(200)
                with pytest.raises(errors.TooManyRequests):
                    other(50)
    with pytest.raises(errors.TooManyRequests), Body(flight, ANN) as grow:
        grow(438)
    flight.body_bytes.take(User("root", ("system:masters",)), 1000)


async def test_bodies_beyond_the_bound_are_turned_away_while_they_arrive(start: Any) -> None:
    """429 at the piece that is too much, and the connection is closed."""
    async with start(config=apiserver.ApiConfig(bodies_bytes_max=100_000)) as api:
        slow = _Slow(api)
        await slow.create(b" " * 200_000, begin=150_000)
        assert slow.status == 429
        assert (b"connection", b"close") in slow.sent[0]["headers"]


async def test_large_documents_are_worked_on_beside_the_loop(
    api: Any, config_map: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading, merging, tracking of owners and validation of a large document leave the loop free."""
    threads: list[tuple[str, bool]] = []
    real = heavy.Heavy.run

    async def noting(self: Heavy, user: str, size_bytes: int, work: Callable[[], Any]) -> Any:
        def noted() -> Any:
            threads.append((user, threading.current_thread() is threading.main_thread()))
            return work()

        return await real(self, user, size_bytes, noted)

    monkeypatch.setattr(heavy.Heavy, "run", noting)
    large = {f"k{n}": "v" * 10 for n in range(HEAVY_BYTES // 10)}
    asks: list[Callable[[], Awaitable[Any]]] = [
        lambda: api.post(CMS, config_map("a", large)),
        lambda: api.patch(f"{CMS}/a", {"data": {"k1": "w"}}),
        lambda: api.apply(f"{CMS}/a", config_map("a", large), "m", force=True),
        lambda: api.put(f"{CMS}/a", config_map("a", {**large, "k2": "u"})),
        lambda: api.get(f"{CMS}/a", accept="application/yaml"),
        lambda: api.get(f"{CMS}/a", accept="application/json;as=Table;v=v1;g=meta.k8s.io"),
    ]
    for ask in asks:
        threads.clear()
        assert (await ask()).status in (200, 201)
        assert ("admin", False) in threads
    threads.clear()
    assert (await api.post(CMS, config_map("small"))).status == 201
    assert all(main for _, main in threads)


async def test_a_large_answer_is_what_a_small_one_would_be(api: Any, config_map: Make) -> None:
    """The status, the type and the whole document, however it was put together."""
    large = {f"k{n}": "v" * 10 for n in range(HEAVY_BYTES // 10)}
    created = await api(
        "POST",
        CMS,
        config_map("a", large),
        {"accept": "application/yaml", "content-type": "application/json"},
    )
    assert (created.status, created.headers["content-type"]) == (201, "application/yaml")
    assert msgspec.yaml.decode(created.body) == (await api.get(f"{CMS}/a")).json
    partial = await api.get(f"{CMS}/a", accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
    assert partial.json["metadata"] == (await api.get(f"{CMS}/a")).json["metadata"]
    assert set(partial.json) == {"kind", "apiVersion", "metadata"}


async def test_writes_of_a_large_document_are_decided_on_what_is_there(api: Any, config_map: Make) -> None:
    """What others write to the object while one is worked on is not lost."""
    large = {f"k{n}": "v" * 10 for n in range(HEAVY_BYTES // 10)}
    await api.post(CMS, config_map("a", large))
    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(api.patch, f"{CMS}/a", {"data": {f"n{number}": "w"}})
    data = (await api.get(f"{CMS}/a")).json["data"]
    assert {f"n{number}" for number in range(8)} <= set(data)


async def test_heavy_work_goes_one_at_a_time_round_the_users() -> None:
    """A user with much of it holds another one up by one work, not by all of them."""
    work, order, running = Heavy(), list[str](), 0

    async def one(user: str) -> None:
        def run() -> None:
            nonlocal running
            running += 1
            assert running == 1
            order.append(user)
            running -= 1

        await work.run(user, HEAVY_BYTES, run)

    usual_s = sys.getswitchinterval()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one, "much")
        group.start_soon(one, "little")
    assert order == ["much", "much", "little", "much", "much", "much"] or order.index("little") <= 2
    assert sys.getswitchinterval() == usual_s


async def test_heavy_work_that_fails_or_is_given_up_makes_room() -> None:
    """Its error reaches the caller, and the next one gets its turn."""
    work = Heavy()

    def failing() -> None:
        raise errors.BadRequest("no")

    with pytest.raises(errors.BadRequest):
        await work.run("a", HEAVY_BYTES, failing)
    gate = threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(work.run, "a", HEAVY_BYTES, gate.wait)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05):
            await work.run("b", HEAVY_BYTES, failing)
        gate.set()
        with anyio.fail_after(5):
            assert await work.run("c", HEAVY_BYTES, lambda: 3) == 3


def test_parsed_documents_are_kept_by_their_size_too() -> None:
    """A few hundred large objects must not fill the memory, and one very large is not kept at all."""
    views = Views()
    for number in range(100):
        record = Record("a", number, documents.dump({"k": "x" * 500_000}))
        assert views.of(record, None, bytes)["k"][:1] == "x"
    assert 10 < len(views._parsed) < 40
    assert views._size_bytes == sum(views._sizes.values()) <= 16 * 1024 * 1024
    views.of(Record("a", 200, documents.dump({"k": "x" * 2_000_000})), None, bytes)
    assert (200, None) not in views._parsed


def test_free_memory_can_be_given_back() -> None:
    """Wherever the C library has a call for it, and nothing happens elsewhere."""
    memory.give_back()
