"""pods/proxy, services/proxy and nodes/proxy, with a forwarder of the test's own."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import pytest

from ondol import apiserver
from ondol.apiserver import takeover
from ondol.apiserver.ports import Destination, Forwarded

pytestmark = pytest.mark.anyio

PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"
Make = Callable[..., dict[str, Any]]
Headers = Sequence[tuple[bytes, bytes]]


class Answer:
    """What the other server says."""

    def __init__(self, body: bytes = b"foo", status: int = 200, headers: Headers = ()) -> None:
        self.status = status
        self.headers = [(b"content-length", str(len(body)).encode()), *headers]
        self.pieces: list[bytes | OSError] = [body]

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, OSError):
                raise piece
            yield piece


class Bytes:
    """One side of a connection: what it brings, and what it is sent."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = b""
        self.is_closed = False
        self.waits_for = 0
        self._news = anyio.Event()

    async def receive(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        while len(self.sent) < self.waits_for:
            await self._news.wait()
            self._news = anyio.Event()
        return b""

    async def send(self, data: bytes) -> None:
        self.sent += data
        self._news.set()

    def close(self) -> None:
        self.is_closed = True


class Forwarder:
    """Answers all that is handed on in the same way, and remembers it."""

    def __init__(self, answer: Answer | OSError | None = None) -> None:
        self.answer = answer or Answer()
        self.asked: list[tuple[Destination, Forwarded]] = []
        self.bodies: list[bytes | None] = []
        self.upgraded: tuple[int, bytes, Bytes] | OSError = OSError("no upgrades here")

    @contextlib.asynccontextmanager
    async def request(
        self, to: Destination, request: Forwarded, body: AsyncIterator[bytes] | None
    ) -> AsyncIterator[Answer]:
        self.asked.append((to, request))
        self.bodies.append(None if body is None else b"".join([piece async for piece in body]))
        if isinstance(self.answer, OSError):
            raise self.answer
        yield self.answer

    @contextlib.asynccontextmanager
    async def upgrade(self, to: Destination, request: Forwarded) -> AsyncIterator[tuple[int, bytes, Bytes]]:
        self.asked.append((to, request))
        if isinstance(self.upgraded, OSError):
            raise self.upgraded
        yield self.upgraded

    @property
    def last(self) -> tuple[str, str]:
        """Where the last request went: server and target."""
        to, request = self.asked[-1]
        return (f"{to.scheme}://{to.authority}" if to.host else f"node {to.node}"), request.target

    def header(self, name: str) -> list[bytes]:
        return [value for key, value in self.asked[-1][1].headers if key == name.encode()]


async def _with_pod(api: Any, pod: Make, ip: str = "10.1.0.5", name: str = "web", **spec: Any) -> None:
    ports = [{"containerPort": 8080}, {"containerPort": 8443, "name": "tls"}]
    containers = [{"name": "main", "image": "a:1", "ports": ports}]
    assert (await api.post(PODS, pod(name, **{"containers": containers, **spec}))).status == 201
    status = {"status": {"podIP": ip, "podIPs": [{"ip": ip}]}}
    assert (await api.patch(f"{PODS}/{name}/status", status)).status == 200


async def _with_service(api: Any, **changes: Any) -> None:
    ports = [
        {"name": "plain", "port": 80, "targetPort": 8080},
        {"name": "tls", "port": 443, "targetPort": 8443},
    ]
    service = {"metadata": {"name": "web"}, "spec": {"ports": ports}}
    assert (await api.post(SERVICES, service)).status == 201
    target = {"kind": "Pod", "name": "web", "namespace": "default"}
    address = {"ip": "10.1.0.5", "targetRef": target, **changes}
    numbers = [{"name": "plain", "port": 8080}, {"name": "tls", "port": 8443}]
    endpoints = {"metadata": {"name": "web"}, "subsets": [{"addresses": [address], "ports": numbers}]}
    path = "/api/v1/namespaces/default/endpoints"
    assert (await api.post(path, endpoints)).status == 201


@pytest.mark.parametrize(
    ("path", "server", "target"),
    [
        (f"{PODS}/web/proxy/", "http://10.1.0.5:8080", "/"),
        (f"{PODS}/web:1080/proxy/", "http://10.1.0.5:1080", "/"),
        (f"{PODS}/http:web:160/proxy/", "http://10.1.0.5:160", "/"),
        (f"{PODS}/https:web:443/proxy/", "https://10.1.0.5:443", "/"),
        (f"{PODS}/https:web:tls/proxy/", "https://10.1.0.5:8443", "/"),
        (f"{PODS}/web/proxy/some/path/?a=1&a=2", "http://10.1.0.5:8080", "/some/path/?a=1&a=2"),
        (f"{PODS}/web/proxy//some", "http://10.1.0.5:8080", "/some"),
        (f"{SERVICES}/web:plain/proxy/", "http://10.1.0.5:8080", "/"),
        (f"{SERVICES}/http:web:plain/proxy/", "http://10.1.0.5:8080", "/"),
        (f"{SERVICES}/https:web:tls/proxy/x", "https://10.1.0.5:8443", "/x"),
        (f"{SERVICES}/https:web:443/proxy/x", "https://10.1.0.5:8443", "/x"),
        ("/api/v1/nodes/n1/proxy/healthz", "node n1", "/healthz"),
        ("/api/v1/nodes/n1:10250/proxy/logs/", "node n1", "/logs/"),
        ("/api/v1/nodes/n1:9100/proxy/metrics", "http://10.2.0.1:9100", "/metrics"),
    ],
)
async def test_where_requests_go(start: Any, pod: Make, path: str, server: str, target: str) -> None:
    """By pod, service and node, with schemes, and ports by name and number."""
    forwarder = Forwarder()
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        await _with_service(api)
        addresses = [{"type": "InternalIP", "address": "10.2.0.1"}]
        await api.post("/api/v1/nodes", {"metadata": {"name": "n1"}})
        await api.patch("/api/v1/nodes/n1/status", {"status": {"addresses": addresses}})
        answer = await api.get(path)
        assert (answer.status, answer.body) == (200, b"foo")
    assert forwarder.last == (server, target)


@pytest.mark.parametrize("method", ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"])
@pytest.mark.parametrize("root", [f"{PODS}/web", f"{SERVICES}/web:plain"])
async def test_every_method(start: Any, pod: Make, method: str, root: str) -> None:
    """Method, body and answer are handed on; a path that is missing is a redirect for who can follow it."""
    forwarder = Forwarder(Answer(status=202))
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        await _with_service(api)
        body = b"sent" if method in ("POST", "PUT", "PATCH") else b""
        headers = {"content-length": str(len(body))}
        answer = await api(method, f"{root}/proxy/some/path/with/{method}", body, headers)
        assert (answer.status, answer.body) == (202, b"" if method == "HEAD" else b"foo")
        assert forwarder.asked[-1][1].method == method
        assert forwarder.bodies == [body or None]
        bare = await api(method, f"{root}/proxy?method={method}", b"")
        if method in ("GET", "HEAD"):
            assert (bare.status, bare.headers["location"]) == (301, f"{root}/proxy/?method={method}")
        else:
            assert (bare.status, forwarder.last[1]) == (202, f"/?method={method}")


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        (f"{PODS}/none/proxy/", 404, 'pods "none" not found'),
        (f"{PODS}/ftp:web:21/proxy/", 400, 'invalid pod request "ftp:web:21"'),
        (f"{PODS}/a:b:c:d/proxy/", 400, 'invalid pod request "a:b:c:d"'),
        (
            f"{PODS}/web:none/proxy/",
            503,
            "error trying to reach service: dial tcp: lookup tcp/none: unknown port",
        ),
        (
            f"{PODS}/web:99999/proxy/",
            503,
            "error trying to reach service: dial tcp: address 99999: invalid port",
        ),
        (f"{PODS}/local/proxy/", 400, "address not allowed"),
        (f"{PODS}/mapped/proxy/", 400, "address not allowed"),
        (f"{PODS}/cloud/proxy/", 400, "address not allowed"),
        (f"{PODS}/pending/proxy/", 400, "address not allowed"),
        (f"{SERVICES}/none/proxy/", 404, 'endpoints "none" not found'),
        (f"{SERVICES}/web:81/proxy/", 503, 'no service port 81 found for service "web"'),
        (f"{SERVICES}/web/proxy/", 503, 'no endpoints available for service "web"'),
        (f"{SERVICES}/http:web:x/proxy/", 503, 'no endpoints available for service "http:web:x"'),
        ("/api/v1/nodes/none/proxy/", 404, 'nodes "none" not found'),
        ("/api/v1/nodes/n1:80/proxy/", 400, "address not allowed"),
    ],
)
async def test_what_is_refused(start: Any, pod: Make, path: str, code: int, message: str) -> None:
    """In Kubernetes' words, before anything is handed on."""
    forwarder = Forwarder()
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        await _with_pod(api, pod, "127.0.0.1", "local")
        await _with_pod(api, pod, "::ffff:127.0.0.1", "mapped")
        await _with_pod(api, pod, "169.254.169.254", "cloud")
        assert (await api.post(PODS, pod("pending"))).status == 201
        await _with_service(api)
        addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
        await api.post("/api/v1/nodes", {"metadata": {"name": "n1"}})
        await api.patch("/api/v1/nodes/n1/status", {"status": {"addresses": addresses}})
        answer = await api.get(path)
        assert (answer.status, answer.json["message"]) == (code, message)
    assert forwarder.asked == []


