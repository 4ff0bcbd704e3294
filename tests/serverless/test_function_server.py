"""The server of Python functions: its contract, its connections, and asyncio taken up on the way."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.serverless import function_servers
from tests.serverless.function_servers import Served

from ondol.serverless.functions import languages

CODE = """
import sys
print("imported asyncio" if "asyncio" in sys.modules else "no asyncio")

async def text(send, body, status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})

class Function:
    def __init__(self):
        self.waiting = None
    async def handle(self, scope, receive, send):
        name = scope["path"][1:].replace("/", "_") or "echo"
        await getattr(self, name)(scope, receive, send)
    async def echo(self, scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        facts = {k: scope[k] for k in ("method", "path", "http_version", "type", "scheme")}
        facts["query"] = scope["query_string"].decode()
        facts["headers"] = {k.decode(): v.decode() for k, v in scope["headers"]}
        facts["body"] = body.decode()
        import json
        await text(send, json.dumps(facts).encode())
    async def boom(self, scope, receive, send):
        raise ValueError("it broke")
    async def late_boom(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("it broke late")
    async def nothing(self, scope, receive, send):
        pass
    async def exit(self, scope, receive, send):
        raise SystemExit(3)
    async def stream(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"a", b"", b"bc"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
    async def large(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body"})
    async def none(self, scope, receive, send):
        await text(send, b"", 204)
    async def split(self, scope, receive, send):
        await text(send, b"", 200, [(b"a", b"b\\r\\nc: d")])
    async def gone(self, scope, receive, send):
        await receive()
        message = await receive()
        print("then:", message["type"])
    async def wait(self, scope, receive, send):
        await receive()
        print("waits")
        await receive()
        print("waited")
    async def sleep(self, scope, receive, send):
        import asyncio
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(30)
        except TimeoutError:
            pass
        await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(int))
        assert asyncio.current_task() is task
        await text(send, b"slept")
    async def foreign(self, scope, receive, send):
        class Never:
            def __await__(self):
                yield "nobody's"
        await Never()
    def start(self, cfg):
        print("start", cfg["MARK"])
    def stop(self):
        print("stop")
    def alive(self):
        return True, "well"
    def ready(self):
        return False

def new():
    return Function()
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A function that can do everything, served."""
    with function_servers.python(tmp_path, CODE, env={"MARK": "x"}) as server:
        yield server


def test_a_request_is_a_scope(served: Served) -> None:
    """Method, path, query, headers and body as ASGI names them."""
    facts = json.loads(served.ask("/?a=b", b"hello", {"X-A": "b"}).body)
    assert facts["method"] == "POST"
    assert (facts["path"], facts["query"], facts["body"]) == ("/", "a=b", "hello")
    assert facts["headers"]["x-a"] == "b"
    assert facts["http_version"] == "1.1"


def test_a_function_is_started_and_stopped(served: Served) -> None:
    """With the environment, and after a SIGTERM; the process ends well."""
    assert served.ask("/none").status == 204
    served.process.send_signal(signal.SIGTERM)
    assert served.ends() == 0
    assert served.log.splitlines() == ["no asyncio", "start x", "stop"]


def test_health_is_what_the_function_says(served: Served) -> None:
    """A verdict alone, or with words."""
    assert served.ask("/health/liveness").body == b"well"
    ready = served.ask("/health/readiness")
    assert (ready.status, ready.body) == (500, b"OK")


def test_a_function_that_raises_is_answered_for(served: Served) -> None:
    """500 with its words, and the next request is answered."""
    answer = served.ask("/boom")
    assert (answer.status, answer.body) == (500, b"Error: it broke")
    assert "ValueError: it broke" in served.log
    assert served.ask("/nothing").status == 500
    assert served.ask("/split").status == 500
    assert served.ask("/foreign").body.startswith(b"Error: a function awaits with asyncio")
    assert served.ask("/none").status == 204


def test_an_answer_that_breaks_off_is_seen_to(served: Served) -> None:
    """What has gone out cannot be called back: the connection ends before the body does."""
    answer = served.raw(b"GET /late/boom HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"half" in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_a_function_that_exits_ends_the_process(served: Served) -> None:
    """The request is answered 500 first, so that nobody waits; the platform starts it again."""
    assert served.ask("/exit").status == 500
    assert served.ends() == 3


def test_bodies_are_framed_for_each_client(served: Served) -> None:
    """Chunks for HTTP/1.1, the end of the connection for 1.0, none for HEAD."""
    chunked = served.raw(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"transfer-encoding: chunked" in chunked
    assert chunked.endswith(b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
    old = served.raw(b"GET /stream HTTP/1.0\r\n\r\n")
    assert old.endswith(b"\r\n\r\nabc")
    head = served.raw(b"HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")


def test_connections_go_on(served: Served) -> None:
    """Two requests on one, the second sent before the first is answered."""
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    answer = served.raw(one + b"1" + one + b"2")
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.index(b'"body": "1"') < answer.index(b'"body": "2"')


def test_a_client_that_waits_for_leave_gets_it(served: Served) -> None:
    """`Expect: 100-continue` is answered when the function reads."""
    with served.connected() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert b'"body": "ok"' in client.recv(65536)


def test_what_is_no_request_is_refused(served: Served) -> None:
    """And the connection ends."""
    assert served.raw(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    chunks = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    assert served.raw(chunks).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_nobody_reads_is_read_for_the_function(served: Served) -> None:
    """The client hears the answer, and its next request on the same connection is answered."""
    size = 4 << 20
    head = b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    with served.connected() as client:
        client.sendall(head)
        assert client.recv(65536).startswith(b"HTTP/1.1 204 ")
        client.sendall(b"x" * size)
        client.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 204 ")


def test_a_slow_client_is_waited_for(served: Served) -> None:
    """An answer larger than what the socket takes arrives whole."""
    assert len(served.ask("/large").body) == 200 * 65536


def test_a_client_that_goes_is_noticed(served: Served) -> None:
    """`receive` says so to the function that waits."""
    with served.connected() as client:
        client.sendall(b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n")
    served.ask("/none")
    served.process.send_signal(signal.SIGTERM)
    served.ends()
    assert "then: http.disconnect" in served.log


def test_asyncio_comes_into_play_in_the_midst_of_a_request(served: Served) -> None:
    """Timeouts, tasks and threads work in the very next line, also for requests that waited already."""
    with served.connected() as waiting, served.connected() as upload:
        waiting.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        upload.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        assert served.ask("/none").status == 204
        assert served.ask("/sleep").body == b"slept"
        upload.sendall(b"b")
        assert b'"body": "ab"' in upload.recv(65536)
    assert served.ask("/sleep").body == b"slept"
    served.process.send_signal(signal.SIGTERM)
    assert served.ends() == 0
    assert served.log.count("waited") == 1
    assert served.log.endswith("stop\n")


def test_a_function_that_imports_asyncio_begins_with_it(tmp_path: Path) -> None:
    """Then its `start` runs in the loop, and its tasks live on."""
    code = """
import asyncio, logging
async def work(queue):
    while True:
        request = await queue.get()
        request.set_result(b"from a task")
class Function:
    async def start(self, cfg):
        self.queue = asyncio.Queue()
        self.task = asyncio.create_task(work(self.queue))
    async def handle(self, scope, receive, send):
        logging.info("asked")
        future = asyncio.get_running_loop().create_future()
        await self.queue.put(future)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": await future})
    async def stop(self):
        self.task.cancel()
        print("stopped")
new = Function
"""
    with function_servers.python(tmp_path, code) as served:
        assert served.ask().body == b"from a task"
        served.process.send_signal(signal.SIGTERM)
        assert served.ends() == 0
        assert "INFO:root:asked" in served.log
        assert served.log.endswith("stopped\n"), "its task is cancelled without a word"


@pytest.mark.parametrize("when", ["first", "in the handler"])
def test_packages_that_ask_for_the_loop_find_one(tmp_path: Path, when: str) -> None:
    """Many import asyncio only when they are called, or not at all: installed ones always find its loop."""
    packages = tmp_path / "site-packages"
    packages.mkdir()
    text = "import sys\ndef loop(): return sys.modules['asyncio'].get_running_loop()\n"
    (packages / "library.py").write_text(text, encoding="utf-8")
    site = Path(anyio.__file__).parents[1]
    imported = "import anyio, library"
    code = f"""
import sys
sys.path += [{str(packages)!r}, {str(site)!r}]
{imported if when == "first" else ""}
async def handle(scope, receive, send):
    {imported}
    library.loop()
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(30)
    answer = await anyio.to_thread.run_sync(lambda: b"%d" % scope.cancelled_caught)
    await send({{"type": "http.response.start", "status": 200}})
    await send({{"type": "http.response.body", "body": answer}})
"""
    with function_servers.python(tmp_path, code) as served:
        assert served.ask().body == b"1"
        assert served.ask().body == b"1"


def test_a_bare_handler_is_a_function(tmp_path: Path) -> None:
    """Its health is that it answers."""
    code = """
async def handle(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"bare"})
"""
    with function_servers.python(tmp_path, code) as served:
        assert served.ask().body == b"bare"
        assert served.ask("/health/readiness").body == b"OK"


def test_requests_in_flight_end_before_the_process(tmp_path: Path) -> None:
    """After a SIGTERM nobody connects any more, and who has asked is answered."""
    code = """
import asyncio
async def handle(scope, receive, send):
    print("began", flush=True)
    await asyncio.sleep(0.3)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"ended"})
