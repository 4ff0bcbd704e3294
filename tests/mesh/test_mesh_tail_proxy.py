"""What rules say beyond routes, with the real proxy: delegates, budgets, localities, tunnels, filters."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.mesh import live as real
from tests.mesh.envoy_filters import LIMIT, http
from tests.mesh.guarded import guarding
from tests.mesh.live import Live, ports, split, web

from ondol.api import conditions, resources
from ondol.client import PatchType
from ondol.contracts.mesh import AUTHORIZATION_POLICY, DESTINATION_RULE, ENVOY_FILTER, VIRTUAL_SERVICE

pytestmark = real.MARKS
TYPE = "type.googleapis.com/envoy.extensions.filters.http"
ROUTER = {
    "filter": {
        "name": "envoy.filters.network.http_connection_manager",
        "subFilter": {"name": "envoy.filters.http.router"},
    }
}


@contextmanager
def server(live: Live, talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of bytes on the host's side of the test servers' link; its port."""
    with socket.create_server((live.servers.host, 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    talk(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


async def backend(live: Live, name: str, port: int, *, protocol: str = "tcp") -> str:
    """A service whose one endpoint is at a port of the host's; its address."""
    created = await live.service(name, port=(protocol, 7000), to={})
    document = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [live.servers.host], "conditions": {"ready": True}}],
        "ports": [{"name": protocol, "port": port, "protocol": "TCP"}],
    }
    await live.client.create(resources.ENDPOINT_SLICE, document, "default")
    return str(created["spec"]["clusterIP"])


async def settled(live: Live, check: Callable[[], Any], why: str) -> None:
    async def holds() -> bool:
        return bool(await check())

    await live.world.eventually(holds, why=why)


async def test_a_route_is_left_to_a_delegate(live: Live) -> None:
    """What the delegate says holds under the root's path; its change is its root's."""
    await web(live)
    delegate = {"http": [split(("v2", 0), match=[{"uri": {"prefix": "/new/deep"}}]), split(("v1", 0))]}
    await live.client.apply(
        VIRTUAL_SERVICE,
        {
            "apiVersion": VIRTUAL_SERVICE.api_version,
            "kind": "VirtualService",
            "metadata": {"name": "part", "namespace": "default"},
            "spec": delegate,
        },
    )
    leave = {"match": [{"uri": {"prefix": "/new"}}], "delegate": {"name": "part"}}
    root = {"hosts": ["web"], "http": [leave, {"directResponse": {"status": 418}}]}
    await live.rule(VIRTUAL_SERVICE, "web", root)
    assert ports(await live.call("client", {"path": "/new/deep"}, {"path": "/new"})) == {8002: 1, 8001: 1}
    assert await live.statuses("client", {"path": "/old"}) == [418]
    delegate = {"http": [{"directResponse": {"status": 409}}]}
    await live.rule(VIRTUAL_SERVICE, "part", delegate)
    assert await live.statuses("client", {"path": "/new/deep"}, {"path": "/old"}) == [409, 418]


async def test_a_budget_bounds_retries(live: Live) -> None:
    """Of calls that all fail at the same time, few are tried again; without a budget, all."""
    await web(live)
    retries = {"attempts": 1, "retryOn": "5xx", "backoff": "300ms"}
    await live.rule(VIRTUAL_SERVICE, "web", {"hosts": ["web"], "http": [split(("v1", 0), retries=retries)]})

    async def failing(key: str) -> int:
        """How many of thirty calls at once were tried again."""
        answers: list[int] = []

        async def one(index: int) -> None:
            answers.extend(await live.statuses("client", {"path": f"/fail/1/{key}{index}"}))

        async with anyio.create_task_group() as tasks:
            for index in range(12):
                tasks.start_soon(one, index)
        return answers.count(200)

    assert await failing("a") == 12
    budget = {"retryBudget": {"percent": 0, "minRetryConcurrency": 0}}
    subsets = [{"name": each, "labels": {"version": each}} for each in ("v1", "v2")]
    await live.rule(DESTINATION_RULE, "web", {"host": "web", "subsets": subsets, "trafficPolicy": budget})
    assert await failing("b") == 0