@pytest.mark.parametrize(
    "changes",
    [
        {"ip": "10.9.9.9"},
        {"targetRef": {"kind": "Pod", "name": "web", "namespace": "kube-system"}},
        {"targetRef": None},
    ],
)
async def test_endpoints_that_are_no_pods(start: Any, pod: Make, changes: dict[str, Any]) -> None:
    """Endpoints name any address; only those of the namespace's pods are connected to."""
    forwarder = Forwarder()
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        await _with_service(api, **changes)
        answer = await api.get(f"{SERVICES}/web:plain/proxy/")
        assert answer.status == 503
        assert answer.json["message"] == 'no endpoints available for service "web:plain"'
    assert forwarder.asked == []


@pytest.mark.parametrize(
    ("address", "port", "label", "status"),
    [
        ("192.0.2.1", 8008, "own", 200),
        ("192.0.2.1", 4222, "own", 404),
        ("10.9.9.9", 8008, "own", 404),
        ("192.0.2.1", 8008, "other", 404),
    ],
)
async def test_what_the_platform_serves_itself(
    start: Any, address: str, port: int, label: str, status: int
) -> None:
    """A Service without pods whose slice leads to a port of the platform that may be asked, by its name."""
    forwarder = Forwarder()
    config = apiserver.ApiConfig(proxied_ports=frozenset({8008}), advertise_address="192.0.2.1")
    async with start(forwarder=forwarder, config=config) as api:
        service = {"metadata": {"name": "own"}, "spec": {"ports": [{"name": "http", "port": 80}]}}
        assert (await api.post(SERVICES, service)).status == 201
        slice_ = {
            "metadata": {"name": "own", "labels": {"kubernetes.io/service-name": label}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        }
        path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        assert (await api.post(path, slice_)).status == 201
        answer = await api.post(f"{SERVICES}/own:80/proxy/default/b", {})
    assert answer.status == status
    if status == 200:
        assert forwarder.last == (f"http://{address}:{port}", "/default/b")
        assert forwarder.header("host") == [b"own.default.svc.cluster.local"]
    else:
        assert forwarder.asked == []


async def test_headers(start: Any, pod: Make) -> None:
    """What is for the API server or its neighbour stays; the pod learns who asks, and by which path."""
    headers = [(b"x-own", b"1"), (b"connection", b"x-hop, close"), (b"x-hop", b"2"), (b"set-cookie", b"a=1")]
    headers += [(b"access-control-allow-origin", b"*"), (b"set-cookie", b"b=2")]
    forwarder = Forwarder(Answer(headers=headers))
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        sent = {
            "authorization": "Bearer secret",
            "impersonate-user": "admin",
            "impersonate-group": "system:masters",
            "cookie": "c=3",
            "connection": "x-mine",
            "x-mine": "4",
            "te": "trailers",
            "x-forwarded-for": "1.2.3.4",
            "x-forwarded-uri": "/forged",
            "user-agent": "me",
        }
        answer = await api("GET", f"{PODS}/web/proxy/a%20b?q=1", headers=sent)
    assert "x-hop" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
    assert (answer.headers["x-own"], answer.headers["set-cookie"]) == ("1", "b=2")
    dropped = ("authorization", "impersonate-user", "connection", "x-mine", "te")
    assert [name for name in dropped if forwarder.header(name)] == []
    assert forwarder.header("cookie") == [b"c=3"]
    assert forwarder.header("user-agent") == [b"me"]
    assert forwarder.header("x-forwarded-for") == [b"1.2.3.4"]
    assert forwarder.header("x-forwarded-uri") == [f"{PODS}/web/proxy/a%20b".encode()]
    assert forwarder.last[1] == "/a%20b?q=1"


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("/login", "{}/login"),
        ("/dir/", "{}/dir/"),
        ("http://10.1.0.5:8080/login?x=1#top", "{}/login?x=1#top"),
        ("http://api.test/login", "http://api.test{}/login"),
        ("https://example.org/login", "https://example.org/login"),
        ("next", "next"),
        ("{}/already", "{}/already"),
    ],
)
async def test_redirects(start: Any, pod: Make, sent: str, received: str) -> None:
    """A redirect within the server leads back through the API server, others where they led."""
    prefix = f"{PODS}/web/proxy"
    forwarder = Forwarder(Answer(b"", 302, [(b"location", sent.format(prefix).encode())]))
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        answer = await api("GET", f"{prefix}/a/b", headers={"host": "api.test"})
    assert (answer.status, answer.headers["location"]) == (302, received.format(prefix))


