"""Where a host of a connection that is no HTTP is: a service, or anywhere that may be reached."""

from __future__ import annotations

import anyio
import pytest

from ondol.base import errors
from ondol.base.addresses import is_special
from ondol.eventing.plane.dialing import Dialing

SERVICES = {"kafka.shop.svc.cluster.local": "10.96.0.9", "0.kafka.shop.svc.cluster.local": "10.88.0.5"}


async def _resolve(host: str) -> str:
    if host not in SERVICES:
        raise errors.Unavailable(f"{host} has no address")
    return SERVICES[host]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("kafka.shop", "10.96.0.9"),
        ("Kafka.shop.svc", "10.96.0.9"),
        ("kafka.shop.svc.cluster.local.", "10.96.0.9"),
        ("0.kafka.shop.svc", "10.88.0.5"),
        ("192.0.2.7", "192.0.2.7"),
        ("other.shop.svc", "has no address"),
        ("127.0.0.1", "nothing may be sent to from here"),
        ("::1", "nothing may be sent to from here"),
        ("169.254.169.254", "nothing may be sent to from here"),
        ("localhost", "nothing may be sent to from here"),
    ],
)
def test_where_a_host_is(host: str, address: str) -> None:
    """Services by the platform's names; whatever is this machine's alone is not reached by any name."""
    dial = Dialing(_resolve, lambda each: not is_special(each))

    async def main() -> str:
        try:
            return await dial(host)
        except errors.Unavailable as error:
            return error.message

    outcome = anyio.run(main)
    assert outcome == address or outcome.endswith(address)
