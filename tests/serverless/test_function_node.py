"""The server of Node.js functions, by the contract of faas-js-runtime."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.serverless import function_servers
from tests.serverless.function_servers import Served

from ondol.serverless.functions import languages

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="this machine has no Node.js")

CODE = """
const handle = async (context, body) => {
  const event = context.cloudevent;
  if (event) {
    if (event.type === 'boom') throw new Error('it broke');
    const builder = context.cloudEventResponse({ was: body.data });
    return builder.source('f').type('reply').id('r-' + event.id).response();
  }
  switch (context.query.say) {
    case 'nothing': return undefined;
    case 'text': return 'text';
    case 'object': return { a: 1 };
    case 'bytes': return Buffer.from('bytes');
    case 'all': return { statusCode: 201, headers: { 'X-A': 'b', 'content-type': 'text/plain' }, body: 'all'
    };
    case 'boom': throw Object.assign(new Error('no'), { statusCode: 451 });
    case 'break': throw new Error('it broke');
    default:
      context.log.warn({ a: 1 }, 'said %s', context.say);
      return { method: context.method, content: body, query: context.query, raw: context.rawBody };
  }
};
module.exports = {
  handle,
  init: () => console.log('init'),
  shutdown: () => console.log('shutdown'),
  readiness: () => { throw new Error('not yet'); },
};
"""


def serving(folder: Path, code: str = CODE) -> AbstractContextManager[Served]:
    (folder / "index.js").write_text(code, encoding="utf-8")
    (folder / "package.json").write_text('{"main": "index.js"}', encoding="utf-8")
    return function_servers.serving(["node", str(languages.node_server()), str(folder)], folder)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A function that can do everything, served."""
    with serving(tmp_path) as server:
        yield server


@pytest.mark.parametrize(
    ("word", "status", "content_type", "body"),
    [
        ("nothing", 204, "text/plain", b""),
        ("text", 200, "text/plain; charset=utf-8", b"text"),
        ("object", 200, "application/json; charset=utf-8", b'{"a":1}'),
        ("bytes", 200, "application/octet-stream", b"bytes"),
        ("all", 201, "text/plain", b"all"),
        ("boom", 451, "text/plain; charset=utf-8", b"no"),
        ("break", 500, "text/plain; charset=utf-8", b"it broke"),
    ],
)
def test_what_a_function_returns_is_answered(
    served: Served, word: str, status: int, content_type: str, body: bytes
) -> None:
    """Nothing, texts, objects, bytes, an answer in all its parts, and errors with or without a status."""
    answer = served.ask(f"/?say={word}")
    assert (answer.status, answer.headers.get("content-type"), answer.body) == (status, content_type, body)
    if word == "all":
        assert answer.headers["x-a"] == "b"


def test_a_request_is_a_context(served: Served) -> None:
    """JSON is parsed; what was sent is there too."""
    answer = served.ask("/?a=1&a=2&b=3", b'{"c": 4}', {"content-type": "application/json"})
    assert json.loads(answer.body) == {
        "method": "POST",
        "content": {"c": 4},
        "query": {"a": ["1", "2"], "b": "3"},
        "raw": '{"c": 4}',
    }
    line = json.loads(next(line for line in served.log.splitlines() if line.startswith("{")))
    assert (line["level"], line["a"]) == (40, 1)
    assert served.ask("/", b"{", {"content-type": "application/json"}).status == 400


def test_events_are_taken_and_answered(served: Served) -> None:
    """In binary and in structured mode; the reply is in binary mode."""
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    binary = served.ask("/", b'{"a":1}', {**headers, "content-type": "application/json"})
    structured = served.ask(
        "/",
        json.dumps({**attributes, "data": {"a": 1}}).encode(),
        {"content-type": "application/cloudevents+json"},
    )
    for answer in (binary, structured):
        assert (answer.headers["ce-type"], answer.headers["ce-id"]) == ("reply", "r-1")
        assert json.loads(answer.body) == {"was": {"a": 1}}
    assert served.ask("/", b"{}", {**headers, "ce-type": "boom"}).status == 500
    del headers["ce-source"]
    assert served.ask("/", b"{}", headers).status == 400
    assert served.ask("/", b"{}", {**headers, "ce-source": "/s", "ce-specversion": "9"}).status == 406


def test_life_begins_and_ends_with_the_function(served: Served) -> None:
    """`init` before the first request, `shutdown` after the last; health as it says."""
    assert served.ask("/health/liveness").body == b"OK"
    assert served.ask("/health/readiness").status == 500
    served.process.send_signal(signal.SIGTERM)
    assert served.ends() == 0
    assert served.log.splitlines()[0] == "init"
    assert served.log.splitlines()[-1] == "shutdown"


def test_a_handler_alone_is_a_function(tmp_path: Path) -> None:
    """And other forms of exports are said to be none."""
    with serving(tmp_path, "module.exports = () => 'alone';") as served:
        assert served.ask().body == b"alone"
    with pytest.raises(AssertionError), serving(tmp_path, "module.exports = { run() {} };"):
        pass
    assert "error: Function must export a handle function" in (tmp_path / "log").read_text(encoding="utf-8")
