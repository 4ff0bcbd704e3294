"""Whatever is sent, the answer is the client's fault or a success: never a fault of the server."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import urllib.parse
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.apiserver import malformed
from tests.apiserver.malformed import SEEDS, THINGS

from ondol.api.objects import Object

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["", "-", "1Gi", "0", "a/b", "A" * 300, "2001-01-01T00:00:00Z", "\x00", "é"]),
)
_JUNK = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
_QUERIES = st.sampled_from(["", "", "", "?dryRun=All", "?fieldValidation=Strict", "?fieldManager=m"])


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    paths = [path] if path else []
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in entries:
        paths += _paths(item, (*path, key))
    return paths


def _mutate(document: Object, path: tuple[Any, ...], junk: Any, *, drop: bool) -> None:
    holder: Any = document
    for key in path[:-1]:
        holder = holder[key]
    if drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = junk


@st.composite
def _broken(draw: st.DrawFn) -> tuple[str, Object]:
    target = draw(st.sampled_from(sorted(SEEDS)))
    document: Object = {
        "metadata": {
            "name": "things.example.org" if "customresource" in target else "fuzz",
            "labels": {"a": "b"},
        },
        **copy.deepcopy(SEEDS[target]),
    }
    for _ in range(draw(st.integers(1, 3))):
        paths = _paths(document)
        if paths:
            _mutate(document, draw(st.sampled_from(paths)), draw(_JUNK), drop=draw(st.booleans()))
    return target, document


@st.composite
def _patches(draw: st.DrawFn) -> tuple[str, str, Any]:
    target = draw(st.sampled_from(sorted(t for t in SEEDS if "review" not in t)))
    kind = draw(
        st.sampled_from(
            ["merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml", "json-patch+json"]
        )
    )
    if kind == "json-patch+json":
        pointer = st.sampled_from(
            ["/spec", "/metadata/labels/a", "/metadata", "/spec/ports/0", "/data/k", "", "x"]
        )
        step = st.fixed_dictionaries(
            {
                "op": st.sampled_from(["add", "remove", "replace", "test", "move", "copy", "jump"]),
                "path": pointer,
            },
            optional={"value": _JUNK, "from": pointer},
        )
        return target, kind, draw(st.lists(step, max_size=3) | _JUNK)
    document = copy.deepcopy(SEEDS[target])
    paths = _paths(document)
    _mutate(document, draw(st.sampled_from(paths)), draw(_JUNK), drop=draw(st.booleans()))
    return target, kind, draw(st.sampled_from([document, {"metadata": draw(_JUNK)}, draw(_JUNK)]))


@pytest.fixture
def call(start: Any) -> Any:
    """Runs one exchange with a fresh server that has one object of each kind."""

    def run(*requests: tuple[str, str, Any, dict[str, str]]) -> list[Any]:
        async def main() -> list[Any]:
            async with start() as api:
                await api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", THINGS)
                await api.settle()
                answers = []
                for method, target, body, headers in requests:
                    answers.append(await api(method, target, body, headers))
                    await api.settle()
                return answers

        return anyio.run(main)

    return run


_SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(_broken(), _QUERIES)
@_SETTINGS
def test_no_document_breaks_the_server(call: Any, case: tuple[str, Object], query: str) -> None:
    """A create of anything is answered with what is wrong, or done; and then it can be read and deleted."""
    target, document = case
    created, listed, tabled = call(
        ("POST", f"{target}{query}", document, {}),
        ("GET", target, None, {}),
        ("GET", target, None, {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}),
    )
    assert created.status < 500, created.json
    assert listed.status < 500 and tabled.status < 500  # noqa: PT018 - one statement about both


@given(_patches())
@_SETTINGS
def test_no_patch_breaks_the_server(call: Any, case: tuple[str, str, Any]) -> None:
    """A patch of anything with anything likewise."""
    target, kind, patch = case
    name = "things.example.org" if "customresource" in target else "fuzz"
    document = {"metadata": {"name": name, "labels": {"a": "b"}}, **copy.deepcopy(SEEDS[target])}
    _, patched, put = call(
        ("POST", target, document, {}),
        ("PATCH", f"{target}/{name}?fieldManager=m", patch, {"content-type": f"application/{kind}"}),
        ("PUT", f"{target}/{name}", patch, {}),
    )
    assert patched.status < 500, patched.json
    assert put.status < 500, put.json


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "watch",
                "limit",
                "continue",
                "resourceVersion",
                "resourceVersionMatch",
                "labelSelector",
                "fieldSelector",
                "timeoutSeconds",
                "sendInitialEvents",
                "allowWatchBookmarks",
                "dryRun",
                "pretty",
            ]
        ),
        st.text(max_size=6)
        | st.sampled_from(["true", "0", "1", "a=b", "a in (b)", "Exact", "e30", "-1", "metadata.name=a"]),
        max_size=4,
    ).filter(lambda q: not q.get("watch") and q.get("resourceVersion", "0") in ("", "0", "1"))
)
@_SETTINGS
def test_no_query_breaks_the_server(call: Any, query: dict[str, str]) -> None:
    """Nor does any query."""
    text = urllib.parse.urlencode(query)
    (answer,) = call(("GET", f"/api/v1/namespaces/default/configmaps?{text}", None, {}))
    assert answer.status < 500, answer.json


_SEED = int(os.environ.get("ONDOL_MALFORMED_SEED", "1"))
_COUNT = int(os.environ.get("ONDOL_MALFORMED_REQUESTS", "3000"))
"""More with this variable; a number that failed comes again from the seed."""


async def _exchange(server: Any, case: malformed.Malformed) -> tuple[int, dict[str, str], bytes]:
    """Send one; who waits for what never comes waits a minute of the server's clock, then goes."""
    path, _, query = case.target.partition("?")
    scope = {
        "type": "http",
        "method": case.method,
        "path": urllib.parse.unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in case.headers],
        "ondol.identity": {"name": "admin", "groups": ["system:masters"]},
    }
    sent: list[Any] = []
    is_received, is_streaming, is_over = anyio.Event(), anyio.Event(), anyio.Event()

    async def receive() -> dict[str, Any]:
        if is_received.is_set():
            await is_streaming.wait()
            return {"type": "http.disconnect"}
        is_received.set()
        return {"type": "http.request", "body": case.body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.start" and b"content-length" not in dict(message["headers"]):
            is_streaming.set()

    async def run() -> None:
        await server.app(scope, receive, send)
        is_over.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        while not is_over.is_set():
            await anyio.wait_all_tasks_blocked()
            if not is_over.is_set():
                is_streaming.set()
                await server.clock.advance(10.0)
    start, *chunks = sent
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    return start["status"], headers, b"".join(chunk.get("body", b"") for chunk in chunks)


def _fault(case: malformed.Malformed, status: int, headers: dict[str, str], body: bytes) -> str:
    """What is wrong with an answer; empty is nothing."""
    if status >= 500 and status not in {501, 503, 504}:
        return f"status {status}"
    if status < 400 or case.method == "HEAD" or not headers.get("content-type", "").endswith("json"):
        return ""
    answer = msgspec.json.decode(body)
    if answer.get("kind") != "Status":  # reviews and Tables of refusals have none
        return f"{status} without a Status"
    is_whole = all(isinstance(answer.get(field), str) for field in ("message", "reason"))
    return "" if answer.get("code") == status and is_whole else f"not a whole Status: {body!r}"


async def _send_all(server: Any, numbers: range) -> list[str]:
    """The faults of the answers, in words."""
    faults = []
    for number in numbers:
        case = malformed.request(_SEED, number)
        try:
            fault = _fault(case, *await _exchange(server, case))
        except Exception as error:  # noqa: BLE001 - each is a fault
            fault = f"{type(error).__name__}: {error}"
        if fault:
            faults.append(f"{number}: {case.method} {case.target[:200]} {case.body[:200]!r}: {fault}")
    return faults


@pytest.mark.timeout(1800)
def test_malformed_requests_are_refused_in_form(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """No fault of the server's, no traceback, a whole Status; nothing is left behind; and it goes on."""

    async def main() -> None:
        async with start() as api:
            await api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", THINGS)
            await api.settle()
            few = range(min(_COUNT, 600))
            faults = await _send_all(api, few)
            await api.settle()
            tasks, objects = len(asyncio.all_tasks()), _living()
            faults += await _send_all(api, few)
            await api.settle()
            assert len(asyncio.all_tasks()) <= tasks
            # The same again leaves no more than the past that the store keeps, which is bounded.
            assert _living() - objects < 25 * len(few), "objects of Python are left behind"
            faults += await _send_all(api, range(len(few), _COUNT))
            assert not faults, "\n".join([f"{len(faults)} faults of {_COUNT}", *faults[:40]])
            written = await api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "after"}})
            assert written.status == 201
            assert (await api.get("/api/v1/namespaces/default/configmaps/after")).status == 200

    anyio.run(main)
    output = capfd.readouterr()
    assert "Traceback" not in output.out + output.err


def _living() -> int:
    gc.collect()
    return len(gc.get_objects())
