"""Lists of name servers in settings."""

from __future__ import annotations

import pytest

from ondol.base import name_servers


def test_servers_and_domains() -> None:
    """Servers for all names, with or without a port, and several for a domain."""
    parsed = name_servers.parse("192.0.2.53, 192.0.2.54:5353, Corp.Example=10.0.0.53, corp.example=fd00::53")
    assert parsed.servers == ("192.0.2.53", "192.0.2.54:5353")
    assert parsed.stubs == {"corp.example": ("10.0.0.53", "fd00::53")}
    assert name_servers.parse("") == name_servers.NameServers()


@pytest.mark.parametrize(
    "text", ["dns.example", "192.0.2.53:0", "192.0.2.53:x", "=192.0.2.53", "a_b=192.0.2.53"]
)
def test_what_is_no_server(text: str) -> None:
    """Is named."""
    with pytest.raises(ValueError, match="is no name server"):
        name_servers.parse(text)