async def test_the_far_stand_in_for_the_near(live: Live) -> None:
    """Calls stay in their region until what is there fails, and then go to another."""
    near: dict[str, Any] = {"istio-locality": "eu.a"}
    far: dict[str, Any] = {"istio-locality": "us.a"}
    await live.pod("client", **near)
    await live.pod("web-near", **near)
    await live.pod("web-far", **far)
    await live.service(to={"web-near": 8001, "web-far": 8002})
    outliers = {
        "consecutive5xxErrors": 1,
        "interval": "100ms",
        "baseEjectionTime": "30s",
        "maxEjectionPercent": 100,
    }
    await live.rule(DESTINATION_RULE, "web", {"host": "web", "trafficPolicy": {"outlierDetection": outliers}})
    await live.rule(
        VIRTUAL_SERVICE,
        "web",
        {
            "hosts": ["web"],
            "http": [{"route": [{"destination": {"host": "web"}}], "retries": {"attempts": 0}}],
        },
    )
    await live.programmed("client")
    assert ports(await live.call("client", *[{}] * 10)) == {8001: 10}
    assert await live.statuses("client", {"path": "/fail/1/near"}) == [503]

    async def elsewhere() -> bool:
        return ports(await live.call("client", *[{}] * 5)) == {8002: 5}

    await settled(live, elsewhere, "calls to go to the other region")


@pytest.mark.parametrize(("version", "head"), [("V1", b"PROXY TCP4 "), ("V2", b"\r\n\r\n\x00\r\nQUIT\n")])
async def test_a_service_hears_who_calls_before_the_first_bytes(
    live: Live, version: str, head: bytes
) -> None:
    """The PROXY protocol, with the pod's own address."""
    heads: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        heads.append(connection.recv(100))
        connection.sendall(b"heard")

    with server(live, talk) as port:
        await live.pod("client")
        address = await backend(live, "db", port)
        await live.rule(
            DESTINATION_RULE, "db", {"host": "db", "trafficPolicy": {"proxyProtocol": {"version": version}}}
        )
        await live.programmed("client")
        (answer,) = await live.call("client", {"address": address, "port": 7000, "raw": True})
    assert answer["text"] == "heard"
    assert heads[0].startswith(head)
    client = live.addresses["client"]
    assert (client.encode() if version == "V1" else socket.inet_aton(client)) in heads[0]


async def test_bytes_go_through_a_proxy_to_their_target(live: Live) -> None:
    """The service is a forward proxy, which is asked to connect to the target."""
    asked: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        asked.append(connection.recv(1000))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nfrom the target")

    with server(live, talk) as port:
        await live.pod("client")
        address = await backend(live, "forward", port)
        tunnel = {"targetHost": "bank.example", "targetPort": 443}
        await live.rule(DESTINATION_RULE, "forward", {"host": "forward", "trafficPolicy": {"tunnel": tunnel}})
        await live.programmed("client")
        (answer,) = await live.call("client", {"address": address, "port": 7000, "raw": True})
    assert answer["text"] == "from the target"
    assert asked[0].startswith(b"CONNECT bank.example:443 HTTP/1.1\r\n")


# Certificates


