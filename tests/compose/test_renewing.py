"""Certificates that are renewed while the platform runs."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from cryptography import x509

from ondol.base import errors
from ondol.base.clock import ManualClock
from ondol.compose import credentials, renewing
from ondol.compose.instance import Instance, Ports
from ondol.contracts import eventing


def _instance(folder: Path) -> Instance:
    return Instance("0a0b0c", folder, Ports(1, 2, 3), "10.100.0.0/16", "10.101.0.0/16")


def test_eventing_finds_its_certificate_where_it_is_made(tmp_path: Path) -> None:
    """It is for every service of the data plane, and made before any part needs it."""
    instance = _instance(tmp_path)
    credentials.certify(instance, ManualClock())
    file, key = credentials.events_certificate(instance)
    assert key.exists()
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == set(eventing.certified_names())
    assert "broker-ingress.knative-eventing.svc.cluster.local" in eventing.certified_names()


@pytest.mark.anyio
async def test_it_is_looked_at_every_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure is no end of it."""
    clock, times = ManualClock(), []
    looked = anyio.Event()

    def certify(_instance: Instance, clock: ManualClock) -> None:
        times.append(clock.monotonic())
        anyio.from_thread.run_sync(looked.set)
        if len(times) == 1:
            raise errors.HostError("no key", remedy="restore it")

    monkeypatch.setattr(credentials, "certify_events", certify)
    async with renewing.certificates(_instance(tmp_path), clock):
        for _ in range(2):
            await anyio.wait_all_tasks_blocked()
            await clock.advance(renewing.EVERY_S)
            await looked.wait()
            looked = anyio.Event()
            await anyio.wait_all_tasks_blocked()
    assert len(times) == 2
