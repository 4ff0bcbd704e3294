"""CUSTOM policies in a real Envoy: a provider is asked, by HTTP or gRPC, about what they match."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from tests.mesh.arrival import Arrival, Issuer, authorization, policy, rule, static_cluster
from tests.ports import free_port

from ondol.mesh.model import mesh_options
from ondol.mesh.model.mesh_options import MeshOptions
from ondol.mesh.policy import Call, Context, decide
from ondol.mesh.policy.workload import WorkloadPolicy

auth: Final[Any] = importlib.import_module("envoy.service.auth.v3.external_auth_pb2")
HTTP: Final[dict[str, Any]] = {"service": "asked.foo.svc.cluster.local", "port": 8000}
GRPC: Final[dict[str, Any]] = {"service": "foo/asked.foo.svc.cluster.local", "port": 9000}
PROVIDERS: Final = [
    {
        "name": "http",
        "envoyExtAuthzHttp": {
            **HTTP,
            "timeout": "2s",
            "pathPrefix": "/check",
            "includeRequestHeadersInCheck": ["x-user"],
            "includeAdditionalHeadersInCheck": {"x-from": "mesh"},
            "headersToUpstreamOnAllow": ["x-agreed"],
            "headersToDownstreamOnDeny": ["x-why"],
        },
    },
    {"name": "grpc", "envoyExtAuthzGrpc": {**GRPC, "timeout": "2s"}},
    {"name": "away", "envoyExtAuthzHttp": {**HTTP, "port": 8001, "statusOnError": "503", "timeout": "0.5s"}},
    {"name": "open", "envoyExtAuthzHttp": {**HTTP, "port": 8001, "failOpen": True, "timeout": "0.5s"}},
    {"name": "nowhere", "envoyExtAuthzHttp": {**HTTP, "service": "none.foo.svc.cluster.local"}},
    {"name": "Bad_Name", "envoyExtAuthzHttp": HTTP},
    {"name": "traces", "opentelemetry": {"service": "x", "port": 1}},
]


def options(**more: Any) -> MeshOptions:
    document = json.dumps({"extensionProviders": PROVIDERS, **more})
    return mesh_options.options({"data": {"mesh": document}})


OPTIONS: Final = options()
CONTEXT: Final = Context(
    lambda host, port: f"asked-{port}" if host == HTTP["service"] and port in (8000, 8001, 9000) else None
)
ADMIN: Final = {"to": [{"operation": {"paths": ["/admin*"]}}]}


def custom(provider: str, *rules: Any, **more: Any) -> Any:
    return authorization(action="CUSTOM", provider={"name": provider}, rules=list(rules) or [ADMIN], **more)


def asked(*objects: Any) -> WorkloadPolicy:
    return policy(*objects, options=OPTIONS)


ROWS: Final[dict[str, WorkloadPolicy]] = {
    "http": asked(custom("http")),
    "grpc": asked(custom("grpc")),
    "deny too": asked(custom("http"), authorization(action="DENY", rules=[ADMIN])),
    "allow too": asked(custom("http"), authorization(rules=[{"to": [{"operation": {"methods": ["GET"]}}]}])),
    "away": asked(custom("away")),
    "open": asked(custom("open")),
    "unknown": asked(custom("unknown")),
    "nowhere": asked(custom("nowhere")),
    "bad name": asked(custom("Bad_Name")),
    "no authorizer": asked(custom("traces")),
    "two providers": asked(custom("http"), custom("grpc", {"to": [{"operation": {"paths": ["/x"]}}]})),
    "tried only": asked(custom("http", dry_run=True)),
}


ISSUER: Final = Issuer()
SECOND: Final = {"from": [{"source": {"ipBlocks": ["127.0.0.2"]}}]}


def believing(**more: Any) -> Any:
    return rule("RequestAuthentication", {"jwtRules": [{"issuer": ISSUER.name, "jwks": ISSUER.jwks, **more}]})


UNREAD: Final = {
    "http": asked(custom("http")),
    "http of some": asked(custom("http", {**SECOND, **ADMIN})),
    "http of addresses": asked(custom("http", SECOND)),
    "grpc of requests": asked(custom("grpc")),
    "grpc of all": asked(custom("grpc", {})),
    "grpc of both": asked(custom("grpc", SECOND, {**SECOND, **ADMIN})),
    "tried only": asked(custom("http", dry_run=True)),
    "token": asked(believing()),
    "token for headers": asked(believing(outputPayloadToHeader="x-payload")),
    "token for claims": asked(believing(outputClaimToHeaders=[{"header": "x-who", "claim": "sub"}])),
    "token required": asked(believing(presence="REQUIRED")),
    "allow by token": asked(authorization(rules=[{"from": [{"source": {"requestPrincipals": ["*"]}}]}])),
    "deny without token": asked(
        authorization(action="DENY", rules=[{"from": [{"source": {"notRequestPrincipals": ["*"]}}]}])
    ),
    "deny a path": asked(authorization(action="DENY", rules=[ADMIN])),
    "allow addresses": asked(authorization(rules=[SECOND])),
}
EXPECTED_UNREAD: Final = {
    **dict.fromkeys(UNREAD, (False, False)),
    "http of some": (True, False),
    "http of addresses": (True, False),
    "grpc of all": (False, True),
    "grpc of both": (True, False),
    "tried only": (True, True),
    "token": (True, True),
    "allow addresses": (False, True),
}


@dataclass
class Provider:
    """Says yes to who is called `good`, by HTTP and by gRPC, and remembers what it was asked."""

    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def start(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                is_good = self.headers.get("x-user") == "good"
                self.send_response(200 if is_good else 418)
                self.send_header("x-agreed" if is_good else "x-why", "because")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", self.http_port), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=auth.CheckRequest.FromString,
            response_serializer=auth.CheckResponse.SerializeToString,
        )
        service = grpc.method_handlers_generic_handler(
            "envoy.service.auth.v3.Authorization", {"Check": handler}
        )
        self._grpc.add_generic_rpc_handlers((service,))
        self._grpc.add_insecure_port(f"127.0.0.1:{self.grpc_port}")
        self._grpc.start()

    def _check(self, request: Any, _context: Any) -> Any:
        http = request.attributes.request.http
        self.asked.append((http.path, dict(http.headers)))
        answer = auth.CheckResponse()
        is_good = http.headers.get("x-user") == "good" or (
            not http.path and request.attributes.source.address.socket_address.address == "127.0.0.2"
        )
        answer.status.code = 0 if is_good else 7
        return answer

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(0).wait()


@dataclass
class Proxy:
    arrival: Arrival
    ports: dict[str, int]
    tcp: dict[str, int]
    unread: dict[str, int]
    provider: Provider

    def status(self, row: str, path: str = "/admin", user: str = "", method: str = "GET") -> int:
        headers = {"x-user": user} if user else {}
        call = Call(path=path, method=method, headers=headers, port=self.ports[row])
        return self.arrival.send(call, self.ports[row]).status


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    provider = Provider()
    provider.start()
    arrival = Arrival(Path(tmp_path_factory.mktemp("custom")))
    ports = {name: arrival.plan(each, CONTEXT, echo=("x-agreed",)) for name, each in ROWS.items()}
    everything = {name: asked(custom(name, {})) for name in ("http", "grpc", "unknown")}
    tcp = {name: arrival.plan(each, CONTEXT, of_http=False) for name, each in everything.items()}
    unread = {name: arrival.plan(each, CONTEXT, of_http=False, unread=True) for name, each in UNREAD.items()}
    arrival.add(static_cluster("asked-8000", provider.http_port))
    arrival.add(static_cluster("asked-8001", free_port()))
    arrival.add(static_cluster("asked-9000", provider.grpc_port, http2=True))
    arrival.start()
    yield Proxy(arrival, ports, tcp, unread, provider)
    arrival.stop()
    provider.stop()


def test_the_provider_is_asked_by_http(proxy: Proxy) -> None:
    """With the headers it is to have; its answer, and the headers of it that are to go on, count."""
    proxy.provider.asked.clear()
    call = Call(path="/admin/x", headers={"x-user": "good", "x-other": "o"}, port=proxy.ports["http"])
    good = proxy.arrival.send(call, call.port)
    bad = proxy.arrival.send(replace(call, headers={"x-user": "bad"}), call.port)
    assert (good.status, good.headers["seen-x-agreed"]) == (200, "because")
    assert (bad.status, bad.headers["x-why"]) == (418, "because")
    path, headers = proxy.provider.asked[0]
    assert path == "/check/admin/x"
    assert (headers["x-user"], headers["x-from"], headers.get("x-other")) == ("good", "mesh", None)


def test_what_it_does_not_match_it_does_not_ask_about(proxy: Proxy) -> None:
    """Neither does a policy that is only tried."""
    proxy.provider.asked.clear()
    assert [proxy.status(row, "/public") for row in ("http", "grpc", "unknown", "away")] == [200] * 4
    assert proxy.status("tried only") == 200
    assert proxy.provider.asked == []


def test_the_provider_is_asked_by_grpc(proxy: Proxy) -> None:
    """About requests, and about connections that are none."""
    assert [proxy.status("grpc", user=user) for user in ("good", "bad")] == [200, 403]
    port = proxy.tcp["grpc"]
    tcp = Call(is_http=False, port=port)
    answers = [
        proxy.arrival.send(replace(tcp, source_ip=ip), port).status for ip in ("127.0.0.2", "127.0.0.1")
    ]
    assert answers == [200, 0]


def test_other_policies_count_after_it(proxy: Proxy) -> None:
    """Who it agrees to may be denied by another, and must be allowed where something is."""
    assert proxy.status("deny too", user="good") == 403
    assert [proxy.status("allow too", user="good", method=each) for each in ("GET", "POST")] == [200, 403]


def test_a_provider_that_is_away(proxy: Proxy) -> None:
    """Closes with its status, unless it is to fail open."""
    assert [proxy.status(row) for row in ("away", "open")] == [503, 200]


@pytest.mark.parametrize("row", ["unknown", "nowhere", "bad name", "no authorizer", "two providers"])
def test_where_nobody_can_be_asked_what_matches_is_denied(proxy: Proxy, row: str) -> None:
    """And `decide` says so with the reason."""
    assert proxy.status(row, user="good") == 403
    decision = decide(ROWS[row], Call(path="/admin"), CONTEXT)
    assert not decision.allowed
    assert "provider" in decision.reason


def test_by_http_nobody_is_asked_about_bytes(proxy: Proxy) -> None:
    """As in Istio: an HTTP provider's policy says nothing of such connections, a wrong one's denies."""
    calls = {name: Call(is_http=False, port=proxy.tcp[name]) for name in ("http", "unknown")}
    answers = {name: proxy.arrival.send(call, call.port).status for name, call in calls.items()}
    assert answers == {"http": 200, "unknown": 0}
    assert decide(asked(custom("http", {})), calls["http"], CONTEXT).allowed
    assert not decide(asked(custom("unknown", {})), calls["unknown"], CONTEXT).allowed


@pytest.mark.parametrize("row", UNREAD)
def test_what_may_be_a_request_is_denied_where_requests_are_asked_about(proxy: Proxy, row: str) -> None:
    """Bytes on a port of which nobody says that they are no HTTP; where bytes may be judged they are."""
    port = proxy.unread[row]
    calls = [Call(is_http=False, is_unread=True, port=port, source_ip=f"127.0.0.{last}") for last in (1, 2)]
    for call, is_let_in in zip(calls, EXPECTED_UNREAD[row], strict=True):
        answer, decision = proxy.arrival.send(call, port), decide(UNREAD[row], call, CONTEXT)
        assert (answer.status == 200) is is_let_in
        assert bool(answer.body) is decision.allowed, "who is refused hears nothing"
        assert decision.allowed is (is_let_in or decision.asks == "grpc")


def test_decide_names_whom_it_would_ask() -> None:
    """What the provider would answer is not known."""
    decision = decide(ROWS["http"], Call(path="/admin"), CONTEXT)
    assert (decision.allowed, decision.asks) == (True, "http")
    assert decide(ROWS["http"], Call(path="/x"), CONTEXT).asks == ""
    tried = decide(ROWS["tried only"], Call(path="/admin"), CONTEXT)
    assert (tried.allowed, tried.asks, len(tried.notes)) == (True, "", 1)


def test_the_configuration_of_the_mesh_is_read() -> None:
    """What is wrong in it is told; what concerns other things is left alone."""
    assert mesh_options.options(None) is mesh_options.DEFAULTS
    assert "no YAML" in mesh_options.options({"data": {"mesh": "a: ["}}).problem
    for text in (
        "extensionProviders: 7",
        "pathNormalization: BASE",
        "trustDomainAliases: 7",
        "trustDomain: dömäne",
        "trustDomain: a/ns/b",
        "since: 2026-13-45",
        "[" * 9_999,
    ):
        unread = mesh_options.options({"data": {"mesh": text}})
        assert unread.problem, text
        assert unread.trust_domain == "cluster.local"
    assert OPTIONS.provider("traces").problem.startswith("available providers are")
    problems: dict[str, dict[str, Any]] = {
        "pathPrefix": {"pathPrefix": "x"},
        "statusOnError": {"statusOnError": "999"},
        "wildcard": {"headersToUpstreamOnAllow": ["*"]},
        "port": {"port": 0},
        "unknown field": {"nothing": 1},
    }
    for word, wrong in problems.items():
        providers = [{"name": "p", "envoyExtAuthzHttp": {**HTTP, **wrong}}]
        assert (
            word
            in mesh_options.options({"data": {"mesh": json.dumps({"extensionProviders": providers})}})
            .provider("p")
            .problem
        )
    read = options(trustDomain="td1", trustDomainAliases=["td2"])
    assert read.trust_domains == ("td1", "td2")
