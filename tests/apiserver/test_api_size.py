"""Many objects and many readers: what is long goes in turns, and who does not read costs little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol import apiserver, store
from ondol.api import fields, labels, resources
from ondol.apiserver import documents, kinds, selecting, watching
from ondol.apiserver.selecting import Chooser, Selection
from ondol.apiserver.served import Catalogue
from ondol.apiserver.state import State
from ondol.apiserver.turns import Turns, parts
from ondol.store import Record

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
PARTIAL = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"
MANY = 3_000
Make = Callable[..., dict[str, Any]]


def _fill(log: store.Store, count: int, size: int = 300) -> None:
    """Objects put straight into the store, which is much faster than one request each."""
    for number in range(count):
        revision = log.revision + 1
        metadata = {
            "name": f"c{number:05}",
            "namespace": "default",
            "uid": f"u{number}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"group": f"g{number % 100}", "even": "yes" if number % 2 == 0 else "no"},
        }
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": "x" * size}}
        value = documents.encode(document, revision)
        log._apply("configmaps", Record(f"default/c{number:05}", revision, value), deleted=False)


_LABELS = st.dictionaries(st.sampled_from(["a", "b", "x.io/a"]), st.sampled_from(["", "a", "b", "10"]))
_STORE = store.open_memory()
_CATALOGUE = Catalogue(kinds.BUILTIN.served())
_NAME = st.sampled_from(["a", "true", "x,y", 'q"b', "10", "über"])


@st.composite
def _pods(draw: st.DrawFn) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": draw(st.sampled_from(["a", "b"])), "namespace": "n"}
    chosen = draw(st.none() | _LABELS)
    if chosen is not None or draw(st.booleans()):
        metadata["labels"] = chosen
    spec = {"nodeName": draw(_NAME), "hostNetwork": draw(st.booleans()), "restartPolicy": draw(_NAME)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@given(
    pod=_pods(),
    label=st.sampled_from(
        ["", "a=a", "a==b", "a!=a", "a", "!a", "a in (a,b)", "b notin (a)", "x.io/a=a,b", "a>5", "a=,b=a"]
    ),
    terms=st.lists(
        st.builds(
            fields.Term,
            st.sampled_from(["metadata.name", "metadata.namespace", "spec.nodeName", "spec.hostNetwork"]),
            st.one_of(st.sampled_from(["n", "false", ""]), _NAME),
            st.booleans(),
        ),
        max_size=2,
    ),
)
def test_what_is_chosen_by_its_bytes_is_what_the_document_says(
    pod: dict[str, Any], label: str, terms: list[fields.Term]
) -> None:
    """Ruling objects out unparsed never changes the answer."""
    chosen = Selection("", labels.parse(label), fields.Selector(tuple(terms)))
    state = State(_STORE, _CATALOGUE)  # a new one, since it knows objects by their revision
    chooser = Chooser(state, _CATALOGUE.of(resources.POD), chosen)
    record = Record(f"n/{pod['metadata']['name']}", 7, documents.encode(pod, 7))
    by_document = chosen.label.matches(pod["metadata"].get("labels") or {}) and fields.matches(
        chosen.field, resources.POD, pod
    )
    assert chooser(record) is by_document


def test_what_a_selector_pins_rules_most_objects_out_unparsed() -> None:
    """Equality, membership and presence stand in the bytes; negations and numbers do not tell."""
    label = labels.parse("app=a,tier in (b,c),x,!y,z!=1")
    field = fields.parse("spec.nodeName=n1,spec.hostNetwork=false,metadata.namespace!=q")
    assert selecting.needles(label, field) == [
        (b'"app":"a"',),
        (b'"tier":"b"', b'"tier":"c"'),
        (b'"x":',),
        (b'"n1"',),
    ]


async def test_turns_go_round_the_users_one_in_each_round() -> None:
    """Whoever has much to do waits for those with little, and never two work in one round."""
    turns, order, rounds = Turns(), list[tuple[str, int]](), 0

    async def work(user: str, slices: int) -> None:
        for _ in range(slices):
            await turns.next(user)
            order.append((user, rounds))

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        async with anyio.create_task_group() as workers:
            for _ in range(3):
                workers.start_soon(work, "much", 4)
            workers.start_soon(work, "little", 2)
        group.cancel_scope.cancel()
    assert len({number for _, number in order}) == len(order) == 14
    assert [user for user, _ in order[:6]].count("little") == 2


async def test_who_gives_up_waiting_leaves_the_turn_to_the_next() -> None:
    """A request that is cancelled, before its turn or with it, holds up nobody."""
    turns = Turns()
    for waits in range(4):
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(turns.next, "a")
                group.start_soon(anyio.lowlevel.checkpoint)
                for _ in range(waits):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
                await turns.next("b")
        with anyio.fail_after(1):
            await turns.next("c")


def test_parts_are_bounded_by_size_and_lose_nothing() -> None:
    """Large records go alone, small ones together."""
    records = [Record(str(n), n, b"x" * size) for n, size in enumerate([10, 10, 500, 10, 10, 10])]
    sliced = list(parts(records, 400))
    assert [record for part in sliced for record in part] == records
    assert [len(part) for part in sliced] == [3, 3]


async def test_what_costs_more_goes_in_smaller_slices() -> None:
    """A selector of many terms holds the others no longer than one of few."""
    records = [Record(str(n), n, b"x") for n in range(1000)]
    cheap = [len(part) async for part in Turns().slices("a", records)]
    dear = [len(part) async for part in Turns().slices("a", records, cost=10)]
    assert sum(cheap) == sum(dear) == len(records)
    assert max(dear) <= max(cheap) // 9
    few, many = (Selection("", labels.parse(",".join(["!a"] * n)), fields.Selector()) for n in (1, 100))
    assert (few.cost, many.cost) == (1, 11)


def test_many_values_are_not_looked_for_in_the_bytes() -> None:
    """Reading the labels once is cheaper than to look for each of a thousand values."""
    values = ",".join(f"v{number}" for number in range(1000))
    assert selecting.needles(labels.parse(f"a in ({values}),b=c"), fields.Selector()) == [(b'"b":"c"',)]


@pytest.mark.parametrize("query", ["labelSelector=group%3Dg7", "labelSelector=even!%3Dyes,group%3Dg7"])
async def test_others_are_answered_while_a_long_selection_goes_on(
    api: Any, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """A selector looks at a few hundred objects in a round of the loop, and parses none it can rule out."""
    _fill(api.store, MANY)
    parsed = 0
    whole = documents.parse

    def counting(value: bytes) -> Any:
        nonlocal parsed
        parsed += 1
        return whole(value)

    monkeypatch.setattr(documents, "parse", counting)
    answered = list[str]()

    async def ask(name: str, target: str) -> None:
        answer = await api.get(target)
        assert answer.status == 200
        answered.append(name)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask, "long", f"{CMS}?{query}")
        await anyio.lowlevel.checkpoint()
        group.start_soon(ask, "short", f"{CMS}/c00001")
    assert answered[0] == "short"
    assert parsed == 0
    listed = (await api.get(f"{CMS}?{query}")).json["items"]
    names = [f"c{n:05}" for n in range(7, MANY, 100)]
    assert [item["metadata"]["name"] for item in listed] == names


async def test_a_watch_with_a_selector_opens_in_turns(api: Any) -> None:
    """Many of them that begin with thousands of objects leave room for a request between."""
    _fill(api.store, MANY)
    target = f"{CMS}?watch=true&labelSelector=group%3Dg42"
    async with api.watch(target) as first, api.watch(target) as second:
        assert (await api.get(f"{CMS}/c00001")).status == 200
        for watch in (first, second):
            names = [(await watch.next())["object"]["metadata"]["name"] for _ in range(MANY // 100)]
            assert names == [f"c{n:05}" for n in range(42, MANY, 100)]


@pytest.mark.parametrize("limit", ["", "limit=1000"])
@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/yaml",
        PARTIAL.format("List"),
        PARTIAL.format("List").replace("json", "yaml"),
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    ],
)
async def test_a_long_list_is_the_same_in_every_form(api: Any, accept: str, limit: str) -> None:
    """Written piece by piece or whole, in JSON or YAML, for machines and for people."""
    _fill(api.store, 1_200, size=800)
    listed = await api.get(f"{CMS}?{limit}", accept=accept)
    document = _read(listed)
    items = document["rows"] if document["kind"] == "Table" else document["items"]
    assert len(items) == (1_000 if limit else 1_200)
    assert document["metadata"]["resourceVersion"] == str(api.store.revision)
    assert ("continue" in document["metadata"]) is bool(limit)
    names = [(item.get("object") or item)["metadata"]["name"] for item in items]
    assert names == sorted(names)
    if "Partial" in accept:
        assert document["kind"] == "PartialObjectMetadataList"
        assert {item["kind"] for item in items} == {"PartialObjectMetadata"}
        assert set(items[0]) == {"kind", "apiVersion", "metadata"}
    people = await api.get(f"{CMS}?{limit}&pretty=true", accept=accept)
    assert _read(people) == document
    if "yaml" not in accept:
        assert people.body == msgspec.json.format(people.body.strip(), indent=2) + b"\n"


def _read(answer: Any) -> Any:
    if "yaml" in answer.headers["content-type"]:
        return msgspec.yaml.decode(answer.body)
    return answer.json


@pytest.mark.parametrize("accept", ["application/json", "application/yaml", PARTIAL.format("List")])
@pytest.mark.parametrize("query", ["", "?pretty=true"])
async def test_an_empty_list_has_items_too(api: Any, accept: str, query: str) -> None:
    """Clients read the items of a list without asking whether there are any."""
    assert _read(await api.get(f"{CMS}{query}", accept=accept))["items"] == []


@pytest.mark.parametrize("accept", ["application/json", PARTIAL.format("")])
async def test_an_event_is_encoded_once_for_all_its_watchers(
    api: Any, config_map: Make, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    """Those who are shown the same get the same bytes; a selector only chooses among them."""
    encoded: list[str] = []
    real = watching.frame

    def noting(kind: str, value: bytes) -> bytes:
        encoded.append(kind)
        return real(kind, value)

    monkeypatch.setattr(watching, "frame", noting)
    target = f"{CMS}?watch=true&resourceVersion={api.store.revision}"
    async with (
        api.watch(target, accept=accept) as first,
        api.watch(target, accept=accept) as second,
        api.watch(f"{target}&labelSelector=a%3Db", accept=accept) as third,
    ):
        await api.post(CMS, config_map("a", labels={"a": "b"}))
        await api.patch(f"{CMS}/a", {"data": {"k": "v"}})
        await api.delete(f"{CMS}/a")
        stories = [[await watch.next() for _ in range(3)] for watch in (first, second, third)]
    assert stories[0] == stories[1] == stories[2]
    assert [event["type"] for event in stories[0]] == encoded == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_watcher_who_does_not_read_is_cut_off(start: Any, config_map: Make) -> None:
    """After a while without reading a piece it is let go, with what was kept for it."""
    async with start(config=apiserver.ApiConfig(bookmark_interval_s=60.0)) as api:
        sent: list[dict[str, Any]] = []
        over = anyio.Event()

        async def receive() -> dict[str, Any]:
            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if len(sent) > 2:
                await anyio.sleep_forever()

        async def watch() -> None:
            await api.app(api._scope("GET", f"{CMS}?watch=true", {}), receive, send)
            over.set()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await api.settle()
            await api.post(CMS, config_map("a"))
            await api.settle()
            await api.clock.advance(60)
            assert not over.is_set()
            await api.clock.advance(60)
            await api.settle()
            assert over.is_set()
        assert sent[-1].get("more_body"), "cut off, so that it is not taken for the end"
        assert not api.store._bucket("configmaps").waiting


async def test_a_watcher_who_does_not_read_keeps_one_piece(start: Any, config_map: Make) -> None:
    """What it has not taken is not kept for it: it holds no more than a connection buffers anyway."""
    log = store.open_memory(store.Retention(events=500))
    async with start(log) as api:
        pieces: list[bytes] = []

        async def receive() -> dict[str, Any]:
            await anyio.sleep_forever()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            pieces.append(message.get("body", b""))
            if len(pieces) > 2:
                await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(
                api.app, api._scope("GET", f"{CMS}?watch=true&resourceVersion=1", {}), receive, send
            )
            await api.settle()
            for number in range(400):
                revision = log.revision + 1
                record = Record(f"default/x{number}", revision, b'{"metadata":{"k":"%b"}}' % (b"x" * 2000))
                log._apply("configmaps", record, deleted=False)
            await api.settle()
            assert 60_000 < len(pieces[-1]) < 140_000
            group.cancel_scope.cancel()
    log.close()
