"""Addresses of the data plane by TLS: which are stated, what they take in, and by whom they are certified."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from cryptography import x509
from tests.eventing.plane_rig import HOST, INGRESS, NAMESPACE, Rig, eventually, rig
from tests.ports import free_port

from ondol.api import objects
from ondol.api.objects import Resource
from ondol.apiserver import pki
from ondol.base import errors
from ondol.base.clock import ManualClock, SystemClock
from ondol.base.listeners import NONE
from ondol.contracts import eventing
from ondol.eventing import addressing
from ondol.eventing.cloudevents.event import new
from ondol.eventing.configuration import features
from ondol.eventing.exchange import Target
from ondol.eventing.plane.front import LOOK_S, Certified, Front
from ondol.eventing.plane.hosts import Hosts
from ondol.eventing.plane.sending import HttpSender, Ways
from ondol.web import serving
from ondol.web.application import Receive, Scope, Send
from ondol.web.calling import Caller, Place

BROKER = {"metadata": {"name": "b", "namespace": "n"}}
PLAIN, SECRET = "http://b.test", "https://b.test"


@pytest.mark.parametrize(
    ("mode", "address", "listed"),
    [
        ("disabled", PLAIN, None),
        ("permissive", PLAIN, [SECRET, PLAIN]),
        ("strict", SECRET, [SECRET]),
    ],
)
def test_addresses_are_as_knative_lists_them(mode: str, address: str, listed: list[str] | None) -> None:
    """The first of them is where senders here go."""
    flags = features.of({"data": {"transport-encryption": mode}}, "AUTHORITY")
    stated = addressing.fields(PLAIN, SECRET, eventing.BROKER, BROKER, flags)
    assert stated["address"]["url"] == address
    assert (stated["addresses"] and [each["url"] for each in stated["addresses"]]) == listed
    for each in stated["addresses"] or ():
        assert each.get("CACerts") == ("AUTHORITY" if each["name"] == "https" else None)


def test_without_a_certificate_addresses_stay_plain() -> None:
    """Nobody is sent to where nothing listens."""
    assert features.of({"data": {"transport-encryption": "strict"}}).transport == "disabled"


async def _urls(rigged: Rig, resource: Resource, name: str) -> list[str]:
    status = objects.status(await rigged.client.get(resource, name, NAMESPACE))
    return [each["url"] for each in status.get("addresses") or [status["address"]]]


@pytest.mark.anyio
async def test_events_come_in_by_the_schemes_that_the_flag_says(tmp_path: Path) -> None:
    """At a broker, and at a channel, which by TLS has a path; who is sent elsewhere may try again."""
    async with rig(tmp_path) as rigged:
        trusting = ssl.create_default_context(cadata=rigged.ca_certs)
        dispatcher = f"{eventing.CHANNEL_DISPATCHER}.{eventing.NAMESPACE}.svc.cluster.local"
        await rigged.broker()
        await rigged.create(eventing.IN_MEMORY_CHANNEL, "c", {})
        await rigged.ready(eventing.IN_MEMORY_CHANNEL, "c")
        assert (await rigged.send("1", tls=trusting)).status == 404
        assert (await rigged.send("1")).status == 202
        for mode, plain, schemes in (("permissive", 202, ["https", "http"]), ("strict", 404, ["https"])):
            await rigged.switch(transport_encryption=mode)

            async def is_stated(schemes: list[str] = schemes) -> bool:
                urls = [
                    *await _urls(rigged, eventing.BROKER, "b"),
                    *await _urls(rigged, eventing.IN_MEMORY_CHANNEL, "c"),
                ]
                return [url.partition(":")[0] for url in urls] == schemes * 2

            await eventually(is_stated)

            async def is_taken() -> bool:
                return (await rigged.send("2", tls=trusting)).status == 202

            await eventually(is_taken)
            assert (await rigged.send("3")).status == plain
            of_channel = await rigged.send("4", path=f"/{NAMESPACE}/c", host=dispatcher, tls=trusting)
            assert of_channel.status == 202
        [url] = await _urls(rigged, eventing.IN_MEMORY_CHANNEL, "c")
        assert url == f"https://{dispatcher}/{NAMESPACE}/c"
        rigged.caller.close()


@pytest.mark.anyio
async def test_senders_believe_the_authority_of_the_address_alone(tmp_path: Path) -> None:
    """Who cannot be verified is sent nothing: the event waits for its next attempt."""
    async with rig(tmp_path) as rigged:
        await rigged.broker()
        await rigged.switch(transport_encryption="strict")

        async def resolve(_host: str) -> str:
            return HOST

        caller = Caller()
        sender = HttpSender(caller, Ways(resolve=resolve))
        url = f"https://{INGRESS}:{rigged.tls_port}/{NAMESPACE}/b"
        event = new(id="1", source="/s", type="t")

        async def is_taken() -> bool:
            target = Target(url, ca_certs=rigged.ca_certs)
            return (await sender.send(target, event, [])).status == 202

        await eventually(is_taken)
        for other in ("", pki.ensure(tmp_path / "other", clock=SystemClock()).ca_file.read_text()):
            with pytest.raises(errors.Unavailable):
                await sender.send(Target(url, ca_certs=other), event, [])
        caller.close()


@contextlib.asynccontextmanager
async def _speaking_tls(folder: Path) -> AsyncIterator[int]:
    """A server that only speaks TLS; its port."""
    issued = pki.ensure(folder / "pki", clock=SystemClock())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pki.ensure_server(issued.directory, "a", [INGRESS], clock=SystemClock()))
    port = free_port()
    listening = serving.listen_tcp(HOST, port, name="test")
    listening.listen(1024)
    async with serving.serving(_nothing, listening, grace_s=0, tls=context):
        yield port


async def _is_cut_off(port: int) -> None:
    """Who connects, and then says nothing, is."""
    async with await anyio.connect_tcp(HOST, port) as stream:
        with anyio.fail_after(20), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()


@pytest.mark.anyio
async def test_who_begins_no_handshake_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a few pods could hold every connection that the data plane may have."""
    monkeypatch.setattr(serving, "_HEAD_S", 0.2)
    async with _speaking_tls(tmp_path) as port:
        await _is_cut_off(port)


