"""The client over real sockets: TLS with client certificates, broken connections, kubeconfig files."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
import yaml
from anyio.streams.tls import TLSStream

from ondol import apiserver, store
from ondol.api import resources
from ondol.apiserver import listening, pki, server
from ondol.apiserver.auth.authenticate import Authenticator
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import Client, ConnectionLost, from_kubeconfig, in_cluster, kubeconfig
from ondol.client.http import Endpoint, HttpTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    admin = pki.Client("admin", "kubernetes-admin", ("system:masters",))
    return pki.ensure(tmp_path_factory.mktemp("pki"), clock=SystemClock(), clients=(admin,))


class NoTokens:
    """Stands where the token checker does, for a server that only knows certificates."""


@contextlib.asynccontextmanager
async def serving(certificates: pki.Pki) -> AsyncIterator[str]:
    """The real API server on a port of its own; yields its address."""
    app: server.Application = apiserver.build(
        apiserver.ApiConfig(),
        store.open_memory(),
        SystemClock(),
        random.Random(0),
        authenticator=Authenticator(NoTokens()),  # type: ignore[arg-type]  # no test here sends a token
    )
    config = server.ServeConfig(
        (listening.Listen("127.0.0.1", 0),),
        certificates.server_certificate_file,
        certificates.server_key_file,
        certificates.ca_file,
    )

    async def serve(*, task_status: anyio.abc.TaskStatus[int]) -> None:
        await server.serve(app, config, started=lambda listeners: task_status.started(listeners[0][1]))

    async with anyio.create_task_group() as tasks:
        port = await tasks.start(serve)
        yield f"https://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


async def test_a_kubeconfig_opens_a_session_by_certificate(certificates: pki.Pki, tmp_path: Path) -> None:
    """Everything embedded: authority, certificate and key; reads, writes and watches work."""
    async with serving(certificates) as address:
        document = pki.kubeconfig(address, certificates.ca_file.read_bytes(), certificates.client("admin"))
        path = tmp_path / "config"
        path.write_text(json.dumps(document))
        client = from_kubeconfig(path)
        try:
            async with client.watch(resources.CONFIG_MAP, "default") as events:
                await client.create(resources.CONFIG_MAP, {"metadata": {"name": "a", "namespace": "default"}})
                names = []
                with anyio.fail_after(5):
                    async for event in events:
                        names.append(event.object["metadata"]["name"])
                        if "a" in names:
                            break
            with pytest.raises(errors.NotFound):
                await client.get(resources.CONFIG_MAP, "b", "default")
            resource = await client.resource_for("apps/v1", "Deployment")
            assert resource == resources.DEPLOYMENT
            assert resources.POD in await client.discover()
        finally:
            await client.aclose()


async def test_files_beside_a_kubeconfig_are_found_from_it(certificates: pki.Pki, tmp_path: Path) -> None:
    """Relative paths are relative to the kubeconfig, not to the process."""
    async with serving(certificates) as address:
        certificate, key = certificates.client_files("admin")
        for name, source in (("ca.crt", certificates.ca_file), ("me.crt", certificate), ("me.key", key)):
            (tmp_path / name).write_bytes(source.read_bytes())
        path = write(
            tmp_path,
            cluster={"server": address, "certificate-authority": "ca.crt"},
            user={"client-certificate": "me.crt", "client-key": "me.key"},
        )
        client = from_kubeconfig(str(path))
        assert (await client.get(resources.NAMESPACE, "default"))["kind"] == "Namespace"
        await client.aclose()


def write(folder: Path, *, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    path = folder / "config"
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def test_what_is_not_supported_is_refused_by_name(tmp_path: Path) -> None:
    """A plug-in or an impersonation in the file is never passed over."""
    for field in ("exec", "auth-provider", "as"):
        path = write(tmp_path, cluster={"server": "https://x"}, user={field: {"command": "login"}})
        with pytest.raises(errors.HostError, match=f"'{field}', which is not supported"):
            from_kubeconfig(path)


async def test_mistakes_in_a_kubeconfig_are_named(tmp_path: Path) -> None:
    """No file, no such context, not a kubeconfig: each says what to do."""
    with pytest.raises(errors.HostError, match="no kubeconfig") as caught:
        from_kubeconfig(tmp_path / "none")
    assert "KUBECONFIG" in caught.value.remedy
    path = write(tmp_path, cluster={"server": "https://x"}, user={})
    with pytest.raises(errors.HostError, match="no context 'other'"):
        from_kubeconfig(path, context="other")
    path.write_text("- a list\n")
    with pytest.raises(errors.HostError, match="not a kubeconfig"):
        from_kubeconfig(path)


def test_the_paths_are_kubectls(tmp_path: Path) -> None:
    """`$KUBECONFIG` may name several files; without it there is one in the home."""
    assert kubeconfig.default_paths({"KUBECONFIG": "/a:/b"}) == [Path("/a"), Path("/b")]
    assert kubeconfig.default_paths({"HOME": str(tmp_path)}) == [tmp_path / ".kube" / "config"]


async def test_outside_a_pod_there_is_no_service_account() -> None:
    """The error says how to run it elsewhere."""
    with pytest.raises(errors.HostError) as caught:
        in_cluster(root=Path("/nonexistent"))
    assert "KUBECONFIG" in caught.value.remedy


async def test_in_a_pod_the_mounted_token_speaks(
    certificates: pki.Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address from the environment, authority and token from the mount; the token is read again."""
    (tmp_path / "ca.crt").write_bytes(certificates.ca_file.read_bytes())
    (tmp_path / "token").write_text("first\n")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.server_certificate_file, certificates.server_key_file)
    async with plain_server(echo_authorization, tls) as port:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        client = in_cluster(root=tmp_path)
        assert (await client.get(resources.NODE, "a"))["authorization"] == "Bearer first"
        (tmp_path / "token").write_text("second\n")
        transport = client.transport
        assert isinstance(transport, HttpTransport)
        transport._token_read_at -= 61
        assert (await client.get(resources.NODE, "a"))["authorization"] == "Bearer second"
        await client.aclose()


