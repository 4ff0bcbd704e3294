"""RequestAuthentications in a real Envoy: which tokens are believed, where they may be, and their keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from tests.mesh.arrival import Arrival, Issuer, authorization, policy, rule, static_cluster
from tests.ports import free_port

from ondol.mesh.policy import Call, Context, decide
from ondol.mesh.policy.workload import WorkloadPolicy

ISSUER: Final = Issuer()
SECOND: Final = Issuer("https://second.example/x")
STRANGER: Final = Issuer("stranger")
FORGED: Final = Issuer()
"""Of the same name, with another key."""


def authentication(*rules: dict[str, Any]) -> Any:
    return rule("RequestAuthentication", {"jwtRules": list(rules)})


def of(issuer: Issuer, **more: Any) -> dict[str, Any]:
    return {"issuer": issuer.name, "jwks": issuer.jwks, **more}


ONE: Final = policy(authentication(of(ISSUER)))
TWO: Final = policy(authentication(of(ISSUER)), authentication(of(SECOND)))
AUDIENCE: Final = policy(authentication(of(ISSUER, audiences=["shop"])))
REQUIRED: Final = policy(authentication(of(ISSUER, presence="REQUIRED"), of(SECOND)))
DENY_REST: Final = policy(
    authentication(of(ISSUER)),
    authorization(action="DENY", rules=[{"from": [{"source": {"notRequestPrincipals": ["*"]}}]}]),
)
PLACES: Final = policy(
    authentication(
        of(
            ISSUER,
            fromHeaders=[{"name": "x-token", "prefix": "jwt "}],
            fromParams=["t"],
            fromCookies=["session"],
            outputPayloadToHeader="x-payload",
            outputClaimToHeaders=[{"header": "x-sub", "claim": "sub"}],
        )
    )
)
FORWARDING: Final = policy(authentication(of(ISSUER, forwardOriginalToken=True)))
SPACES: Final = policy(
    authentication(of(ISSUER, spaceDelimitedClaims=["roles"])),
    authorization(rules=[{"when": [{"key": "request.auth.claims[roles]", "values": ["ops"]}]}]),
)
ROWS: Final[dict[str, WorkloadPolicy]] = {
    "one": ONE,
    "two": TWO,
    "audience": AUDIENCE,
    "required": REQUIRED,
    "deny rest": DENY_REST,
    "places": PLACES,
    "forwarding": FORWARDING,
    "spaces": SPACES,
}


@dataclass
class Keys:
    """A server of keys that can be away, and be counted."""

    document: str
    port: int = field(default_factory=free_port)
    asked: int = 0
    server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        keys = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys.asked += 1
                body = keys.document.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@dataclass
class Proxy:
    arrival: Arrival
    ports: dict[str, int]
    keys: Keys
    late: Keys

    def status(self, row: str, token: str = "", call: Call | None = None) -> int:
        sent = replace(call or Call(), port=self.ports[row])
        return self.arrival.send(sent, self.ports[row], token).status


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    arrival = Arrival(Path(tmp_path_factory.mktemp("tokens")))
    echo = ("authorization", "x-payload", "x-sub")
    ports = {name: arrival.plan(asked, echo=echo) for name, asked in ROWS.items()}
    keys, late = Keys(ISSUER.jwks), Keys(SECOND.jwks)
    keys.start()
    uri = f"http://localhost:{keys.port}/keys"
    ports["outside"] = arrival.plan(policy(authentication({"issuer": ISSUER.name, "jwksUri": uri})))
    inside = {"issuer": SECOND.name, "jwksUri": "http://keys.foo:80/keys", "timeout": "0.5s"}
    cluster = "outbound|80||keys.foo.svc.cluster.local"
    context = Context(
        lambda host, port: cluster if (host, port) == (cluster.rpartition("|")[2], 80) else None
    )
    ports["inside"] = arrival.plan(policy(authentication(inside)), context)
    arrival.add(static_cluster(cluster, late.port))
    arrival.start()
    yield Proxy(arrival, ports, keys, late)
    arrival.stop()
    keys.stop()
    late.stop()


def test_wrong_tokens_are_refused_and_missing_ones_are_not(proxy: Proxy) -> None:
    """A good token and none are taken; a forged, a stale and a foreign one, and no token at all, are not."""
    assert proxy.status("one") == 200
    assert proxy.status("one", ISSUER.token()) == 200
    for token in (FORGED.token(), STRANGER.token(), ISSUER.token(exp=1), "no.token.atall", "x"):
        assert proxy.status("one", token) == 401, token


def test_several_issuers_are_believed(proxy: Proxy) -> None:
    """Each by its own keys, in the same place."""
    assert [proxy.status("two", each.token()) for each in (ISSUER, SECOND, STRANGER)] == [200, 200, 401]
    assert proxy.status("two") == 200


def test_a_token_is_for_somebody(proxy: Proxy) -> None:
    """One of its audiences must be among those of the rule."""
    tokens = (
        ISSUER.token(aud="shop"),
        ISSUER.token(aud=["x", "shop"]),
        ISSUER.token(aud="x"),
        ISSUER.token(),
    )
    assert [proxy.status("audience", token) for token in tokens] == [200, 200, 403, 403]
    decided = [decide(AUDIENCE, Call(claims=Issuer.claims(token))).allowed for token in tokens]
    assert decided == [True, True, False, False]


def test_presence_can_be_required(proxy: Proxy) -> None:
    """Then a call without that token is refused, and one with another's."""
    assert [proxy.status("required", token) for token in (ISSUER.token(), "", SECOND.token())] == [
        200,
        401,
        401,
    ]
    assert not decide(REQUIRED, Call()).allowed
    assert decide(REQUIRED, Call(claims={"iss": ISSUER.name})).allowed