@pytest.mark.anyio
async def test_one_address_has_so_many_handshakes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is closed at once: thousands would take every descriptor. What has ended counts no more."""
    monkeypatch.setattr(serving, "_HEAD_S", 1000)
    async with _speaking_tls(tmp_path) as port, contextlib.AsyncExitStack() as opened:
        for _ in range(serving.PEER_CONNECTIONS_MAX):
            last = await opened.enter_async_context(await anyio.connect_tcp(HOST, port))
        await _is_cut_off(port)
        await last.aclose()

        async def is_served() -> bool:
            try:
                await anyio.to_thread.run_sync(ssl.get_server_certificate, (HOST, port))
            except OSError:
                return False
            return True

        await eventually(is_served)


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    return


@pytest.mark.anyio
async def test_a_certificate_is_renewed_while_it_is_shown(tmp_path: Path) -> None:
    """It is waited for at first; who connects after it is another sees the new one, and nobody is cut off."""
    clock, dates = ManualClock(), ManualClock(SystemClock().now())
    directory = pki.ensure(tmp_path / "pki", clock=dates).directory
    ports = free_port(), free_port()
    folder = directory / "servers"
    tls = Certified(ports[1], folder / "events.crt", folder / "events.key", "")

    def serial() -> int:
        pem = ssl.get_server_certificate((HOST, ports[1]), timeout=1).encode()
        return x509.load_pem_x509_certificate(pem).serial_number

    async def shown() -> int | None:
        await clock.advance(LOOK_S)
        try:
            return await anyio.to_thread.run_sync(serial)
        except OSError:
            return None

    front = Front(Hosts({}, _nothing), Place(HOST, ports[0]), tls, NONE, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(front.run)
        assert await shown() is None
        certificate, _ = pki.ensure_server(directory, "events", [INGRESS], clock=dates)
        first = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
        await clock.advance(1)

        async def is_first() -> bool:
            return await shown() == first

        await eventually(is_first)
        other = pki.ensure_server(tmp_path / "pki", "other", [INGRESS], clock=dates)[0].read_bytes()
        proper = certificate.read_bytes()
        certificate.write_bytes(other)  # which is not of the key: the former is shown still
        assert await shown() == first
        certificate.write_bytes(proper)
        await dates.advance(310 * 86_400)
        pki.ensure_server(directory, "events", [INGRESS], clock=dates)
        assert await shown() not in (None, first)
        await front.retire()