async def test_a_password_is_basic_authorization(tmp_path: Path) -> None:
    """Old clusters use user names and passwords."""
    async with plain_server(echo_authorization) as port:
        user = {"username": "me", "password": "secret"}
        client = from_kubeconfig(write(tmp_path, cluster={"server": f"http://127.0.0.1:{port}"}, user=user))
        sent = (await client.get(resources.NODE, "a"))["authorization"]
        assert sent == "Basic " + base64.b64encode(b"me:secret").decode()
        await client.aclose()


Answer = Callable[[anyio.abc.ByteStream, bytes], Any]


@contextlib.asynccontextmanager
async def plain_server(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server of one answer a connection, for what no proper server would do."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            secured: anyio.abc.ByteStream = stream
            if tls is not None:
                secured = await TLSStream.wrap(
                    stream, server_side=True, ssl_context=tls, standard_compatible=False
                )
            await answer(secured, await secured.receive())

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, handle)
        yield int(listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 - anyio's own, no SQL
        tasks.cancel_scope.cancel()


async def echo_authorization(stream: anyio.abc.ByteStream, request: bytes) -> None:
    lines = [line.split(": ", 1) for line in request.decode().split("\r\n") if ": " in line]
    headers = {name.lower(): value for name, value in lines}
    body = json.dumps({"authorization": headers.get("authorization")}).encode()
    await stream.send(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )


def client_at(port: int, request_s: float = 5.0) -> Client:
    return Client(HttpTransport(Endpoint(f"http://127.0.0.1:{port}", request_s=request_s)))


async def test_nothing_there_is_unavailable() -> None:
    """A refused connection means wait and retry."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = client_at(port)
    with pytest.raises(errors.Unavailable, match="cannot be reached"):
        await client.get(resources.NODE, "a")
    with pytest.raises(errors.Unavailable):
        async with client.watch(resources.NODE):
            raise AssertionError
    await client.aclose()


async def test_a_reset_read_is_tried_once_more() -> None:
    """A kept-alive connection that the server closed costs nothing but a second try."""
    connections: list[int] = []

    async def first_resets(stream: anyio.abc.ByteStream, _request: bytes) -> None:
        connections.append(1)
        if len(connections) > 1:
            await stream.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")

    async with plain_server(first_resets) as port:
        client = client_at(port)
        assert await client.get(resources.NODE, "a") == {}
        assert len(connections) == 2
        await client.aclose()


async def test_a_reset_write_is_told() -> None:
    """It may have taken effect, so the caller decides."""

    async def resets(_stream: anyio.abc.ByteStream, _request: bytes) -> None:
        return

    async with plain_server(resets) as port:
        client = client_at(port)
        with pytest.raises(ConnectionLost):
            await client.create(resources.NODE, {"metadata": {"name": "a"}})
        await client.aclose()


async def test_a_slow_answer_is_a_timeout() -> None:
    """An answer of one piece has its time; a stream has not."""

    async def hangs(_stream: anyio.abc.ByteStream, _request: bytes) -> None:
        await anyio.sleep_forever()

    async with plain_server(hangs) as port:
        client = client_at(port, request_s=0.1)
        with pytest.raises(errors.Timeout):
            await client.get(resources.NODE, "a")
        await client.aclose()


async def test_a_crowd_of_requests_takes_turns() -> None:
    """However many ask at once, connections are bounded; all are answered, and a watch waits for none."""
    arrived: list[bytes] = []
    released = anyio.Event()

    async def answers_late(stream: anyio.abc.ByteStream, request: bytes) -> None:
        arrived.append(request)
        if b"watch=" not in request:
            await released.wait()
        await stream.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")

    async with plain_server(answers_late) as port:
        client = client_at(port)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as crowd:
                for number in range(200):
                    crowd.start_soon(client.get, resources.NODE, f"n{number}")
                while len(arrived) < 64:  # noqa: ASYNC110 - the server of this test tells nobody
                    await anyio.sleep(0.01)
                async with client.watch(resources.NODE):
                    await anyio.sleep(0.2)  # in which the others would come, were they let
                    assert len(arrived) == 64 + 1
                released.set()
        assert len(arrived) == 200 + 1
        await client.aclose()


async def test_a_watch_that_breaks_is_told() -> None:
    """A stream cut in the middle raises, so that an informer resumes."""

    async def cuts(stream: anyio.abc.ByteStream, _request: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        line = b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n'
        await stream.send(head + b"%x\r\n" % len(line) + line + b"\r\n")

    async with plain_server(cuts) as port:
        client = client_at(port)
        seen: list[str] = []

        async def watch() -> None:
            async with client.watch(resources.NODE) as events:
                async for event in events:
                    seen.append(event.type)  # noqa: PERF401 - the loop ends in an error

        with pytest.raises(ConnectionLost):
            await watch()
        assert seen == ["ADDED"]
        await client.aclose()


async def test_errors_of_the_watcher_are_its_own() -> None:
    """What the body of a watch raises is not taken for a broken connection."""

    async def hangs(stream: anyio.abc.ByteStream, _request: bytes) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await anyio.sleep_forever()

    async with plain_server(hangs) as port:
        client = client_at(port)
        with pytest.raises(ConnectionRefusedError):
            async with client.watch(resources.NODE):
                raise ConnectionRefusedError
        await client.aclose()