async def test_paths_stay_as_they_were_encoded(start: Any, pod: Make) -> None:
    """Also where a slash is part of a name; links lead back all the same."""
    forwarder = Forwarder(Answer(b"", 302, [(b"location", b"/x")]))
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        path = f"{PODS}/web/proxy/a%2Fb/c%20d/"
        begin, _ = await _sent(api, path, raw_path=path.encode())
    assert forwarder.last[1] == "/a%2Fb/c%20d/"
    assert forwarder.header("x-forwarded-uri") == [path.encode()]
    assert (b"location", f"{PODS}/web/proxy/x".encode()) in begin["headers"]


async def test_answers_that_have_no_body(start: Any, pod: Make) -> None:
    """Say nothing of its length, which is that of another answer."""
    forwarder = Forwarder(Answer(b"", 304))
    forwarder.answer.headers = [(b"content-length", b"123"), (b"etag", b"x")]  # type: ignore[union-attr] # it is one
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        answer = await api.get(f"{PODS}/web/proxy/")
    assert (answer.status, answer.headers["etag"]) == (304, "x")
    assert "content-length" not in answer.headers


PAGE = (
    '<!doctype html><a href="/x?a=1&amp;b=2">t</a><a href=\'/y\'>t</a><a href=/z>t</a><A HREF="/up">t</A>'
    '<a href="rel">t</a><a href="https://example.org/e">t</a><img src="/i.png" alt="/alt"><p title="/no">'
    '<!-- <a href="/comment"> --><script src="/s.js">var a = \'<a href="/js">\';</script>'
    '<form action="/f" data-x=">"></form> 1 < 2 <b'
)
SHOWN = (
    '<!doctype html><a href="{0}/x?a=1&amp;b=2">t</a><a href="{0}/y">t</a><a href="{0}/z">t</a>'
    '<A HREF="{0}/up">t</A><a href="rel">t</a><a href="https://example.org/e">t</a>'
    '<img src="{0}/i.png" alt="/alt"><p title="/no"><!-- <a href="/comment"> -->'
    '<script src="{0}/s.js">var a = \'<a href="/js">\';</script>'
    '<form action="{0}/f" data-x=">"></form> 1 < 2 <b'
)


