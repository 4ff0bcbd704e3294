"""Probes against servers of every manner: what is sent, what counts as an answer, who hears of it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import grpc
import grpc.aio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ondol.api.objects import Object
from ondol.base.clock import SystemClock
from ondol.node.pods import grpc_probe, http_probe, probing
from ondol.node.pods.target import Answer, Target
from ondol.node.runtime.port import ExecResult, ExecTimeout, RuntimeFailed

pytestmark = pytest.mark.anyio

CLOCK = SystemClock()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Replies = Callable[[bytes], bytes]


async def no_exec(_args: list[str], _timeout_s: float) -> ExecResult:
    raise AssertionError("no command is to be run")


def port_of(listener: Any) -> int:
    return int(listener.extra(SocketAttribute.local_port))  # noqa: S610 - not Django's


@asynccontextmanager
async def server(
    reply: Replies, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Target, list[bytes]]]:
    """A server on loopback that answers each request's head by `reply`, and what it was sent."""
    seen: list[bytes] = []

    async def serve(stream: Any) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive()
            seen.append(head)
            await stream.send(reply(head))

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = port_of(listener)
    wrapped: Any = listener
    if tls is not None:
        from anyio.streams.tls import TLSListener  # noqa: PLC0415 - one test needs it

        wrapped = TLSListener(listener, tls, standard_compatible=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wrapped.serve, serve)
        yield Target("127.0.0.1", {"web": port}, no_exec), seen
        tasks.cancel_scope.cancel()
    await wrapped.aclose()


def answered(status: str, *fields: str, body: bytes = b"") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*head, "", ""]).encode() + body


def by_path(**replies: bytes) -> Replies:
    """Answers by the first part of the path, 404 for others."""

    def reply(head: bytes) -> bytes:
        path = head.split(b" ")[1].decode().strip("/").partition("/")[0].partition("?")[0]
        return replies.get(path, answered("404 Not Found"))

    return reply


async def ask(reply: Replies, action: Object, timeout_s: float = 10) -> tuple[Answer, list[bytes]]:
    async with server(reply) as (target, seen):
        return await http_probe.ask({"port": "web", **action}, target, timeout_s, CLOCK), seen


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("200 OK", "success"),
        ("204 No Content", "success"),
        ("299 Odd", "success"),
        ("304 Not Modified", "warning"),
        ("400 Bad", "failure"),
        ("503 Away", "failure"),
    ],
)
async def test_status_codes(status: str, kind: str) -> None:
    """200 to 299 is a success, 300 to 399 one with a warning, all else a failure."""
    answer, _ = await ask(lambda _: answered(status), {})
    assert answer.kind == kind


async def test_a_failure_names_the_code_alone() -> None:
    """What the server said is not for everyone who may read events."""
    answer, _ = await ask(lambda _: answered("500 Oh", body=b"password"), {})
    assert answer == Answer("failure", "HTTP probe failed with statuscode: 500")


async def test_redirects_on_the_same_host_are_followed() -> None:
    """To the page that decides, with the same headers and where it comes from."""
    reply = by_path(a=answered("302 Go", "Location: /b?x=1"), b=answered("500 No"))
    action = {
        "path": "/a",
        "httpHeaders": [{"name": "X-Key", "value": "1"}, {"name": "Host", "value": "shop"}],
    }
    answer, seen = await ask(reply, action)
    assert answer.kind == "failure"
    assert [head.split(b"\r\n")[0] for head in seen] == [b"GET /a HTTP/1.1", b"GET /b?x=1 HTTP/1.1"]
    assert all(b"\r\nX-Key: 1\r\n" in head and b"\r\nHost: shop\r\n" in head for head in seen)
    assert b"\r\nReferer: http://127.0.0.1:" in seen[1]


async def test_another_port_is_the_same_host() -> None:
    """As in Go, a host is its name."""
    async with server(lambda _: answered("401 No")) as (other, _):
        where = f"Location: http://127.0.0.1:{other.ports['web']}/"
        answer, _ = await ask(lambda _: answered("301 Go", where), {})
    assert answer.message == "HTTP probe failed with statuscode: 401"


@pytest.mark.parametrize("where", ["http://example.test/", "//example.test/x", "https://localhost/"])
async def test_a_redirect_elsewhere_is_a_success_with_a_warning(where: str) -> None:
    """It is not followed: nobody sends the node to other hosts."""
    answer, seen = await ask(lambda _: answered("302 Go", f"Location: {where}", body=b"bye"), {})
    assert answer == Answer("warning", "Probe terminated redirects, Response body: bye")
    assert len(seen) == 1


