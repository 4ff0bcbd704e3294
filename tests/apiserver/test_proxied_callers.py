"""Callers whom an authenticating proxy names in headers: who may, and that nobody else can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.apiserver.edge import App, config, get, serving, tls

from ondol import apiserver
from ondol.apiserver import pki
from ondol.apiserver.auth.authenticate import PROXY
from ondol.apiserver.auth.request_headers import Names, Reader
from ondol.apiserver.peers import Peers, ProxyAuthority
from ondol.base import errors
from ondol.base.clock import SystemClock

pytestmark = pytest.mark.anyio

FORGED = {"X-Remote-User": "root", "X-Remote-Group": "system:masters"}
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    """Another authority, of the same name as the server's own, with a client who would be administrator."""
    admin = pki.Client("admin", "root", ("system:masters",))
    return pki.ensure(tmp_path_factory.mktemp("other"), clock=SystemClock(), clients=(admin,))


def _own(issued: pki.Pki, *names: str) -> ProxyAuthority:
    return ProxyAuthority(issued.front_proxy_ca_file.read_bytes(), frozenset(names))


@pytest.mark.parametrize(("names", "expected"), [((pki.FRONT_PROXY,), True), ((), True), (("x",), False)])
async def test_a_proxy_is_known_by_its_certificate(
    issued: pki.Pki, app: App, names: tuple[str, ...], expected: bool
) -> None:
    """By its name, too, if some are listed; it is no user, and users are no proxies."""
    async with serving(app, config(issued, proxies=(_own(issued, *names),))) as ((address,), _):
        seen = await get(address, tls(issued, pki.FRONT_PROXY))
        assert (seen["ondol.proxy"], seen["ondol.certificate"]) == (expected, None)
        seen = await get(address, tls(issued, "admin"), headers=FORGED)
        assert seen["ondol.proxy"] is None
        assert seen["ondol.certificate"]["name"] == "kubernetes-admin"
        seen = await get(address, tls(issued), headers=FORGED)
        assert (seen["ondol.proxy"], seen["ondol.certificate"]) == (None, None)


async def test_an_authority_of_proxies_makes_no_users(issued: pki.Pki, other: pki.Pki, app: App) -> None:
    """Even if it calls itself as the server's own authority does: keys tell them apart."""
    proxies = (_own(issued, pki.FRONT_PROXY), ProxyAuthority(other.ca_file.read_bytes(), frozenset({"gate"})))
    async with serving(app, config(issued, proxies=proxies)) as ((address,), _):
        seen = await get(address, tls(issued, "admin", of=other))
        assert (seen["ondol.proxy"], seen["ondol.certificate"]) == (False, None)
        seen = await get(address, tls(issued, "admin"))
        assert seen["ondol.certificate"]["name"] == "kubernetes-admin"


def test_who_issued_a_certificate_is_told_by_its_key(issued: pki.Pki, other: pki.Pki) -> None:
    """An authority below a proxies' one, which may call itself as the users' does, makes no users either."""
    file = other.directory / "clients" / "admin.crt"
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    encoded = certificate.public_bytes(serialization.Encoding.DER)
    connection = SimpleNamespace(getpeercert=lambda **_: encoded)
    shown = {
        "subject": ((("commonName", "root"),), (("organizationName", "system:masters"),)),
        "issuer": ((("commonName", "ondol-ca"),),),
    }
    transport = SimpleNamespace(get_extra_info={"peercert": shown, "ssl_object": connection}.get)
    peers = Peers(issued.ca_file.read_bytes(), (_own(issued, pki.FRONT_PROXY),))
    assert peers.scope(transport) == {PROXY: False}


async def _whoami(api: Any, proxy: bool | None, headers: dict[str, str]) -> Any:
    scope = api._scope("POST", REVIEWS, {"content-type": "application/json", **headers})
    if proxy is not None:
        scope["ondol.proxy"] = proxy
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"metadata":{}}', "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await api.app(scope, receive, send)
    return sent


async def test_whom_a_believed_proxy_names_asks(start: Callable[..., Any], issued: pki.Pki) -> None:
    """User, uid, groups and the rest, in the headers that are set; without a name nobody does."""
    key = issued.service_account_key_file.read_bytes()
    names = Names(user=("X-User", "X-Remote-User"))
    async with start(service_account_key=key, config=apiserver.ApiConfig(request_headers=names)) as api:
        caller = api.as_("")
        headers = {
            "X-Remote-User": "ann",
            "X-Remote-Uid": "u-1",
            "X-Remote-Group": "dev",
            "X-Remote-Extra-Example.org%2FScope": "x",
        }
        answer = await _whoami(caller, True, headers)
        assert answer[0]["status"] == 201
        for part in (
            b'"username":"ann"',
            b'"uid":"u-1"',
            b'["dev","system:authenticated"]',
            b'"example.org/scope"',
        ):
            assert part in answer[1]["body"]
        assert b'"username":"eve"' in (await _whoami(caller, True, {**headers, "X-User": "eve"}))[1]["body"]
        assert (await _whoami(caller, True, {}))[0]["status"] == 401
        assert (await _whoami(caller, False, headers))[0]["status"] == 401
        assert (await _whoami(caller, None, headers))[0]["status"] == 403  # the anonymous may not review


def test_a_name_that_is_no_text_is_nobodys() -> None:
    """Two users must not become one."""
    with pytest.raises(errors.Unauthorized):
        Reader().user([(b"x-remote-user", b"ann\xff")])


async def test_other_servers_are_told_how_this_one_is_known(start: Callable[..., Any]) -> None:
    """In the ConfigMap where they look for it, which a role lets them read; it comes back as it was."""
    settings = apiserver.ApiConfig(ca_certificate="users", front_proxy="proxies")
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    async with start(config=settings) as api:
        live = (await api.get(path)).json
        assert live["data"] == {
            "client-ca-file": "users",
            "requestheader-allowed-names": '["front-proxy-client"]',
            "requestheader-client-ca-file": "proxies",
            "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-uid-headers": '["X-Remote-Uid"]',
            "requestheader-username-headers": '["X-Remote-User"]',
        }
        roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles"
        role = (await api.get(f"{roles}/extension-apiserver-authentication-reader")).json
        assert role["rules"][0]["resourceNames"] == ["extension-apiserver-authentication"]
        await api.delete(path)
        await api.settle()
        await api.clock.advance(2)
        await api.settle()
        assert (await api.get(path)).json["data"] == live["data"]


async def test_a_second_start_writes_nothing_about_it(start: Callable[..., Any], tmp_path: Path) -> None:
    """What is as it should be is left alone."""
    from ondol import store  # noqa: PLC0415 - one test's

    settings = apiserver.ApiConfig(ca_certificate="users", front_proxy="proxies")
    log = store.open_file(tmp_path / "store.db")
    async with start(log, settings):
        pass
    revision = log.revision
    async with start(log, settings):
        assert log.revision == revision
    log.close()