@pytest.mark.parametrize("encoding", ["", "gzip", "br"])
@pytest.mark.parametrize("media_type", ["text/html", "text/html; charset=utf-8", "text/plain"])
async def test_links_of_pages(start: Any, pod: Make, encoding: str, media_type: str) -> None:
    """In HTML that can be read, attributes that are URLs lead back; everything else is as it was."""
    sent = gzip.compress(PAGE.encode()) if encoding == "gzip" else PAGE.encode()
    headers = [(b"content-type", media_type.encode()), (b"content-encoding", encoding.encode())]
    forwarder = Forwarder(Answer(sent, headers=headers))
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        answer = await api("GET", f"{PODS}/web/proxy/")
    assert int(answer.headers["content-length"]) == len(answer.body)
    is_changed = "html" in media_type and encoding != "br"
    shown = gzip.decompress(answer.body) if encoding == "gzip" else answer.body
    assert shown.decode() == (SHOWN.format(f"{PODS}/web/proxy") if is_changed else PAGE)


async def test_large_pages_are_left_as_they_are(start: Any, pod: Make) -> None:
    """Nothing is held back without a bound."""
    answer = Answer(b"<a href=/x>", headers=[(b"content-type", b"text/html")])
    answer.pieces += [b"." * (4 << 20)] * 3
    async with start(forwarder=Forwarder(answer)) as api:
        await _with_pod(api, pod)
        shown = await api("GET", f"{PODS}/web/proxy/")
    assert shown.body.startswith(b"<a href=/x>.")
    assert len(shown.body) == 11 + (12 << 20)


