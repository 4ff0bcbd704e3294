"""Whatever is sent, the answer is the client's fault or a success: never a fault of the server."""

from __future__ import annotations

import copy
import urllib.parse
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ondol.api.objects import Object

_LABELS = {"app": "x"}
_POD_SPEC: Object = {
    "containers": [
        {
            "name": "c",
            "image": "i",
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": 80, "name": "http"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }
    ],
    "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}],
    "tolerations": [{"key": "a", "operator": "Exists"}],
}
_TEMPLATE: Object = {"metadata": {"labels": _LABELS}, "spec": _POD_SPEC}
_SCHEMA: Object = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "default": 1},
                "l": {"type": "array", "items": {"type": "string"}},
            },
        }
    },
}
_RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
_SEEDS: dict[str, Object] = {
    "/api/v1/namespaces/default/configmaps": {"data": {"k": "v"}, "binaryData": {"b": "AA=="}},
    "/api/v1/namespaces/default/secrets": {"stringData": {"k": "v"}, "type": "Opaque"},
    "/api/v1/namespaces/default/pods": {"spec": _POD_SPEC, "status": {"phase": "Running"}},
    "/api/v1/namespaces/default/services": {
        "spec": {"ports": [{"port": 80, "targetPort": "http"}], "selector": _LABELS, "type": "NodePort"}
    },
    "/api/v1/namespaces": {"spec": {"finalizers": ["kubernetes"]}},
    "/api/v1/nodes": {
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
        "status": {"capacity": {"cpu": 4}},
    },
    "/api/v1/namespaces/default/events": {"involvedObject": {"kind": "Pod", "namespace": "default"}},
    "/api/v1/namespaces/default/serviceaccounts": {"secrets": [{"name": "s"}]},
    "/apis/apps/v1/namespaces/default/deployments": {
        "spec": {
            "selector": {"matchLabels": _LABELS, "matchExpressions": [{"key": "app", "operator": "Exists"}]},
            "template": _TEMPLATE,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}},
        }
    },
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": {"spec": {"leaseDurationSeconds": 3}},
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"port": 80}],
    },
    f"{_RBAC}/roles": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    f"{_RBAC}/rolebindings": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}],
    },
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": _SCHEMA}}
            ],
        }
    },
    "/apis/fuzz.example/v1/namespaces/default/things": {"spec": {"n": 3, "l": ["a"]}},
    "/apis/authorization.k8s.io/v1/subjectaccessreviews": {
        "spec": {"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods"}}
    },
}
_THINGS = {
    "metadata": {"name": "things.fuzz.example"},
    "spec": {
        **_SEEDS["/apis/apiextensions.k8s.io/v1/customresourcedefinitions"]["spec"],
        "group": "fuzz.example",
    },
}
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["", "-", "1Gi", "0", "a/b", "A" * 300, "2001-01-01T00:00:00Z", "\x00", "é"]),
)
_JUNK = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
_QUERIES = st.sampled_from(["", "", "", "?dryRun=All", "?fieldValidation=Strict", "?fieldManager=m"])


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    paths = [path] if path else []
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in entries:
        paths += _paths(item, (*path, key))
    return paths


def _mutate(document: Object, path: tuple[Any, ...], junk: Any, *, drop: bool) -> None:
    holder: Any = document
    for key in path[:-1]:
        holder = holder[key]
    if drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = junk


@st.composite
def _broken(draw: st.DrawFn) -> tuple[str, Object]:
    target = draw(st.sampled_from(sorted(_SEEDS)))
    document: Object = {
        "metadata": {
            "name": "things.example.org" if "customresource" in target else "fuzz",
            "labels": {"a": "b"},
        },
        **copy.deepcopy(_SEEDS[target]),
    }
    for _ in range(draw(st.integers(1, 3))):
        paths = _paths(document)
        if paths:
            _mutate(document, draw(st.sampled_from(paths)), draw(_JUNK), drop=draw(st.booleans()))
    return target, document


