"""From a Destination to an address: by tables of what it refers to."""

from __future__ import annotations

import pytest

from ondol.api.objects import Object
from ondol.eventing.destinations import Address, Unresolved, addresses

SERVICE = {"apiVersion": "v1", "kind": "Service", "name": "s"}
BROKER = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b", "namespace": "n"}
ONE = {"url": "http://one.test/path", "CACerts": "ca", "audience": "aud", "name": "http"}
TWO = {"url": "https://two.test", "name": "https"}


def resolved(destination: Object, obj: Object | None = None) -> Address:
    ref = addresses.reference_of(destination, "default")
    if ref is None:
        return addresses.of_uri(destination)
    return addresses.of_reference(destination, ref, obj or {})


@pytest.mark.parametrize(
    ("destination", "obj", "address"),
    [
        ({"uri": "http://a.test:8080/x?y=1"}, None, Address("http://a.test:8080/x?y=1")),
        (
            {"uri": "https://a.test", "CACerts": "c", "audience": "d"},
            None,
            Address("https://a.test", "c", "d"),
        ),
        ({"ref": SERVICE}, None, Address("http://s.default.svc.cluster.local")),
        ({"ref": SERVICE | {"namespace": "n"}}, None, Address("http://s.n.svc.cluster.local")),
        (
            {"ref": SERVICE, "CACerts": "c"},
            None,
            Address("https://s.default.svc.cluster.local", "c"),
        ),
        ({"ref": SERVICE, "uri": "/a/b"}, None, Address("http://s.default.svc.cluster.local/a/b")),
        ({"ref": SERVICE, "uri": "a"}, None, Address("http://s.default.svc.cluster.local/a")),
        (
            {"ref": BROKER},
            {"address": ONE},
            Address("http://one.test/path", "ca", "aud", "http"),
        ),
        ({"ref": BROKER}, {"address": ONE, "addresses": [TWO]}, Address("https://two.test", name="https")),
        (
            {"ref": BROKER | {"address": "http"}},
            {"addresses": [TWO, ONE]},
            Address("http://one.test/path", "ca", "aud", "http"),
        ),
        (
            {"ref": BROKER, "CACerts": "own", "audience": "me"},
            {"address": ONE},
            Address("http://one.test/path", "own", "me", "http"),
        ),
        ({"ref": BROKER, "uri": "sub"}, {"address": TWO}, Address("https://two.test/sub", name="https")),
        (
            {"ref": BROKER, "uri": "/other"},
            {"address": {"url": "http://one.test/path"}},
            Address("http://one.test/other"),
        ),
    ],
)
def test_an_address(destination: Object, obj: Object | None, address: Address) -> None:
    """A Service has its name, anything else what its status says; a relative URI is joined to it."""
    assert resolved(destination, {"status": obj or {}}) == address


@pytest.mark.parametrize(
    ("destination", "status", "message"),
    [
        ({}, {}, "destination missing Ref and URI, expected at least one"),
        (
            {"uri": "/a"},
            {},
            'URI is not absolute (both scheme and host should be non-empty): "/a"',
        ),
        ({"uri": "http://[::1/"}, {}, "'http://[::1/' is no URL: Invalid IPv6 URL"),
        (
            {"ref": BROKER},
            {"address": {"url": "http://[::1/"}},
            "'http://[::1/' is no URL: Invalid IPv6 URL",
        ),
        ({"ref": BROKER}, {}, "address not set for Broker n/b"),
        ({"ref": BROKER}, {"address": {"name": "http"}}, "URL missing in address of Broker n/b"),
        ({"ref": BROKER}, {"address": {"url": "/x"}}, "hostname missing in address of Broker n/b"),
        (
            {"ref": BROKER | {"address": "tls"}},
            {"addresses": [ONE]},
            'address with name "tls" not found for Broker n/b',
        ),
        (
            {"ref": BROKER, "uri": "http://x.test"},
            {"address": ONE},
            "absolute URI is not allowed when Ref or [apiVersion, kind, name] exists",
        ),
    ],
)
def test_none(destination: Object, status: Object, message: str) -> None:
    """What is missing is told in Knative's words."""
    with pytest.raises(Unresolved) as raised:
        resolved(destination, {"status": status})
    assert str(raised.value) == message


def test_the_fields_of_a_status_are_absent_where_there_is_nothing() -> None:
    """So that a writer takes them away."""
    assert Address("http://a", audience="b").as_status("sink") == {
        "sinkUri": "http://a",
        "sinkCACerts": None,
        "sinkAudience": "b",
    }
