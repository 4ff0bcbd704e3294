"""TLS at the ingress for real: Istio's tasks of secure gateways, with clients that check certificates."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import anyio.to_thread
from tests.mesh import handshakes, traffic
from tests.mesh import live as real
from tests.mesh.handshakes import Authority, client_context, status, tls_secret
from tests.mesh.live import Live, web
from tests.ports import free_port

from ondol.api import conditions, resources
from ondol.api.objects import Object
from ondol.contracts.mesh import DESTINATION_RULE, GATEWAY, VIRTUAL_SERVICE

pytestmark = real.MARKS
SELECTOR = {"istio": "ingressgateway"}


def https(*hosts: str, credential: str, name: str = "https", number: int = 443, **tls: Any) -> Object:
    port = {"number": number, "name": name, "protocol": "HTTPS"}
    return {
        "port": port,
        "hosts": list(hosts),
        "tls": {"mode": "SIMPLE", "credentialName": credential, **tls},
    }


def gateway(*servers: Object) -> Object:
    return {"selector": SELECTOR, "servers": list(servers)}


def to_web(*hosts: str, by: str, subset: str = "v1") -> Object:
    route = [{"destination": {"host": "web", "subset": subset, "port": {"number": 80}}}]
    return {"hosts": list(hosts), "gateways": [by], "http": [{"route": route}]}


async def keep(live: Live, *secrets: Object) -> None:
    for each in secrets:
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": each["metadata"]["namespace"]},
        }
        await live.client.apply(resources.NAMESPACE, namespace)
        await live.client.apply(resources.SECRET, each)


async def answers(live: Live, expected: Sequence[int], *calls: tuple[Any, ...]) -> None:
    """Until the calls to the TLS port are answered so."""

    async def reached() -> bool:
        port = live.config.ingress_tls_port
        seen = [await anyio.to_thread.run_sync(status, port, *call) for call in calls]
        return seen == list(expected)

    await live.world.eventually(reached, why=f"{[call[0] for call in calls]} to be answered {expected}")


async def findings(live: Live, name: str) -> str:
    document = await live.client.get(GATEWAY, name, "default")
    return str((conditions.get(document, "PassedAnalysis") or {}).get("message") or "")


async def test_hosts_have_their_certificates_and_rules(live: Live) -> None:
    """Two hosts at one port, each with its own Secret; no host is served in a connection for the other."""
    await web(live)
    root = Authority()
    await keep(
        live,
        tls_secret("httpbin", "default", root.certify("httpbin.example")),
        tls_secret("hello", "istio-system", root.certify("hello.example")),
    )
    servers = (
        https("httpbin.example", credential="httpbin", name="a"),
        https("hello.example", credential="hello", name="b", number=8443),
    )
    await live.rule(GATEWAY, "mygateway", gateway(*servers))
    await live.rule(VIRTUAL_SERVICE, "httpbin", to_web("httpbin.example", by="mygateway"))
    await live.rule(VIRTUAL_SERVICE, "hello", to_web("hello.example", by="mygateway", subset="v2"))
    context = client_context(root)
    calls = [
        ("httpbin.example", context),
        ("hello.example", context),
        ("httpbin.example", context, "hello.example"),
        ("other.example", context),
    ]
    await answers(live, [200, 200, 404, 0], *calls)
    assert await findings(live, "mygateway") == ""
    h2 = client_context(root)
    h2.set_alpn_protocols(["h2"])

    def agreed() -> str | None:
        with handshakes.connected(live.config.ingress_tls_port, "hello.example", h2) as secure:
            return secure.selected_alpn_protocol()

    assert await anyio.to_thread.run_sync(agreed) == "h2"


async def test_a_new_certificate_ends_no_connection(live: Live) -> None:
    """The Secret changes under an open connection, which goes on; a broken one leaves the former."""
    await web(live)
    root, other = Authority(), Authority("other")
    await keep(live, tls_secret("shop", "default", root.certify("shop.example")))
    await live.rule(GATEWAY, "shop", gateway(https("shop.example", credential="shop")))
    await live.rule(VIRTUAL_SERVICE, "shop", to_web("shop.example", by="shop"))
    await answers(live, [200], ("shop.example", client_context(root)))
    port = live.config.ingress_tls_port
    secure = await anyio.to_thread.run_sync(handshakes.connected, port, "shop.example", client_context(root))
    with secure:
        assert (await anyio.to_thread.run_sync(handshakes.ask, secure, "shop.example"))[0] == 200
        await keep(live, tls_secret("shop", "default", other.certify("shop.example")))
        calls = [("shop.example", client_context(other)), ("shop.example", client_context(root))]
        await answers(live, [200, 0], *calls)
        assert (await anyio.to_thread.run_sync(handshakes.ask, secure, "shop.example"))[0] == 200
        await keep(live, handshakes.secret("shop", "default", tls_crt=b"x", tls_key=b"y"))

        async def reported() -> bool:
            return "the former one is served" in await findings(live, "shop")

        await live.world.eventually(reported, why="the broken Secret to be told")
        assert (await anyio.to_thread.run_sync(handshakes.ask, secure, "shop.example"))[0] == 200
        await answers(live, [200, 0], *calls)


async def test_who_has_no_secret_is_not_served(live: Live) -> None:
    """Its connections end, also under another's wildcard; others serve on; the Secret alone ends that."""
    await web(live)
    root = Authority()
    await keep(live, tls_secret("all", "default", root.certify("*.shop.example")))
    servers = (
        https("*.shop.example", credential="all", name="all"),
        https("a.shop.example", credential="late", name="late"),
    )
    await live.rule(GATEWAY, "shop", gateway(*servers))
    await live.rule(VIRTUAL_SERVICE, "shop", to_web("*.shop.example", by="shop"))
    context = client_context(root)
    calls = [("a.shop.example", context), ("b.shop.example", context)]
    await answers(live, [0, 200], *calls)
    assert "IST0101" in await findings(live, "shop")
    assert "no Secret default/late nor istio-system/late" in await findings(live, "shop")
    await keep(live, tls_secret("late", "other", root.certify("a.shop.example")))
    await answers(live, [0, 200], *calls)
    await keep(live, tls_secret("late", "default", root.certify("a.shop.example")))
    await answers(live, [200, 200], *calls)

    async def passed() -> bool:
        return await findings(live, "shop") == ""

    await live.world.eventually(passed, why="the Gateway to be without findings")
    await live.client.delete(resources.SECRET, "late", "default")
    await answers(live, [0, 200], *calls)