async def test_redirects_end_somewhere() -> None:
    """Ten are followed."""
    answer, seen = await ask(lambda _: answered("307 Go", "Location: /"), {})
    assert answer.kind == "failure"
    assert "stopped after 10 redirects" in answer.message
    assert len(seen) == 10


async def test_what_is_sent() -> None:
    """The kubelet's own headers, unless others are given; names may come twice, an empty Accept is none."""
    _, [head] = await ask(by_path(), {"path": "a b/ü?q=1 2#top"})
    assert head.startswith(b"GET /a%20b/%C3%BC?q=1%202 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n" in head
    headers = [("X", "1"), ("X", "2"), ("user-agent", "me"), ("Accept", "")]
    _, [head] = await ask(by_path(), {"httpHeaders": [{"name": n, "value": v} for n, v in headers]})
    assert b"\r\nX: 1\r\nX: 2\r\nuser-agent: me\r\nConnection: close\r\n" in head
    assert b"Accept" not in head


async def test_no_header_brings_another() -> None:
    """A line end in a value would be a request of the pod's own making."""
    answer, seen = await ask(by_path(), {"httpHeaders": [{"name": "X", "value": "1\r\nEvil: 1"}]})
    assert answer.kind == "failure"
    assert not seen


CHUNKED = b"HTTP/1.1 302 Go\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (answered("302 Go", body=b"x" * 20_000), "x" * 10_240),
        (b"HTTP/1.0 302 Go\n\nuntil the end", "until the end"),
        (CHUNKED, "abcde"),
        (EARLY + CHUNKED, "abcde"),
    ],
)
async def test_bodies(sent: bytes, body: str) -> None:
    """Counted, in chunks or to the end of the connection; 10 KiB of it at most."""
    answer, _ = await ask(lambda _: sent, {})
    assert answer.message == f"Probe terminated redirects, Response body: {body}"