@st.composite
def _patches(draw: st.DrawFn) -> tuple[str, str, Any]:
    target = draw(st.sampled_from(sorted(t for t in _SEEDS if "review" not in t)))
    kind = draw(
        st.sampled_from(
            ["merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml", "json-patch+json"]
        )
    )
    if kind == "json-patch+json":
        pointer = st.sampled_from(
            ["/spec", "/metadata/labels/a", "/metadata", "/spec/ports/0", "/data/k", "", "x"]
        )
        step = st.fixed_dictionaries(
            {
                "op": st.sampled_from(["add", "remove", "replace", "test", "move", "copy", "jump"]),
                "path": pointer,
            },
            optional={"value": _JUNK, "from": pointer},
        )
        return target, kind, draw(st.lists(step, max_size=3) | _JUNK)
    document = copy.deepcopy(_SEEDS[target])
    paths = _paths(document)
    _mutate(document, draw(st.sampled_from(paths)), draw(_JUNK), drop=draw(st.booleans()))
    return target, kind, draw(st.sampled_from([document, {"metadata": draw(_JUNK)}, draw(_JUNK)]))


@pytest.fixture
def call(start: Any) -> Any:
    """Runs one exchange with a fresh server that has one object of each kind."""

    def run(*requests: tuple[str, str, Any, dict[str, str]]) -> list[Any]:
        async def main() -> list[Any]:
            async with start() as api:
                await api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _THINGS)
                await api.settle()
                answers = []
                for method, target, body, headers in requests:
                    answers.append(await api(method, target, body, headers))
                    await api.settle()
                return answers

        return anyio.run(main)

    return run


_SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(_broken(), _QUERIES)
@_SETTINGS
def test_no_document_breaks_the_server(call: Any, case: tuple[str, Object], query: str) -> None:
    """A create of anything is answered with what is wrong, or done; and then it can be read and deleted."""
    target, document = case
    created, listed, tabled = call(
        ("POST", f"{target}{query}", document, {}),
        ("GET", target, None, {}),
        ("GET", target, None, {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}),
    )
    assert created.status < 500, created.json
    assert listed.status < 500 and tabled.status < 500  # noqa: PT018 - one statement about both


@given(_patches())
@_SETTINGS
def test_no_patch_breaks_the_server(call: Any, case: tuple[str, str, Any]) -> None:
    """A patch of anything with anything likewise."""
    target, kind, patch = case
    name = "things.example.org" if "customresource" in target else "fuzz"
    document = {"metadata": {"name": name, "labels": {"a": "b"}}, **copy.deepcopy(_SEEDS[target])}
    _, patched, put = call(
        ("POST", target, document, {}),
        ("PATCH", f"{target}/{name}?fieldManager=m", patch, {"content-type": f"application/{kind}"}),
        ("PUT", f"{target}/{name}", patch, {}),
    )
    assert patched.status < 500, patched.json
    assert put.status < 500, put.json


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "watch",
                "limit",
                "continue",
                "resourceVersion",
                "resourceVersionMatch",
                "labelSelector",
                "fieldSelector",
                "timeoutSeconds",
                "sendInitialEvents",
                "allowWatchBookmarks",
                "dryRun",
                "pretty",
            ]
        ),
        st.text(max_size=6)
        | st.sampled_from(["true", "0", "1", "a=b", "a in (b)", "Exact", "e30", "-1", "metadata.name=a"]),
        max_size=4,
    ).filter(lambda q: not q.get("watch") and q.get("resourceVersion", "0") in ("", "0", "1"))
)
@_SETTINGS
def test_no_query_breaks_the_server(call: Any, query: dict[str, str]) -> None:
    """Nor does any query."""
    text = urllib.parse.urlencode(query)
    (answer,) = call(("GET", f"/api/v1/namespaces/default/configmaps?{text}", None, {}))
    assert answer.status < 500, answer.json