def certificate(name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """A certificate for a name, of an authority or of its own, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(of: Any) -> bytes:
    if hasattr(of, "public_bytes") and not hasattr(of, "private_bytes"):
        encoded: bytes = of.public_bytes(serialization.Encoding.PEM)
        return encoded
    plain = serialization.NoEncryption()
    key: bytes = of.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return key


async def test_a_service_is_shown_the_certificate_of_a_secret(live: Live, tmp_path: Path) -> None:
    """A cluster without it refuses; once the Secret is there both sides know each other."""
    authority = certificate("authority")
    own, theirs = (certificate(name, authority) for name in ("client.example", "bank.example"))
    for name, part in (("ca", authority[0]), ("crt", theirs[0]), ("key", theirs[1])):
        (tmp_path / f"{name}.pem").write_bytes(pem(part))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt.pem", tmp_path / "key.pem")
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    callers: list[Any] = []

    def talk(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as secure:
                callers.append(secure.getpeercert())
                secure.recv(1000)
                secure.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except OSError:
            return

    with server(live, talk) as port:
        await live.pod("client")
        address = await backend(live, "bank", port, protocol="http")
        tls: dict[str, Any] = {"mode": "MUTUAL", "credentialName": "own", "sni": "bank.example"}
        policy = {"host": "bank", "trafficPolicy": {"tls": tls}}
        reported = await live.rule(DESTINATION_RULE, "bank", policy)
        assert (conditions.get(reported, "PassedAnalysis") or {})["reason"] == "IST0101"
        await live.programmed("client")
        call = {"address": address, "port": 7000, "host": "bank:7000"}
        assert await live.statuses("client", call) == [503]
        data = {"tls.crt": own[0], "tls.key": own[1], "ca.crt": authority[0]}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "own"},
            "type": "kubernetes.io/tls",
            "data": {name: b64encode(pem(part)).decode() for name, part in data.items()},
        }
        await live.client.create(resources.SECRET, secret, "default")

        async def answered() -> bool:
            return await live.statuses("client", call) == [200]

        await settled(live, answered, "the service to take the certificate")
        assert callers[-1]["subject"][0][0] == ("commonName", "client.example")
        tls["subjectAltNames"] = ["other.example"]
        await live.rule(DESTINATION_RULE, "bank", policy)
        assert await live.statuses("client", call) == [503]


# Filters


def filtered(value: Any) -> dict[str, Any]:
    match = {"context": "SIDECAR_OUTBOUND", "listener": {"filterChain": ROUTER}}
    return {"applyTo": "HTTP_FILTER", "match": match, "patch": {"operation": "INSERT_BEFORE", "value": value}}


def limit(calls: int) -> dict[str, Any]:
    bucket = {"max_tokens": calls, "tokens_per_fill": calls, "fill_interval": "300s"}
    everything = {"default_value": {"numerator": 100}}
    config = {"stat_prefix": "limit", "token_bucket": bucket}
    config |= {"filter_enabled": everything, "filter_enforced": everything}
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {"@type": f"{TYPE}.local_ratelimit.v3.LocalRateLimit", **config},
    }


async def test_a_filter_limits_calls_and_a_wrong_one_leaves_it(live: Live) -> None:
    """What Envoy refuses is told on the object in its words; the last good version goes on serving."""
    await web(live)
    await live.rule(ENVOY_FILTER, "limit", {"configPatches": [filtered(limit(3))]})
    assert await live.statuses("client", *[{}] * 5) == [200, 200, 200, 429, 429]
    reported = await live.rule(ENVOY_FILTER, "limit", {"configPatches": [filtered(limit(0))]}, "False")
    condition = conditions.get(reported, "Accepted") or {}
    assert condition["reason"] == "RejectedByProxy"
    assert "TokensPerFill" in condition["message"]
    assert await live.statuses("client", {}) == [429]
    wrong = filtered({"name": "x", "typed_config": {"@type": f"{TYPE}.buffer.v3.Buffer", "bytes": 1}})
    reported = await live.rule(ENVOY_FILTER, "limit", {"configPatches": [wrong]}, "False")
    condition = conditions.get(reported, "Accepted") or {}
    assert condition["reason"] == "Invalid"
    assert "spec.configPatches[0].patch.value" in condition["message"]
    assert await live.statuses("client", {}) == [429]
    await live.client.delete(ENVOY_FILTER, "limit", "default")

    async def free() -> bool:
        return await live.statuses("client", {}) == [200]

    await settled(live, free, "calls to be free again")


async def test_a_script_of_a_root_namespace_acts_on_the_pods_it_chooses(live: Live) -> None:
    """Another namespace's is refused, and a pod that is not chosen has none."""
    await web(live)
    await live.pod("other")
    await live.programmed("other")
    script = 'function envoy_on_response(handle) handle:headers():add("x-script", "lua") end'
    lua = {
        "name": "lua",
        "typed_config": {
            "@type": f"{TYPE}.lua.v3.Lua",
            "default_source_code": {"inline_string": script},
        },
    }
    spec = {"workloadSelector": {"labels": {"app": "client"}}, "configPatches": [filtered(lua)]}
    reported = await live.rule(ENVOY_FILTER, "script", spec, "False")
    assert (conditions.get(reported, "Accepted") or {})["reason"] == "NotAllowed"
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}
    await live.client.apply(resources.NAMESPACE, home)
    document = {
        "apiVersion": ENVOY_FILTER.api_version,
        "kind": "EnvoyFilter",
        "metadata": {"name": "script", "namespace": "istio-system"},
        "spec": spec,
    }
    await live.client.apply(ENVOY_FILTER, document)

    async def scripted() -> bool:
        (answer,) = await live.call("client", {})
        return bool(answer["headers"].get("x-script") == "lua")

    await settled(live, scripted, "the script to run")
    (answer,) = await live.call("other", {})
    assert "x-script" not in answer["headers"]
    routes = {
        "applyTo": "HTTP_ROUTE",
        "match": {"routeConfiguration": {"vhost": {"domainName": "web"}}},
        "patch": {
            "operation": "INSERT_FIRST",
            "value": {"name": "s", "match": {"path": "/stop"}, "directResponse": {"status": 418}},
        },
    }
    await live.client.patch(
        ENVOY_FILTER,
        "script",
        "istio-system",
        patch={"spec": {**spec, "configPatches": [routes]}},
        patch_type=PatchType.MERGE,
    )

    async def stopped() -> bool:
        return await live.statuses("client", {"path": "/stop"}, {}) == [418, 200]

    await settled(live, stopped, "the route to be there")
    assert await live.statuses("other", {"path": "/stop"}) == [200]


