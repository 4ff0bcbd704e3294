"""Every kind of the table survives protobuf, and the wire form is Kubernetes'."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.from_facts import KINDS, document

from ondol.api import protobuf
from ondol.api.schema import typed
from ondol.base import errors, protowire


def completed(type_name: str, drawn: dict[str, Any]) -> dict[str, Any]:
    canonical = typed.of(type_name).decode(drawn)
    typed.of(type_name).fill(canonical)
    return canonical


@pytest.mark.parametrize(("api_version", "kind"), sorted(KINDS))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_kind_survives_the_wire(api_version: str, kind: str, data: st.DataObject) -> None:
    """What is written is read again, up to what typed structs cannot tell apart."""
    type_name = KINDS[api_version, kind]
    original = {**data.draw(document(type_name, 4)), "apiVersion": api_version, "kind": kind}
    read = protobuf.decode(protobuf.encode(original))
    assert completed(type_name, read) == completed(type_name, original)


@pytest.mark.parametrize("rule", [{}, {"exitCodes": {"operator": "In"}}])
def test_a_required_field_that_json_leaves_out_stays_out(rule: dict[str, Any]) -> None:
    """Protobuf writes its zero all the same: read again, nothing was given."""
    original = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"restartPolicyRules": [rule]}]}}
    read = protobuf.decode(protobuf.encode(original))
    assert "action" not in read["spec"]["containers"][0]["restartPolicyRules"][0]


def test_the_bytes_are_kubernetes_own() -> None:
    """A small ConfigMap, spelled out: envelope, then name, then data; empty strings are written."""
    body = protobuf.encode(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    )
    meta = b"\x0a\x01a\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00"
    raw = b"\x0a" + bytes([len(meta)]) + meta + b"\x12\x06\x0a\x01k\x12\x01v"
    assert (
        body
        == b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + bytes([len(raw)]) + raw + b"\x1a\x00\x22\x00"
    )
    assert protobuf.decode(body) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"k": "v"},
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-62135596798, "0001-01-01T00:00:02.000000Z"),
        (-30610224000, "1000-01-01T00:00:00.000000Z"),
        (253402300799, "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_a_time_is_of_any_year_with_four_digits(seconds: int, text: str) -> None:
    """From Go's first moments on, and back to the same bytes."""
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    body = protobuf.encode({**lease, "spec": {"renewTime": text}})
    assert protowire.put_number(1, seconds) in body
    assert protobuf.decode(body)["spec"]["renewTime"] == text


def test_a_time_nobody_set_is_absent_and_one_out_of_range_is_refused() -> None:
    """Go's zero time is no time; the year 71,000 has no spelling in JSON."""
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    body = protobuf.encode({**lease, "spec": {"renewTime": "0001-01-01T00:00:00.000000Z"}})
    assert "renewTime" not in protobuf.decode(body).get("spec", {})
    near, far = protowire.put_number(1, 253402300799), protowire.put_number(1, 1 << 41)
    body = protobuf.encode({**lease, "spec": {"renewTime": "9999-12-31T23:59:59.000000Z"}})
    with pytest.raises(errors.BadRequest, match="outside of the years"):
        protobuf.decode(body.replace(near, far))


def test_what_json_inlines_is_nested_on_the_wire() -> None:
    """A volume's source is a message of its own."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}]},
    }
    body = protobuf.encode(pod)
    assert b"\x0a\x01v\x12\x08\x9a\x01\x05\x0a\x03\x0a\x01c" in body
    assert protobuf.decode(body)["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "c"}}]


def test_options_of_a_delete_are_read_in_any_group() -> None:
    """Clients name the group of what they delete."""
    for api_version in ("v1", "apps/v1", "meta.k8s.io/v1"):
        options = {"apiVersion": api_version, "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        assert protobuf.decode(protobuf.encode(options)) == options


def test_lists_have_a_form_too() -> None:
    """Items without their own kind, as in a typed list."""
    pods = {
        "apiVersion": "v1",
        "kind": "PodList",
        "metadata": {"resourceVersion": "7"},
        "items": [{"metadata": {"name": "a"}}],
    }
    read = protobuf.decode(protobuf.encode(pods))
    assert read["metadata"] == {"resourceVersion": "7"}
    assert read["items"][0]["metadata"] == {"name": "a"}


def test_unknown_numbers_are_skipped() -> None:
    """A newer client's fields do not stop an older server."""
    body = protobuf.encode({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})
    opened = dict(protowire.fields(body[4:]))
    meta, raw = opened[1], opened[2]
    assert isinstance(meta, bytes)
    assert isinstance(raw, bytes)
    newer = raw + protowire.put_number(99, 5) + protowire.put_bytes(100, b"x")
    read = protobuf.decode(protobuf.MAGIC + protowire.put_bytes(1, meta) + protowire.put_bytes(2, newer))
    assert read["metadata"] == {"name": "a"}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"k8s\x00\x0a\x7f", b"k8s\x00\x12\x02\x0a\x09", b"k8s\x00\xff\xff"]
)
def test_a_broken_body_is_a_bad_request(body: bytes) -> None:
    """Never a crash, never an empty object."""
    with pytest.raises(errors.BadRequest):
        protobuf.decode(body)


@given(st.binary(max_size=40))
def test_no_bytes_crash_the_reader(tail: bytes) -> None:
    """Whatever follows a good envelope's head."""
    head = protowire.put_bytes(1, b"\x0a\x02v1\x12\x03Pod")
    with contextlib.suppress(errors.BadRequest):
        protobuf.decode(protobuf.MAGIC + head + protowire.put_bytes(2, tail))


def test_custom_kinds_have_no_protobuf_form() -> None:
    """The server answers them in JSON."""
    with pytest.raises(errors.NotAcceptable):
        protobuf.encode({"apiVersion": "x.io/v1", "kind": "Foo"})
