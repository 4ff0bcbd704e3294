"""Bundles of trust: which certificates senders believe besides those that an address states."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.eventing.plane_rig import HOST, INGRESS, NAMESPACE, Rig, eventually, rig

from ondol.api import resources
from ondol.api.objects import Object
from ondol.apiserver import pki
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.contracts import eventing
from ondol.eventing.cloudevents.event import new
from ondol.eventing.configuration import trust
from ondol.eventing.configuration.live import Live
from ondol.eventing.exchange import Target
from ondol.eventing.plane.outgoing import Outgoing
from ondol.eventing.plane.sending import HttpSender, Ways
from ondol.web.calling import Caller


def _bundle(name: str, label: str = "true", **data: str) -> Object:
    metadata = {"name": name, "namespace": eventing.NAMESPACE, "labels": {trust.LABEL: label}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two authorities."""
    folder = tmp_path_factory.mktemp("pki")
    first, second = (pki.ensure(folder / name, clock=SystemClock()).ca_file.read_text() for name in "ab")
    return first, second


def test_certificates_of_bundles_are_taken_together(certificates: tuple[str, str]) -> None:
    """By name and key and each once; what is no certificate, and what has not the label, does no harm."""
    first, second = certificates
    broken = first.replace("MI", "!!", 1)
    key = "-----BEGIN PRIVATE KEY-----\nMAo=\n-----END PRIVATE KEY-----\n"
    nothing = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"
    maps = [
        _bundle("z", **{"b.pem": f"words\n{key}{first}", "a.pem": f"{second}{nothing}{broken}"}),
        _bundle("a", **{"ca.crt": second}),
        _bundle("b", "false", **{"ca.crt": first}),
        {"metadata": {"name": "c"}},
    ]
    assert trust.combined(maps) == second + first
    assert trust.combined(maps[2:]) == ""


def test_bundles_are_bounded(certificates: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are beyond are left out whole, for they must fit one ConfigMap."""
    first, second = certificates
    monkeypatch.setattr(trust, "BYTES_MAX", len(first) + len(second) - 1)
    assert trust.combined([_bundle("a", a=first, b=second)]) == first


async def _taken(sender: Outgoing, url: str) -> int:
    return (await sender.send(new(id="1", source="/s", type="t"), Target(url))).status


@pytest.mark.anyio
async def test_senders_believe_bundles_as_they_are_now(tmp_path: Path) -> None:
    """An address that states no certificates is sent events while a bundle certifies it, no longer."""
    async with rig(tmp_path) as rigged:
        await rigged.broker()
        await rigged.switch(transport_encryption="permissive")
        caller = Caller()
        sender = await _sender(rigged, caller)
        url = f"https://{INGRESS}:{rigged.tls_port}/{NAMESPACE}/b"
        with pytest.raises(errors.Unavailable):
            await _taken(sender, url)
        await rigged.client.create(resources.CONFIG_MAP, _bundle("company", **{"ca.crt": rigged.ca_certs}))

        async def is_believed() -> bool:
            try:
                return await _taken(sender, url) == 202
            except errors.Unavailable:
                return False

        await eventually(is_believed)
        await rigged.client.delete(resources.CONFIG_MAP, "company", eventing.NAMESPACE)

        async def is_refused() -> bool:
            return not await is_believed()

        await eventually(is_refused)
        caller.close()


async def _sender(rigged: Rig, caller: Caller) -> Outgoing:
    """One as the plane has it, but for names, which lead here."""

    async def resolve(_host: str) -> str:
        return HOST

    manager = rigged.world.manager("ondol-test")
    live = Live(manager)
    await rigged.world.start(manager)
    return Outgoing(HttpSender(caller, Ways(resolve=resolve), trusted=lambda: live.trusted))