async def test_a_rule_chooses_its_callers(live: Live) -> None:
    """One pod's calls are limited to none at a time; another's are not."""
    await web(live)
    await live.pod("other")
    await live.programmed("other")
    policy = {"tls": {"mode": "SIMPLE"}}
    selector = {"workloadSelector": {"matchLabels": {"app": "client"}}}
    await live.rule(DESTINATION_RULE, "some", {"host": "web", "trafficPolicy": policy, **selector})
    assert await live.statuses("client", {}) == [503]
    assert await live.statuses("other", {}) == [200]


async def test_what_is_denied_costs_no_rate(live: Live) -> None:
    """The limit of a guarded pod is for those who are let in, from the mesh; others answer 403 as before."""
    async with guarding(live) as guarded:
        await guarded.server("web", ("http", 8001))
        for name in ("client", "other"):
            await guarded.account(name)
            await guarded.live.pod(name, account=name)
        await guarded.live.programmed("web", "client", "other")
        source = {"source": {"principals": ["cluster.local/ns/default/sa/client"]}}
        allow = {"action": "ALLOW", "rules": [{"from": [source]}]}
        selector = {"selector": {"matchLabels": {"app": "web"}}}
        await guarded.rule(AUTHORIZATION_POLICY, "web", {**selector, **allow})
        await guarded.turned("web")
        limit = {"configPatches": [http(LIMIT, "INSERT_FIRST", context="SIDECAR_INBOUND")]}
        await guarded.rule(ENVOY_FILTER, "limit", limit)
        request: dict[str, Any] = {"host": "web:8001", "port": 8001, "path": "/"}
        assert await guarded.statuses("other", *[request] * 3) == [403, 403, 403]
        assert await guarded.statuses("client", *[request] * 3) == [200, 200, 429]