async def test_clients_show_certificates(live: Live) -> None:
    """MUTUAL lets in whom the authorities of `NAME-cacert` or the Secret itself know, unless revoked."""
    await web(live)
    root, clients = Authority(), Authority("clients")
    good, revoked, stranger = clients.certify("ann"), clients.certify("eve"), root.certify("bob")
    pair = root.certify("shop.example")
    await keep(
        live,
        handshakes.secret("shop", "default", of="Opaque", cert=pair.chain, key=pair.key),
        handshakes.secret(
            "shop-cacert", "default", of="Opaque", cacert=clients.pem, crl=clients.revoked(revoked)
        ),
    )
    servers = (
        https("shop.example", credential="shop", name="a", mode="MUTUAL"),
        https("optional.example", credential="either", name="b", mode="OPTIONAL_MUTUAL"),
        https("ann.example", credential="either", name="c", mode="MUTUAL", subjectAltNames=["ann"]),
    )
    either = root.certify("optional.example", "ann.example")
    await keep(live, tls_secret("either", "default", either, trusted=clients.pem))
    await live.rule(GATEWAY, "shop", gateway(*servers))
    hosts = ("shop.example", "optional.example", "ann.example")
    await live.rule(VIRTUAL_SERVICE, "shop", to_web(*hosts, by="shop"))
    of = {
        "good": client_context(root, good),
        "none": client_context(root),
        "revoked": client_context(root, revoked),
        "stranger": client_context(root, stranger),
    }
    expected = {
        "shop.example": {"good": 200, "none": 0, "revoked": 0, "stranger": 0},
        "optional.example": {"good": 200, "none": 200, "revoked": 200, "stranger": 0},
        "ann.example": {"good": 200, "none": 0, "revoked": 0, "stranger": 0},
    }
    for host, by_client in expected.items():
        await answers(live, list(by_client.values()), *((host, of[client]) for client in by_client))


async def test_two_keys_ciphers_and_versions(live: Live) -> None:
    """A server with an RSA and an ECDSA certificate shows what the client can read."""
    await web(live)
    root = Authority()
    for kind in ("rsa", "ecdsa"):
        await keep(live, tls_secret(kind, "default", root.certify("shop.example", kind=kind)))
    await keep(live, tls_secret("old", "default", root.certify("old.example", kind="rsa")))
    both = https("shop.example", credential="", name="both", credentialNames=["rsa", "ecdsa"])
    del both["tls"]["credentialName"]
    cipher = "ECDHE-RSA-AES256-GCM-SHA384"
    old = https(
        "old.example", credential="old", name="old", maxProtocolVersion="TLSV1_2", cipherSuites=[cipher]
    )
    await live.rule(GATEWAY, "shop", gateway(both, old))
    await live.rule(VIRTUAL_SERVICE, "shop", to_web("shop.example", "old.example", by="shop"))
    context = client_context(root)
    await answers(live, [200, 200], ("shop.example", context), ("old.example", context))
    port = live.config.ingress_tls_port
    kinds = []
    for signed in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"):
        limited = client_context(root)
        limited.maximum_version = ssl.TLSVersion.TLSv1_2
        limited.set_ciphers(signed)
        kinds.append(await anyio.to_thread.run_sync(handshakes.cipher_kind, port, "shop.example", limited))
    assert kinds == ["ecdsa", "rsa"]

    def used() -> tuple[str | None, str]:
        with handshakes.connected(port, "old.example", context) as secure:
            return secure.version(), (secure.cipher() or ("", "", 0))[0]

    assert await anyio.to_thread.run_sync(used) == ("TLSv1.2", cipher)