async def test_a_server_that_does_not_answer(start: Any, pod: Make) -> None:
    """Before an answer has begun it is a Status; afterwards the connection is cut, for it is not whole."""
    forwarder = Forwarder(OSError("connect: connection refused"))
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        answer = await api.get(f"{PODS}/web/proxy/")
        message = "error trying to reach service: dial tcp 10.1.0.5:8080: connect: connection refused"
        assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable")
        assert answer.json["message"] == message
        broken = Answer(b"some", headers=[])
        broken.pieces.append(OSError("the connection broke"))
        forwarder.answer = broken
        sent = await _sent(api, f"{PODS}/web/proxy/")
    assert [m.get("more_body") for m in sent] == [None, True]


async def _sent(api: Any, path: str, **scope: Any) -> list[dict[str, Any]]:
    """Every message of an answer."""
    messages: list[dict[str, Any]] = []

    is_received = False

    async def receive() -> dict[str, Any]:
        nonlocal is_received
        if is_received:
            await anyio.sleep_forever()
        is_received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await api.app({**api._scope("GET", path, {}), **scope}, receive, send)
    return messages


async def test_rights(start: Any, pod: Make) -> None:
    """The verb is the method's, on the subresource."""
    forwarder = Forwarder()
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        rules = [{"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"]}]
        assert (await api.post(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": rules})).status == 201
        subjects = [{"kind": "User", "name": "me", "apiGroup": "rbac.authorization.k8s.io"}]
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
        binding = {"metadata": {"name": "r"}, "roleRef": role, "subjects": subjects}
        assert (await api.post(f"{rbac}/rolebindings", binding)).status == 201
        me = api.as_("me", "system:authenticated")
        assert (await me.get(f"{PODS}/web/proxy/")).status == 200
        refused = await me("POST", f"{PODS}/web/proxy/", b"x")
        assert refused.status == 403
        assert 'cannot create resource "pods/proxy" in API group ""' in refused.json["message"]
        assert (await me.get(f"{SERVICES}/web/proxy/")).status == 403
    assert len(forwarder.asked) == 1


async def test_without_a_way_to_pods(api: Any, pod: Make) -> None:
    """A server of its own says that it has none."""
    await _with_pod(api, pod)
    assert (await api.get(f"{PODS}/web/proxy/")).status == 503


async def test_upgrades_are_bytes(start: Any, pod: Make) -> None:
    """The answer's head as it came, then both directions until one of them is over; no token goes along."""
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    server, client = Bytes(b"\x81\x02hi"), Bytes(b"\x81\x82....")
    client.waits_for = len(head) + 4
    server.waits_for = 6
    forwarder = Forwarder()
    forwarder.upgraded = (101, head, server)
    protocols = "chat, base64url.bearer.authorization.k8s.io.c2VjcmV0"
    headers = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-protocol": protocols}
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        scope = api._scope("GET", f"{PODS}/web/proxy/ws?x=1", headers)
        with anyio.fail_after(5):
            await api.app({**scope, takeover.TAKE: lambda: client}, None, None)
    assert client.sent == head + b"\x81\x02hi"
    assert server.sent == b"\x81\x82...."
    assert client.is_closed
    assert forwarder.last == ("http://10.1.0.5:8080", "/ws?x=1")
    assert forwarder.header("upgrade") == [b"websocket"]
    assert forwarder.header("sec-websocket-protocol") == [b"chat"]
    assert not forwarder.header("authorization")


@pytest.mark.parametrize(
    ("upgraded", "status", "words"),
    [
        (
            OSError("connect: connection refused"),
            500,
            "error dialing backend: dial tcp 10.1.0.5:8080: connect",
        ),
        ((200, b"HTTP/1.1 200 OK\r\n\r\n", Bytes()), 500, "invalid upgrade response: status code 200"),
    ],
)
async def test_upgrades_that_come_to_nothing(
    start: Any, pod: Make, upgraded: Any, status: int, words: str
) -> None:
    """A Status in plain HTTP; the connection was not taken."""
    forwarder = Forwarder()
    forwarder.upgraded = upgraded
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        begin, body = await _sent(api, f"{PODS}/web/proxy/", **{takeover.TAKE: lambda: pytest.fail("taken")})
    assert begin["status"] == status
    assert words in body["body"].decode()


async def test_an_upgrade_that_the_server_refuses(start: Any, pod: Make) -> None:
    """Its answer is handed on as it is."""
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n"
    client, forwarder = Bytes(), Forwarder()
    forwarder.upgraded = (403, head, Bytes(b"no"))
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        with anyio.fail_after(5):
            assert await _sent(api, f"{PODS}/web/proxy/", **{takeover.TAKE: lambda: client}) == []
    assert (client.sent, client.is_closed) == (head + b"no", True)


async def test_pages_of_other_origins(start: Any, pod: Make) -> None:
    """What a browser holds of its user is not for pages of others; behind `kubectl proxy` it is its own."""
    forwarder = Forwarder()
    foreign = {"origin": "https://evil.example", "host": "api.test", "upgrade": "websocket"}
    async with start(forwarder=forwarder) as api:
        await _with_pod(api, pod)
        path = f"{PODS}/web/proxy/"
        for headers, code in ((foreign, 403), ({**foreign, "sec-fetch-site": "same-origin"}, 500)):
            scope = api._scope("GET", path, headers)
            begin, _ = await _sent(api, path, headers=scope["headers"], **{takeover.TAKE: Bytes})
            assert begin["status"] == code