@pytest.mark.parametrize(
    ("sent", "kind", "words"),
    [
        (b"SSH-2.0-x\r\n\r\n", "failure", "not HTTP"),
        (b"", "failure", "EOF"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "error",
            "the body of the answer did not come: EOF",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n", "error", "did not come"),
    ],
)
async def test_broken_answers(sent: bytes, kind: str, words: str) -> None:
    """What is no answer is a failure; half of one says nothing about the container (as in the kubelet)."""
    answer, _ = await ask(lambda _: sent, {})
    assert answer.kind == kind
    assert words in answer.message


async def test_nobody_listens() -> None:
    """The address and Go's words for it, as people look for them."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = port_of(listener)
    await listener.aclose()
    target = Target("127.0.0.1", {}, no_exec)
    words = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    answer = await http_probe.ask({"port": port, "path": "/x"}, target, 10, CLOCK)
    assert answer == Answer("failure", f'Get "http://127.0.0.1:{port}/x": {words}')
    assert await probing.ask({"tcpSocket": {"port": port}}, target, 10, {}, CLOCK) == Answer("failure", words)
    answer = await probing.ask({"grpc": {"port": port}}, target, 10, {}, CLOCK)
    assert answer.kind == "failure"
    assert f"127.0.0.1:{port}" in answer.message


async def test_silence_ends_with_the_timeout() -> None:
    """A server that takes the connection and says nothing has failed after the probe's time."""
    release = anyio.Event()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def silent(stream: SocketStream) -> None:
        async with stream:
            await release.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, silent)
        target = Target("127.0.0.1", {"web": port_of(listener)}, no_exec)
        answer = await http_probe.ask({"port": "web"}, target, 0.2, CLOCK)
        tasks.cancel_scope.cancel()
    await listener.aclose()
    assert answer.kind == "failure"
    assert answer.message.endswith("no answer within 0.2s")


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate that nobody signed, for another name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere.test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    builder = builder.serial_number(1).not_valid_before(begin).not_valid_after(begin + timedelta(days=1))
    form, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    text = builder.sign(key, hashes.SHA256()).public_bytes(pem)
    (folder / "tls.pem").write_bytes(text + key.private_bytes(pem, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem")
    return context


async def test_any_certificate_will_do(tmp_path: Path) -> None:
    """HTTPS without verification: expired, self-signed and for another name."""
    async with server(lambda _: OK, tls=certificate(tmp_path)) as (target, seen):
        answer = await http_probe.ask({"port": "web", "scheme": "HTTPS"}, target, 10, CLOCK)
    assert answer == Answer("success")
    assert len(seen) == 1


@pytest.mark.parametrize("port", ["nosuch", 0, 70000])
async def test_a_port_that_is_not_there_says_nothing_about_the_container(port: Any) -> None:
    """The question could not be put: an error, which counts neither way."""
    target = Target("127.0.0.1", {}, no_exec)
    for kind in ("httpGet", "tcpSocket"):
        answer = await probing.ask({kind: {"port": port}}, target, 10, {}, CLOCK)
        assert answer.kind == "error"
        assert str(port) in answer.message


@asynccontextmanager
async def health(reply: bytes | grpc.StatusCode) -> AsyncIterator[tuple[int, list[Any]]]:
    """A gRPC server with the health service, or one that answers with an error; and what it was asked."""
    seen: list[Any] = []

    async def check(request: bytes, context: Any) -> bytes:
        seen.append((request, dict(context.invocation_metadata())["user-agent"]))
        if isinstance(reply, grpc.StatusCode):
            await context.abort(reply, "no")
        assert isinstance(reply, bytes)
        return reply

    serving = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(check)
    serving.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    port = serving.add_insecure_port("127.0.0.1:0")
    await serving.start()
    try:
        yield port, seen
    finally:
        await serving.stop(None)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (b"\x08\x01", "success", "service healthy"),
        (b"\x08\x02", "failure", 'service unhealthy (responded with "NOT_SERVING")'),
        (b"", "failure", 'service unhealthy (responded with "UNKNOWN")'),
        (grpc.StatusCode.UNIMPLEMENTED, "failure", "does not implement the grpc health protocol"),
        (grpc.StatusCode.NOT_FOUND, "failure", "error: health rpc probe failed: NOT_FOUND: no"),
    ],
)
async def test_grpc(anyio_backend_name: str, reply: Any, kind: str, words: str) -> None:
    """Only a server that says SERVING is healthy; the service is named in the question."""
    assert anyio_backend_name == "asyncio"
    async with health(reply) as (port, seen):
        target = Target("127.0.0.1", {}, no_exec)
        answer = await probing.ask({"grpc": {"port": port, "service": "shop"}}, target, 10, {}, CLOCK)
    assert answer.kind == kind
    assert words in answer.message
    [(request, agent)] = seen
    assert request == b"\x0a\x04shop" == grpc_probe.request("shop")
    assert agent.startswith("kube-probe/1.36 ")


def listening() -> set[str]:
    """The TCP ports of the machine at which somebody listens, in the kernel's words."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {words[1] for words in lines if words[3] == "0A"}


async def test_nobody_else_asks_by_the_way_of_a_grpc_probe() -> None:
    """From a chosen address it goes by a relay, which is no port of the machine."""
    ports: list[set[str]] = []
    peers: list[Any] = []

    async def hold(client: Any) -> None:
        async with client:
            peers.append(client.extra(SocketAttribute.remote_address)[0])  # noqa: S610 - not Django's
            ports.append(listening())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, hold)
        own = listening()
        await grpc_probe.ask("127.0.0.1", port_of(listener), "", 2, "127.0.0.9")
        tasks.cancel_scope.cancel()
    assert set(peers) == {"127.0.0.9"}
    assert not ports[0] - own


Run = Callable[[list[str], float], Awaitable[ExecResult]]


def runs(outcome: ExecResult | Exception) -> tuple[Run, list[list[str]]]:
    commands: list[list[str]] = []

    async def run(args: list[str], _timeout_s: float) -> ExecResult:
        commands.append(args)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return run, commands


@pytest.mark.parametrize(
    ("outcome", "kind", "words"),
    [
        (ExecResult(0, b"fine"), "success", "fine"),
        (ExecResult(1, b"why"), "failure", "why"),
        (ExecTimeout("timed out"), "failure", "timed out"),
        (RuntimeFailed("no such container"), "error", "no such container"),
    ],
)
async def test_commands(outcome: Any, kind: str, words: str) -> None:
    """Exit code 0 is a success; a runtime that cannot run it says nothing about the container."""
    run, commands = runs(outcome)
    container = {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]
    }
    probe = {"exec": {"command": ["test", "$(A)", "$(B)", "$$(A)"]}}
    answer = await probing.ask(probe, Target("127.0.0.1", {}, run), 10, container, CLOCK)
    assert (answer.kind, answer.message) == (kind, words)
    assert commands == [["test", "1", "$(B)", "$(A)"]], "variables that the container spells out are known"


class QuickClock(SystemClock):
    """Time that passes in sleeps alone, and at once."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def now(self) -> float:
        return self.moment

    def monotonic(self) -> float:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        self.moment += seconds
        await anyio.lowlevel.checkpoint()