async def test_plain_requests_are_sent_to_https(live: Live) -> None:
    """With `httpsRedirect` all requests of the hosts are answered 301, whether rules speak of them or not."""
    await web(live)
    server = {
        "port": {"number": 80, "name": "http", "protocol": "HTTP"},
        "hosts": ["shop.example", "b.example"],
    }
    await live.rule(GATEWAY, "shop", gateway({**server, "tls": {"httpsRedirect": True}}))
    await live.rule(VIRTUAL_SERVICE, "shop", to_web("shop.example", by="shop"))
    calls = [
        {"address": "127.0.0.1", "port": live.config.ingress_port, "host": host}
        for host in ("shop.example", "b.example", "c.example")
    ]
    seen = [await anyio.to_thread.run_sync(traffic.call, call) for call in calls]
    assert [answer["status"] for answer in seen] == [301, 301, 404]
    to = f"https://shop.example:{live.config.ingress_tls_port}/"
    assert seen[0]["headers"]["location"] == to


async def test_names_choose_where_tls_goes_on(live: Live) -> None:
    """Passed on by `tls` rules as it is, by name and weight, at a port of its own beside the ingress' two."""
    await web(live)
    await live.service("secure", port=("https", 443), to={"web-v1": 9443})
    await live.service("secure2", port=("tls", 443), to={"web-v2": 9444})
    number = free_port()
    server = {
        "port": {"number": number, "name": "tls", "protocol": "TLS"},
        "hosts": ["*.example"],
        "tls": {"mode": "PASSTHROUGH"},
    }
    await live.rule(GATEWAY, "through", gateway(server))

    def leads(name: str, *hosts: str) -> Object:
        to = [{"destination": {"host": name, "port": {"number": 443}}}]
        return {"match": [{"port": number, "sniHosts": list(hosts)}], "route": to}

    spec = {
        "hosts": ["a.example", "*.b.example"],
        "gateways": ["through"],
        "tls": [leads("secure", "a.example"), leads("secure2", "*.b.example")],
    }
    await live.rule(VIRTUAL_SERVICE, "through", spec)
    seen = [
        await anyio.to_thread.run_sync(traffic.call, {"address": "127.0.0.1", "port": number, "tls": name})
        for name in ("a.example", "x.b.example", "c.example")
    ]
    assert [answer.get("text") for answer in seen] == ["9443 a.example\n", "9444 x.b.example\n", None]


async def test_bytes_go_by_tcp_rules(live: Live) -> None:
    """A TCP port shares connections by weight, as in Istio's task; TLS that ends here carries bytes, too."""
    await web(live)
    await live.service("echo", port=("tcp", 9000), to={"web-v1": 9000, "web-v2": 9001})
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v1", "v2")]
    await live.rule(DESTINATION_RULE, "echo", {"host": "echo", "subsets": subsets})
    plain, secure = free_port(), free_port()
    root = Authority()
    await keep(live, tls_secret("echo", "default", root.certify("echo.example")))
    servers = (
        {"port": {"number": plain, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
        {
            "port": {"number": secure, "name": "tls", "protocol": "TLS"},
            "hosts": ["echo.example"],
            "tls": {"mode": "SIMPLE", "credentialName": "echo"},
        },
    )
    await live.rule(GATEWAY, "echo", gateway(*servers))

    def to(version: str, weight: int) -> Object:
        where = {"host": "echo", "port": {"number": 9000}, "subset": version}
        return {"destination": where, "weight": weight}

    spec = {
        "hosts": ["*"],
        "gateways": ["echo"],
        "tcp": [
            {"match": [{"port": plain}], "route": [to("v1", 80), to("v2", 20)]},
            {"match": [{"port": secure}], "route": [to("v2", 0)]},
        ],
    }
    await live.rule(VIRTUAL_SERVICE, "echo", spec)
    call = {"address": "127.0.0.1", "port": plain, "raw": True}
    texts = [(await anyio.to_thread.run_sync(traffic.call, call))["text"] for _ in range(100)]
    assert 5 <= texts.count("hello from another\n") <= 45
    assert texts.count("hello from the server\n") == 100 - texts.count("hello from another\n")

    def first() -> bytes:
        with handshakes.connected(secure, "echo.example", client_context(root)) as connection:
            return connection.recv(100)

    assert await anyio.to_thread.run_sync(first) == b"hello from another\n"