"""
    with function_servers.python(tmp_path, code) as served:
        bodies: list[bytes] = []
        asking = threading.Thread(target=lambda: bodies.append(served.ask().body))
        asking.start()
        while "began" not in served.log:
            assert served.process.poll() is None
        served.process.send_signal(signal.SIGTERM)
        asking.join()
        assert served.ends() == 0
        assert bodies == [b"ended"]


EVENTS = """
def new():
    return Function()
class Function:
    async def handle(self, scope, receive, send):
        event = scope["event"]
        if event.get_type() == "boom":
            raise ValueError("it broke")
        if event.get_type() == "quiet":
            return
        attributes = {"type": "reply", "source": "f", "id": "r-" + event.get_id()}
        answer = type(event)(attributes, {"was": event.get_data()})
        if event.get_type() == "binary":
            await send.binary(answer, 201)
        else:
            await send(answer)
"""
HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "content-type": "application/json"}


def test_functions_take_and_send_events(tmp_path: Path) -> None:
    """Structured by default, binary if asked; what is no event is a bad request, a failure an event of it."""
    with function_servers.python(tmp_path, EVENTS, takes_events=True) as served:
        plain = served.ask("/", b'{"a":1}', {**HEADERS, "ce-type": "t"})
        assert plain.headers["content-type"] == "application/cloudevents+json"
        assert json.loads(plain.body)["data"] == {"was": {"a": 1}}
        binary = served.ask("/", b'{"a":1}', {**HEADERS, "ce-type": "binary"})
        assert (binary.status, binary.headers["ce-id"]) == (201, "r-1")
        assert json.loads(binary.body) == {"was": {"a": 1}}
        bad = served.ask("/", b"{}")
        assert (bad.status, bad.body) == (400, b"Bad Request: This endpoint expects CloudEvent requests. ")
        failed = served.ask("/", b"{}", {**HEADERS, "ce-type": "boom"})
        assert failed.status == 500
        document = json.loads(failed.body)
        assert (document["type"], document["data"]) == ("dev.functions.error", {"message": "Error: it broke"})
        assert served.ask("/", b"{}", {**HEADERS, "ce-type": "quiet"}).status == 200


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "error: Function must export either 'new' or 'handle'"),
        ("new = object", "error: Function must implement a 'handle' method."),
        ("1 +", "SyntaxError"),
        (
            "def new(): return F()\nclass F:\n  async def handle(self): 0\n  def start(self, cfg): 1 / 0",
            "ZeroDivision",
        ),
    ],
)
def test_what_is_no_function_ends_at_once(tmp_path: Path, code: str, words: str) -> None:
    """With its reason and a status that is not 0."""
    with contextlib.suppress(AssertionError, OSError), function_servers.python(tmp_path, code) as served:
        served.ends()
    assert words in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """One line, and the process ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = function_servers.python(tmp_path, "async def handle(*_): 0", env={"LISTEN_ADDRESS": address})
        with pytest.raises(AssertionError, match="cannot listen"), server:
            pass
    assert f"error: cannot listen at {address}: [Errno 98]" in (tmp_path / "log").read_text(encoding="utf-8")


def test_nothing_slow_is_imported(tmp_path: Path) -> None:
    """What decides how soon a function answers: the server brings none of the modules that take long."""
    for key, file in languages.python_server().items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(file.read_bytes())
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    program = f"{path}; import ondol_function.serving; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    slow = {
        "asyncio",
        "logging",
        "http",
        "email",
        "typing",
        "re",
        "enum",
        "socket",
        "selectors",
        "json",
        "inspect",
    }
    assert slow & set(done.stdout.split()) == set()