class Heard:
    """What a worker would hear of probes; it ends the watch after so many questions."""

    def __init__(self, results: list[int | Exception], *, ending_after: int = 10_000) -> None:
        self.clock = QuickClock()
        self.results = results
        self.times: list[float] = []
        self.verdicts: list[tuple[str, bool]] = []
        self.warnings: list[tuple[str, str]] = []
        self.listener = probing.Listener(
            lambda kind, ok: self.verdicts.append((kind, ok)),
            lambda kind, answer: self.warnings.append((kind, answer.kind)),
            lambda: len(self.times) >= ending_after,
        )

    async def run(self, _args: list[str], _timeout_s: float) -> ExecResult:
        self.times.append(self.clock.now() - 1000.0)
        if len(self.times) > len(self.results):
            self.scope.cancel()
            await anyio.lowlevel.checkpoint()
        result = self.results[len(self.times) - 1]
        if isinstance(result, Exception):
            raise result
        return ExecResult(result, b"")

    async def watch(self, **probes: Object) -> None:
        listed = {f"{kind}Probe": {"exec": {"command": ["x"]}, **probe} for kind, probe in probes.items()}
        run = probing.Run(listed, Target("127.0.0.1", {}, self.run), 1000.0, is_started=False)
        with anyio.CancelScope() as self.scope:
            await probing.watch_all(run, self.clock, self.listener)


async def test_a_container_that_fails_its_liveness_probe_is_not_asked_on() -> None:
    """It is to be restarted: the kubelet holds the probe until there is a new container."""
    heard = Heard([0, 1, 1, 1, 1])
    await heard.watch(liveness={"periodSeconds": 1})
    assert heard.verdicts == [("liveness", True), ("liveness", False)]
    assert len(heard.times) == 4


async def test_other_probes_wait_for_the_startup_probe() -> None:
    """And are never asked of a container that does not start up."""
    heard = Heard([1] * 3)
    await heard.watch(startup={"periodSeconds": 1, "failureThreshold": 1}, liveness={}, readiness={})
    assert heard.verdicts == [("startup", False)]
    assert len(heard.times) == 1
    heard = Heard([1, 0, 0])
    await heard.watch(startup={"periodSeconds": 1}, readiness={})
    assert heard.verdicts == [("startup", True), ("readiness", True)]


async def test_the_initial_delay_counts_from_the_start() -> None:
    """Not from the moment the startup probe was content."""
    heard = Heard([0, 0])
    await heard.watch(startup={"initialDelaySeconds": 3}, readiness={"initialDelaySeconds": 5})
    assert heard.times[:2] == [3.0, 5.0]


async def test_errors_count_neither_way() -> None:
    """A question that could not be put neither restarts nor readies; it is told once a period."""
    heard = Heard([0, *[RuntimeFailed("no")] * 9, 0])
    await heard.watch(liveness={"periodSeconds": 1, "failureThreshold": 1})
    assert heard.verdicts == [("liveness", True)]
    assert heard.warnings == [("liveness", "error")] * 9
    heard = Heard([RuntimeFailed("no")] * 8)
    await heard.watch(readiness={"periodSeconds": 3600})
    assert heard.warnings == [], "asked early and often, told once a period"


async def test_a_pod_that_ends_is_not_restarted() -> None:
    """Liveness ends with the first question after the pod is to end; readiness goes on to the last."""
    heard = Heard([0, 1, 1, 1, 1, 1], ending_after=1)
    await heard.watch(liveness={"periodSeconds": 1})
    assert len(heard.times) == 1
    heard = Heard([0, 1, 1, 1], ending_after=1)
    await heard.watch(readiness={"periodSeconds": 1})
    assert heard.verdicts == [("readiness", True), ("readiness", False)]


@pytest.mark.parametrize("action", ["tcpSocket", "httpGet"])
async def test_a_host_that_is_no_name_is_a_failure(action: str) -> None:
    """Of the probe, and not of whoever asks."""
    target = Target("127.0.0.1", {}, no_exec)
    answer = await probing.ask({action: {"host": "ü..b", "port": 80}}, target, 1.0, {}, CLOCK)
    assert answer.kind == "failure"
