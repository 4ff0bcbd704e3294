"""Addresses that mean no other machine, in every form in which they are written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.base import addresses


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.8.8", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:7f00:1", "loopback"),
        ("0:0:0:0:0:ffff:7f08:0808", "loopback"),
        ("169.254.169.254", "link-local range"),
        ("::ffff:a9fe:a9fe", "link-local range"),
        ("fe80::1", "link-local range"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("0.1.2.3", "this network"),
        ("224.0.0.5", "link-local multicast"),
        ("ff02::5", "link-local multicast"),
        ("239.1.1.1", "multicast"),
        ("ff0e::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("10.0.0.1", ""),
        ("203.0.113.9", ""),
        ("2001:db8::1", ""),
        ("::ffff:10.0.0.1", ""),
    ],
)
def test_what_is_objected_to(text: str, word: str) -> None:
    """Loopback, link, many and none are no endpoints; a mapped IPv4 address is what it maps to."""
    address = addresses.parsed(text)
    assert address is not None
    assert word in addresses.objection(address)
    assert addresses.is_special(text) is bool(word)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f000001", "010.0.0.1", "fe80::1%eth0", "1.2.3.4/32"]
)
def test_what_is_no_address(text: str) -> None:
    """What resolvers or zones make an address of is none here, and nobody is sent there."""
    assert addresses.parsed(text) is None
    assert addresses.is_special(text)


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    """No form of an address gets by where another is refused."""
    packed = b"\0" * 10 + b"\xff\xff" + address.packed
    assert addresses.is_special(str(ipaddress.IPv6Address(packed))) == addresses.is_special(str(address))
