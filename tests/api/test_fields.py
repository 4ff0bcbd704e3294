"""Field selectors: syntax, escapes, and which labels a kind knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import fields, resources
from ondol.api.objects import Resource
from ondol.base import errors

_POD = {
    "metadata": {"name": "web-0", "namespace": "shop"},
    "spec": {"nodeName": "n1", "restartPolicy": "Always"},
    "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
}
_WIDGET = Resource("example.com", "v1", "widgets", "Widget")


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=web-0", True),
        ("metadata.name==web-1", False),
        ("spec.nodeName!=", True),
        ("spec.nodeName=", False),
        ("status.phase!=Running", False),
        ("metadata.namespace=shop,status.phase=Running", True),
        ("spec.hostNetwork=false", True),
        ("spec.host=n1", True),
        ("status.nominatedNodeName=", True),
        ("status.podIPs=10.0.0.1\\,fd00::1", True),
        (",metadata.name=web-0,", True),
    ],
)
def test_a_pod_is_selected_by_its_fields(text: str, matches: bool) -> None:
    """Absent fields read as empty, booleans as words."""
    selector = fields.parse_for(resources.POD, text)
    assert fields.matches(selector, resources.POD, _POD) is matches


@pytest.mark.parametrize(
    ("resource", "obj", "label", "value"),
    [
        (resources.NODE, {"spec": {"unschedulable": True}}, "spec.unschedulable", "true"),
        (resources.NODE, {}, "spec.unschedulable", "false"),
        (resources.EVENT, {"involvedObject": {"kind": "Pod"}}, "involvedObject.kind", "Pod"),
        (resources.EVENT, {"source": {"component": "kubelet"}}, "source", "kubelet"),
        (resources.EVENT, {"reportingComponent": "sched"}, "source", "sched"),
        (resources.SECRET, {"type": "Opaque"}, "type", "Opaque"),
        (resources.REPLICA_SET, {"status": {"replicas": 3}}, "status.replicas", "3"),
        (resources.REPLICA_SET, {}, "status.replicas", "0"),
        (Resource("batch", "v1", "jobs", "Job"), {"status": {"succeeded": 2}}, "status.successful", "2"),
        (
            Resource("events.k8s.io", "v1", "events", "Event"),
            {"regarding": {"name": "x"}},
            "regarding.name",
            "x",
        ),
        (
            Resource("events.k8s.io", "v1", "events", "Event"),
            {"reportingController": "c"},
            "reportingController",
            "c",
        ),
        (resources.EVENT, {"reportingComponent": "c"}, "reportingComponent", "c"),
    ],
)
def test_each_kind_reads_its_own_labels(
    resource: Resource, obj: dict[str, object], label: str, value: str
) -> None:
    """The label's text is what a client wrote it as, not always the stored path."""
    assert fields.field_value(resource, obj, label) == value


def test_an_unknown_label_is_refused() -> None:
    """A selector on a field nobody indexed is an error, never an empty answer."""
    with pytest.raises(errors.BadRequest, match=r"^field label not supported: spec\.image$"):
        fields.parse_for(resources.POD, "spec.image=x")
    with pytest.raises(errors.BadRequest, match=r"^field label not supported: status\.phase$"):
        fields.parse_for(resources.DEPLOYMENT, "status.phase=x")
    newer = Resource("events.k8s.io", "v1", "events", "Event")
    for resource, label in (
        (newer, "reportingComponent"),
        (newer, "source"),
        (newer, "involvedObject.name"),
        (resources.EVENT, "reportingController"),
        (resources.EVENT, "regarding.name"),
    ):
        with pytest.raises(errors.BadRequest, match="field label not supported"):
            fields.parse_for(resource, f"{label}=x")


def test_a_custom_resource_knows_its_selectable_fields() -> None:
    """The CRD names the fields; they join the metadata labels every kind has."""
    selector = fields.parse_for(_WIDGET, "spec.color=red", selectable=("spec.color",))
    assert fields.matches(selector, _WIDGET, {"spec": {"color": "red"}}, ("spec.color",))
    assert not fields.matches(selector, _WIDGET, {"spec": {}}, ("spec.color",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("a=b\\c", "invalid field selector: invalid escape sequence: \\c"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
    ],
)
def test_an_unreadable_field_selector_is_a_bad_request(text: str, message: str) -> None:
    """The message names the part that cannot be understood."""
    with pytest.raises(errors.BadRequest) as caught:
        fields.parse(text)
    assert caught.value.message == message


def test_a_pinned_field_is_known_without_matching() -> None:
    """A list by name or by node can go straight to its index."""
    selector = fields.parse("metadata.name=a,spec.nodeName!=b")
    assert selector.required_value("metadata.name") == "a"
    assert selector.required_value("spec.nodeName") is None


@given(st.lists(st.tuples(st.text(), st.booleans()), max_size=4))
def test_any_value_survives_escaping(values: list[tuple[str, bool]]) -> None:
    """Printing then parsing gives back every value, whatever characters it holds."""
    terms = tuple(fields.Term(f"field{i}", value, equal) for i, (value, equal) in enumerate(values))
    assert set(fields.parse(str(fields.Selector(terms))).terms) == set(terms)


def test_the_terms_of_a_selector_are_bounded() -> None:
    """Each object is held against all of them, for everyone who waits meanwhile."""
    fields.parse(",".join(["metadata.name!=a"] * fields.TERMS_MAX))
    with pytest.raises(errors.BadRequest, match="at most"):
        fields.parse(",".join(["metadata.name!=a"] * (fields.TERMS_MAX + 1)))
