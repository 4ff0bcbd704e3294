"""Strategic merge patch: keyed lists, directives, order, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.patch import shape, strategic
from ondol.base import errors

_POD = shape.of_builtin("io.k8s.api.core.v1.Pod")
_DEPLOYMENT = shape.of_builtin("io.k8s.api.apps.v1.Deployment")
_SERVICE = shape.of_builtin("io.k8s.api.core.v1.Service")
_NAMES = st.sampled_from("abcd")


def _pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def _c(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


@pytest.mark.parametrize(
    ("live", "patch", "result"),
    [
        pytest.param(
            _pod(_c("a", image="1"), _c("b", image="1")),
            _pod(_c("b", image="2")),
            _pod(_c("a", image="1"), _c("b", image="2")),
            id="an element is found by its key",
        ),
        pytest.param(
            _pod(_c("a")),
            _pod(_c("b", image="2")),
            _pod(_c("b", image="2"), _c("a")),
            id="an unknown element is added in front, as kubectl users know it",
        ),
        pytest.param(
            _pod(_c("a"), _c("b")),
            _pod({"name": "a", "$patch": "delete"}),
            _pod(_c("b")),
            id="an element is deleted",
        ),
        pytest.param(
            _pod(_c("a")),
            _pod({"name": "z", "$patch": "delete"}),
            _pod(_c("a")),
            id="deleting what is not there is nothing",
        ),
        pytest.param(
            _pod(_c("a"), _c("b")),
            _pod({"$patch": "replace"}, _c("c")),
            _pod(_c("c")),
            id="a list is replaced",
        ),
        pytest.param(
            _pod(_c("a", args=["1", "2"], env=[{"name": "X", "value": "1"}])),
            _pod(_c("a", args=["3"], env=[{"name": "Y", "value": "2"}])),
            _pod(_c("a", args=["3"], env=[{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}])),
            id="plain lists replace, keyed ones merge, also inside elements",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"finalizers": ["b", "c"]}},
            {"metadata": {"finalizers": ["a", "b", "c"]}},
            id="lists of scalars unite",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b", "a"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b"]}},
            id="scalars are deleted from a list",
        ),
        pytest.param(
            {"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}}},
            {"metadata": {"labels": {"a": None}, "annotations": {"$patch": "replace", "z": "1"}}},
            {"metadata": {"labels": {"b": "2"}, "annotations": {"z": "1"}}},
            id="null removes a member, replace a map",
        ),
        pytest.param(
            {"metadata": {"labels": {"a": "1"}}},
            {"metadata": {"labels": {"$patch": "delete"}}},
            {"metadata": {"labels": {}}},
            id="delete empties a map",
        ),
        pytest.param(
            {"metadata": {}},
            {"metadata": {"labels": {"a": "1", "b": None}}, "spec": None},
            {"metadata": {"labels": {"a": "1"}}},
            id="nulls are no content",
        ),
        pytest.param(
            _pod(_c("a"), _c("b"), _c("c")),
            {"spec": {"$setElementOrder/containers": [_c("c"), _c("a")]}},
            _pod(_c("b"), _c("c"), _c("a")),
            id="order without changes",
        ),
        pytest.param(
            _pod(_c("a"), _c("server"), _c("b")),
            {
                "spec": {
                    "$setElementOrder/containers": [_c("new"), _c("b"), _c("a")],
                    "containers": [_c("new"), _c("a", image="2")],
                }
            },
            _pod(_c("new"), _c("server"), _c("b"), _c("a", image="2")),
            id="order with an addition and a live-only element",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"$setElementOrder/finalizers": ["c", "a"], "finalizers": ["c"]}},
            {"metadata": {"finalizers": ["c", "a", "b"]}},
            id="order of scalars",
        ),
    ],
)
def test_a_patch_merges_by_the_kinds_keys(
    live: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]
) -> None:
    """The merged document is as Kubernetes makes it, and neither input changes."""
    originals = copy.deepcopy((live, patch))
    assert strategic.apply(live, patch, _POD) == result
    assert (live, patch) == originals


def test_retained_keys_clear_the_other_branch_of_a_union() -> None:
    """Switching a strategy drops the settings of the former one."""
    live = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic.apply(live, patch, _DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_service_ports_merge_by_port() -> None:
    """The merge key of strategic patches may differ from the keys apply uses."""
    live = {"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]}}
    patch = {"spec": {"ports": [{"port": 80, "targetPort": 9090}]}}
    merged = strategic.apply(live, patch, _SERVICE)
    assert merged == {"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 9090}]}}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (_pod({"image": "x"}), "does not contain declared merge key: name"),
        (_pod({"name": "a", "$patch": "sideways"}), "unknown patch type: sideways"),
        (_pod({"name": "a", "$patch": "merge"}), "merging lists cannot yet be specified in the patch"),
        ({"spec": {"$patch": "sideways"}}, "unknown patch type: sideways"),
        ({"spec": {"$retainKeys": "x"}}, "invalid patch format of retainKeys"),
        ({"spec": {"$retainKeys": ["x"], "nodeName": "n"}}, "invalid patch format of retainKeys"),
        (
            {"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}},
            "invalid patch format of primitive list",
        ),
        ({"spec": {"$setElementOrder/containers": None}}, "invalid patch format of setElementOrder list"),
        (
            {
                "spec": {
                    "$setElementOrder/containers": [_c("b"), _c("a")],
                    "containers": [_c("a"), _c("b")],
                }
            },
            "The order in patch list:",
        ),
        ({"spec": {"containers": ["a"]}}, "list element types are not identical"),
        ([], "a strategic merge patch is an object"),
    ],
)
def test_a_patch_that_makes_no_sense_is_a_bad_request(patch: Any, message: str) -> None:
    """The message names the directive or the key at fault."""
    with pytest.raises(errors.BadRequest) as caught:
        strategic.apply({"metadata": {"finalizers": ["f"]}, **_pod(_c("a"), _c("b"))}, patch, _POD)
    assert message in caught.value.message


@given(
    st.lists(_NAMES, unique=True, max_size=4),
    st.lists(_NAMES, unique=True, max_size=4),
    st.permutations("abcd"),
)
def test_element_order_is_obeyed(live: list[str], added: list[str], order: list[str]) -> None:
    """Every element named in the order list comes out in that order, none lost, none twice."""
    named = [name for name in order if name in added]
    patch = {
        "spec": {
            "$setElementOrder/containers": [_c(name) for name in order],
            "containers": [_c(name, image="new") for name in named],
        }
    }
    merged = strategic.apply(_pod(*(_c(name) for name in live)), patch, _POD)["spec"]["containers"]
    assert [c["name"] for c in merged] == [name for name in order if name in {*live, *added}]
    assert {c["name"] for c in merged if c.get("image")} == set(added)


@given(st.lists(_NAMES, unique=True), st.lists(_NAMES, unique=True), st.lists(_NAMES, unique=True))
def test_a_strategic_patch_applied_twice_is_applied_once(
    live: list[str], added: list[str], deleted: list[str]
) -> None:
    """A retried write changes nothing more."""
    changes = [_c(name, image="x") for name in added if name not in deleted]
    changes += [{"name": name, "$patch": "delete"} for name in deleted]
    patch = {"spec": {"containers": changes, "nodeName": None}}
    once = strategic.apply(_pod(*(_c(name) for name in live), nodeName="n"), patch, _POD)
    assert strategic.apply(once, patch, _POD) == once