def test_a_policy_can_ask_for_any_token(proxy: Proxy) -> None:
    """Istio's idiom: DENY what has no request principal."""
    assert [proxy.status("deny rest", token) for token in (ISSUER.token(), "")] == [200, 403]


def test_places_and_headers_for_the_application(proxy: Proxy) -> None:
    """A token may be in named headers, parameters and cookies, and no more in the usual ones."""
    token = ISSUER.token()
    port = proxy.ports["places"]
    for call in (
        Call(headers={"x-token": f"jwt {token}"}),
        Call(path=f"/?t={token}"),
        Call(headers={"cookie": f"a=b; session={token}"}),
    ):
        answer = proxy.arrival.send(call, port)
        assert (answer.status, answer.headers["seen-x-sub"]) == (200, "sub")
        assert answer.headers["seen-x-payload"]
    usual = proxy.arrival.send(Call(), port, STRANGER.token())
    assert (usual.status, usual.headers.get("seen-x-sub", "")) == (200, "")


def test_the_token_itself_is_kept_from_the_application(proxy: Proxy) -> None:
    """Unless its rule says otherwise."""
    token = ISSUER.token()
    hidden, forwarded = (proxy.arrival.send(Call(), proxy.ports[row], token) for row in ("one", "forwarding"))
    assert hidden.headers.get("seen-authorization", "") == ""
    assert forwarded.headers["seen-authorization"] == f"Bearer {token}"


def test_claims_of_words_are_lists(proxy: Proxy) -> None:
    """A claim that the rule calls space delimited has its words one by one."""
    good, bad = ISSUER.token(roles="dev ops"), ISSUER.token(roles="devops")
    assert [proxy.status("spaces", token) for token in (good, bad)] == [200, 403]
    assert decide(SPACES, Call(claims=Issuer.claims(good))).allowed
    assert not decide(SPACES, Call(claims=Issuer.claims(bad))).allowed


def test_keys_are_fetched_and_kept(proxy: Proxy) -> None:
    """From a server that is no service of the mesh; once, not for each call."""
    assert [proxy.status("outside", each.token()) for each in (ISSUER, ISSUER, ISSUER)] == [200] * 3
    assert [proxy.status("outside", FORGED.token()), proxy.status("outside")] == [401, 200]
    assert 1 <= proxy.keys.asked <= 2


def test_without_keys_tokens_are_refused_until_they_are_there(proxy: Proxy) -> None:
    """It fails closed while the server of keys is away, and recovers by itself."""
    token = SECOND.token()
    assert proxy.status("inside", token) == 401
    assert proxy.status("inside") == 200
    proxy.late.start()
    until = time.monotonic() + 10
    while proxy.status("inside", token) != 200 and time.monotonic() < until:
        time.sleep(0.1)
    assert proxy.status("inside", token) == 200
    proxy.late.stop()
    assert proxy.status("inside", token) == 200  # kept


def test_the_cluster_of_a_secure_server_checks_its_name() -> None:
    """Keys by https come from whom the machine's authorities vouch for."""
    asked = policy(authentication({"issuer": "x", "jwksUri": "https://accounts.example/certs"}))
    (cluster,) = asked.jwks_clusters(Context())
    assert cluster.name == "jwks|443|accounts.example|https"
    text = str(cluster)
    assert "ca-certificates.crt" in text
    assert "accounts.example" in text
