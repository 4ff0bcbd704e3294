"""Containers' environment variables, and references to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.example_pod import FACTS, POD

from ondol.api.objects import Object
from ondol.node import value_sources
from ondol.node.pods import env, planning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NO)", "$(NO)"),
        ("x$(A)y$(B)", "x1y2"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("$(B)$$(B)$$ $(", "2$(B)$ $("),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    """`$(NAME)` is replaced when known, `$$` is a dollar, everything else stays."""
    assert env.expand(text, {"A": "1", "B": "2"}) == expected


def test_expansion_of_a_million_open_references() -> None:
    """None of them closes, and none is searched to the end of the text."""
    assert env.expand("$(A)" + "$(" * 1_000_000, {"A": "1"}) == "1" + "$(" * 1_000_000


@given(st.text())
def test_expansion_of_nothing_known_only_halves_dollars(text: str) -> None:
    """Without variables a text without `$$` is itself."""
    if "$$" not in text:
        assert env.expand(text, {}) == text


def test_environment_order() -> None:
    """Services, envFrom, env: later wins, and env sees all that came before; all of it is over the image."""
    container: Object = {
        "name": "c",
        "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}],
        "env": [{"name": "X", "value": "$(P_k)"}, {"name": "Y", "value": "$(X)$(LATER)"}],
    }
    sources = value_sources.Sources({"m": {"kind": "ConfigMap", "data": {"k": "v"}}})
    declared = env.variables(POD, container, sources=sources, facts=FACTS, services={"S": "s"})
    assert declared == {"S": "s", "P_k": "v", "X": "v", "Y": "v$(LATER)"}
    whole = planning.environment({"PATH": "/bin", "S": "image"}, declared, "box")
    assert whole == {"PATH": "/bin", "HOSTNAME": "box", "S": "s", "P_k": "v", "X": "v", "Y": "v$(LATER)"}


@pytest.mark.parametrize(
    ("prefix", "name"), [("", "data-1"), ("1-", "1-data-1"), ("a b:", "a b:data-1"), ("#", "#data-1")]
)
def test_any_printable_name_is_a_variable(prefix: str, name: str) -> None:
    """Kubernetes 1.34 takes every printable ASCII character but `=` in a name."""
    sources = value_sources.Sources({"m": {"kind": "ConfigMap", "data": {"data-1": "v"}}})
    container: Object = {"name": "c", "envFrom": [{"configMapRef": {"name": "m"}, "prefix": prefix}]}
    assert env.variables(POD, container, sources=sources, facts=FACTS, services={}) == {name: "v"}
    assert env.skipped(POD, container, sources) == []


@pytest.mark.parametrize("prefix", ["a=", "é", "new\nline"])
def test_what_cannot_be_a_variable_is_left_out_and_told(prefix: str) -> None:
    """The kubelet's sentence names the keys and the source."""
    sources = value_sources.Sources(secrets={"s": {"kind": "Secret", "data": {"k": ""}}})
    container: Object = {"name": "c", "envFrom": [{"secretRef": {"name": "s"}, "prefix": prefix}]}
    assert env.variables(POD, container, sources=sources, facts=FACTS, services={}) == {}
    [skipped] = env.skipped(POD, container, sources)
    assert skipped.startswith(f"Keys [{prefix}k] from the EnvFrom secret n/s were skipped")


def test_paths_name_only_what_is_there() -> None:
    """`subPathExpr` with a variable that is not set is an error, as in the kubelet."""
    assert env.expand_strictly("a/$(X)/$$(Y)", {"X": "1"}) == "a/1/$(Y)"
    with pytest.raises(value_sources.ConfigMissing, match='missing value for "Y"'):
        env.expand_strictly("$(Y)", {"X": "1"})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
        ({"configMapKeyRef": {"name": "m", "key": "k"}}, "couldn't find key k in configmap m"),
        ({"fieldRef": {"fieldPath": "spec.nothing"}}, "not supported"),
    ],
)
def test_missing_sources(entry: Object, message: str) -> None:
    """What is not there is an error that names it, unless it is optional."""
    sources = value_sources.Sources({"m": {"kind": "ConfigMap", "data": {}}, "no": None}, {"no": None})
    container: Object = {"name": "c", "env": [{"name": "V", "valueFrom": entry}]}
    with pytest.raises(value_sources.ConfigMissing, match=message):
        env.variables(POD, container, sources=sources, facts=FACTS, services={})


def test_downward_fields() -> None:
    """Names, labels (quoted) and resources of the pod itself."""
    assert value_sources.field_value(POD, "metadata.labels", FACTS) == 'a="1"\nb="q\\"x"'
    assert value_sources.field_value(POD, "metadata.labels['a']", FACTS) == "1"
    assert value_sources.field_value(POD, "status.podIP", FACTS) == "10.0.0.2"
    limited: Object = {"name": "c", "resources": {"limits": {"memory": "1.5Gi"}}}
    assert (
        value_sources.resource_value(POD, limited, {"resource": "limits.memory", "divisor": "1Mi"}, FACTS)
        == "1536"
    )
    assert value_sources.resource_value(POD, limited, {"resource": "limits.cpu"}, FACTS) == "4"
    assert (
        value_sources.resource_value(POD, limited, {"resource": "requests.cpu", "divisor": "1m"}, FACTS)
        == "0"
    )


def test_service_variables() -> None:
    """Both families of names Kubernetes sets, none for headless Services."""
    listed: list[Object] = [
        {
            "metadata": {"name": "my-db"},
            "spec": {"clusterIP": "10.0.0.9", "ports": [{"name": "main", "port": 5432, "protocol": "TCP"}]},
        },
        {"metadata": {"name": "none"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}},
    ]
    variables = env.service_variables(listed)
    assert variables["MY_DB_SERVICE_HOST"] == "10.0.0.9"
    assert variables["MY_DB_SERVICE_PORT_MAIN"] == "5432"
    assert variables["MY_DB_PORT_5432_TCP"] == "tcp://10.0.0.9:5432"
    assert not any(name.startswith("NONE") for name in variables)


def test_values_are_quoted_as_go_does() -> None:
    """One line for each label or annotation, whatever is in it."""
    pod: Object = {"metadata": {"annotations": {"a": 'x"\\\t\n\x01é\u200b'}}}
    assert value_sources.field_value(pod, "metadata.annotations", FACTS) == r'a="x\"\\\t\n\x01é\u200b"'
