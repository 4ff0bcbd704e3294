"""Objects as people address them, and whose logs a workload has."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api import resources as kinds
from ondol.api.objects import Resource
from ondol.cli import addressing, logs, output, tables
from ondol.client import discovery


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        (["pods"], [("pods", "")]),
        (["pods,svc"], [("pods", ""), ("svc", "")]),
        (["pod", "a", "b"], [("pod", "a"), ("pod", "b")]),
        (["pod,svc", "a"], [("pod", "a"), ("svc", "a")]),
        (["deploy/a", "svc/b"], [("deploy", "a"), ("svc", "b")]),
    ],
)
def test_objects_are_addressed_as_for_kubectl(words: list[str], pairs: list[tuple[str, str]]) -> None:
    """Kinds with commas, names behind a kind, and pairs of both."""
    assert addressing.pairs(words) == pairs


@pytest.mark.parametrize("words", [["deploy/a", "b"], ["deploy/"], ["/a"], ["a/b/c"], ["a,b/c"], [","]])
def test_words_that_address_nothing(words: list[str]) -> None:
    """Mixed and broken forms are told, not guessed."""
    with pytest.raises(output.UsageError):
        addressing.pairs(words)


@pytest.mark.parametrize(
    ("word", "plurals"),
    [
        ("deploy", ["deployments"]),
        ("Deployment", ["deployments"]),
        ("deployments.apps", ["deployments"]),
        ("deployments.v1.apps", ["deployments"]),
        ("deployments.extensions", []),
        ("all", ["pods", "deployments"]),
        ("nothing", []),
    ],
)
def test_a_kind_is_named_by_any_of_its_words(word: str, plurals: list[str]) -> None:
    """Plural, singular, kind, short name, with a group behind it; a category names several."""
    pods = discovery.Described(kinds.POD, "pod", ("po",), ("all",))
    deployments = discovery.Described(kinds.DEPLOYMENT, "deployment", ("deploy",), ("all",))
    assert [resource.plural for resource in discovery.named([pods, deployments], word)] == plurals


def test_rows_that_come_later_stand_under_the_same_header() -> None:
    """A watch prints its header once and keeps its columns; a longer cell moves only its own line."""
    definitions: list[dict[str, Any]] = [{"name": "Name"}, {"name": "Age"}, {"name": "IP", "priority": 1}]
    columns = tables.Columns(definitions, prefix="pod/", with_namespace=True)
    row = {"cells": ["web", "1s", "10.0.0.1"], "object": {"metadata": {"namespace": "shop"}}}
    assert list(columns.lines([row])) == ["NAMESPACE   NAME      AGE", "shop        pod/web   1s"]
    later = {"cells": ["longer", None, ""], "object": {"metadata": {"namespace": "shop"}}}
    assert list(columns.lines([later])) == ["shop        pod/longer   <none>"]
    wide = tables.Columns(definitions, wide=True)
    assert list(wide.lines([row])) == ["NAME   AGE   IP", "web    1s    10.0.0.1"]


@pytest.mark.parametrize(
    ("resource", "owner", "selector"),
    [
        (kinds.SERVICE, {"spec": {"selector": {"app": "a", "tier": "b"}}}, "app=a,tier=b"),
        (kinds.DEPLOYMENT, {"spec": {"selector": {"matchLabels": {"app": "a"}}}}, "app=a"),
        (
            kinds.DEPLOYMENT,
            {"spec": {"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}},
            "app",
        ),
        (Resource("serving.knative.dev", "v1", "services", "Service"), {}, "serving.knative.dev/service=x"),
    ],
)
def test_the_pods_of_a_workload(resource: Resource, owner: dict[str, Any], selector: str) -> None:
    """Whatever has pods says which by labels; Knative's kinds by their own."""
    assert addressing.pod_selector(addressing.Target(resource, "x"), owner) == selector


def test_what_has_no_pods_has_no_logs() -> None:
    """A Service without a selector, a ConfigMap: told, not taken for all pods."""
    owners: list[dict[str, Any]] = [{}, {"spec": {}}, {"spec": {"selector": {}}}]
    for owner in owners:
        with pytest.raises(output.UsageError, match="ConfigMap x has no pods of its own"):
            addressing.pod_selector(addressing.Target(kinds.CONFIG_MAP, "x"), owner)


def test_logs_are_of_the_newest_ready_pod() -> None:
    """Of several pods the one that serves; of those alike, the one made last."""

    def pod(name: str, created: str, ready: str) -> dict[str, Any]:
        metadata = {"name": name, "creationTimestamp": created}
        return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready}]}}

    old, new = pod("old", "2026-01-01T00:00:00Z", "True"), pod("new", "2026-01-02T00:00:00Z", "True")
    starting = pod("starting", "2026-01-03T00:00:00Z", "False")
    assert addressing._preferred([old, starting, new]) == new
    assert addressing._preferred([starting]) == starting


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400)]
)
def test_how_long_ago(text: str, seconds: int) -> None:
    """Durations as people write them."""
    assert logs.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "1.5h", "-1m", "soon"])
def test_no_duration(text: str) -> None:
    """What is none is told with the forms that are."""
    with pytest.raises(output.UsageError, match="write 30s, 5m or 2h"):
        logs.seconds(text)
