"""Who a connection is: certificates of clients, and nothing that a client could write itself."""

from __future__ import annotations

import json
import ssl
import stat
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import wsproto
import wsproto.events
from tests.apiserver.edge import App, config, converse, get, serving, tls

from ondol.apiserver import listening, pki
from ondol.base.clock import SystemClock
from ondol.client import at_socket


async def test_a_client_certificate_becomes_user_and_groups(issued: pki.Pki, app: App) -> None:
    """Common name and organisations of the verified certificate stand in the scope."""
    async with serving(app, config(issued)) as ((address,), _):
        seen = await get(address, tls(issued, "admin"))
        assert seen["ondol.certificate"] == {"name": "kubernetes-admin", "groups": ["system:masters", "team"]}
        assert seen["state"] == {"answer": 42}
        anonymous = await get(address, tls(issued))
    assert anonymous["ondol.certificate"] is None


async def test_a_socket_of_this_machine_says_who_comes_by_it(
    issued: pki.Pki, app: App, tmp_path: Path
) -> None:
    """No certificate, no TLS, and no header that says otherwise; its owner alone may open it."""
    path = tmp_path / "s"
    path.touch()  # what a server that was killed leaves behind
    local = (listening.ListenLocal(path, "system:node:n1", ("system:nodes",)),)
    forged = {"X-Remote-User": "root", "ondol.certificate": "root"}
    async with serving(app, config(issued, local=local)) as (addresses, _):
        assert len(addresses) == 1, "the others' alone"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client = at_socket(path)
        answer = await client.raw("GET", "/", headers=forged)
        await client.aclose()
        anonymous = await get(addresses[0], tls(issued))
    assert json.loads(answer.body)["ondol.certificate"] == {
        "name": "system:node:n1",
        "groups": ["system:nodes"],
    }
    assert anonymous["ondol.certificate"] is None


async def test_a_websocket_goes_on_as_who_opened_the_connection(issued: pki.Pki, app: App) -> None:
    """Only a GET can become one; the certificate is that of the handshake."""
    async with serving(app, config(issued)) as ((address,), _):
        accepted, message, closed = await anyio.to_thread.run_sync(converse, address, tls(issued, "admin"))
        assert isinstance(accepted, wsproto.events.AcceptConnection)
        assert json.loads(message.data) == {"name": "kubernetes-admin", "groups": ["system:masters", "team"]}
        assert closed.code == 1000
        _, message, _ = await anyio.to_thread.run_sync(converse, address, tls(issued))
        assert json.loads(message.data) is None
        (answer,) = await anyio.to_thread.run_sync(converse, address, tls(issued), "POST")
        assert answer.startswith(b"HTTP/1.1 200")


async def test_no_header_can_stand_in_for_an_identity(issued: pki.Pki, app: App) -> None:
    """The scope keys of identity cannot be reached from the network."""
    forged = {"ondol.identity": "root", "ondol.certificate": "root", "X-Remote-User": "root"}
    async with serving(app, config(issued)) as ((address,), _):
        seen = await get(address, tls(issued), headers=forged)
    assert seen["ondol.identity"] is None
    assert seen["ondol.certificate"] is None


async def test_certificates_of_other_authorities_are_refused(
    issued: pki.Pki, app: App, tmp_path: Path
) -> None:
    """A stranger's certificate ends the connection instead of making its bearer anonymous."""
    stranger = pki.ensure(
        tmp_path, clock=SystemClock(), clients=(pki.Client("admin", "root", ("system:masters",)),)
    )
    context = tls(issued)
    context.load_cert_chain(*stranger.client_files("admin"))
    async with serving(app, config(issued)) as ((address,), _):
        with pytest.raises((ssl.SSLError, OSError)):
            await get(address, context)


async def test_a_serving_certificate_is_no_client_certificate(issued: pki.Pki, app: App) -> None:
    """Signed by our authority, but for another use."""
    context = tls(issued)
    context.load_cert_chain(issued.server_certificate_file, issued.server_key_file)
    async with serving(app, config(issued)) as ((address,), _):
        with pytest.raises((ssl.SSLError, OSError)):
            await get(address, context)
