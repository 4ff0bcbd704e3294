"""Kubernetes' own Python client, typed and dynamic: what it was generated from is what is served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import kubernetes
import pytest
from kubernetes import client as k8s
from kubernetes import dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import exceptions as dynamic_errors
from tests.e2e.harness import ApiServer

pytestmark = pytest.mark.e2e

SPACE = "official"


@pytest.fixture(scope="module")
def api(api_server: ApiServer) -> Iterator[Any]:
    """A client with a namespace of its own."""
    with kubernetes.config.new_client_from_config(str(api_server.kubeconfig)) as connected:
        body = k8s.V1Namespace(metadata=k8s.V1ObjectMeta(name=SPACE))
        k8s.CoreV1Api(connected).create_namespace(body)
        yield connected


@pytest.fixture
def core(api: Any) -> Any:
    """Its typed core group."""
    return k8s.CoreV1Api(api)


def config_map(name: str, **data: str) -> Any:
    return k8s.V1ConfigMap(metadata=k8s.V1ObjectMeta(name=name, labels={"of": SPACE}), data=data)


def test_create_get_replace_delete(core: Any) -> None:
    """The round of a typed object; what is gone is a 404 with its Status."""
    created = core.create_namespaced_config_map(SPACE, config_map("round", a="1"))
    created.data = {"a": "2"}
    core.replace_namespaced_config_map("round", SPACE, created)
    assert core.read_namespaced_config_map("round", SPACE).data == {"a": "2"}
    core.delete_namespaced_config_map("round", SPACE)
    with pytest.raises(ApiException) as error:
        core.read_namespaced_config_map("round", SPACE)
    assert (error.value.status, error.value.reason) == (404, "Not Found")
    assert '"reason":"NotFound"' in error.value.body.replace(" ", "")


def test_errors_are_those_it_knows(core: Any) -> None:
    """Conflicts, what is there already, and what is invalid, with the fields of the causes."""
    old = core.create_namespaced_config_map(SPACE, config_map("stale", a="1"))
    core.patch_namespaced_config_map("stale", SPACE, {"data": {"a": "2"}})
    with pytest.raises(ApiException, match="object has been modified"):
        core.replace_namespaced_config_map("stale", SPACE, old)
    with pytest.raises(ApiException, match="AlreadyExists"):
        core.create_namespaced_config_map(SPACE, config_map("stale"))
    bad = {"metadata": {"name": "bad"}, "spec": {"containers": [{"name": "A", "image": "x"}]}}
    with pytest.raises(ApiException, match=r"spec\.containers\[0\]\.name") as error:
        core.create_namespaced_pod(SPACE, bad)
    assert error.value.status == 422


@pytest.mark.parametrize(
    ("kind", "patch", "data"),
    [
        ("application/json-patch+json", [{"op": "replace", "path": "/data/a", "value": "2"}], {"a": "2"}),
        ("application/merge-patch+json", {"data": {"a": None, "b": "3"}}, {"b": "3"}),
        ("application/strategic-merge-patch+json", {"data": {"b": "3"}}, {"a": "1", "b": "3"}),
    ],
)
def test_patches(core: Any, kind: str, patch: Any, data: dict[str, str]) -> None:
    """Each kind of patch does what it says, by the content type that the client names."""
    name = f"patched-{kind[12:16].strip('-')}"
    core.create_namespaced_config_map(SPACE, config_map(name, a="1"))
    core.patch_namespaced_config_map(name, SPACE, patch, _content_type=kind)
    assert core.read_namespaced_config_map(name, SPACE).data == data


def test_server_side_apply(api: Any) -> None:
    """The dynamic client applies; another manager's field is a conflict, unless forced."""
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    maps.server_side_apply(body=body, namespace=SPACE, field_manager="one")
    other = {**body, "data": {"a": "2"}}
    with pytest.raises(dynamic_errors.ConflictError):
        maps.server_side_apply(body=other, namespace=SPACE, field_manager="two")
    forced = maps.server_side_apply(body=other, namespace=SPACE, field_manager="two", force_conflicts=True)
    assert forced.data.to_dict() == {"a": "2"}
    with pytest.raises(dynamic_errors.NotFoundError):
        maps.get(name="absent", namespace=SPACE)


def test_pages_and_selectors(core: Any) -> None:
    """Lists follow `continue`; what is left is told."""
    for number in range(5):
        core.create_namespaced_config_map(SPACE, config_map(f"n{number}"))
    names: list[str] = []
    going, rounds = None, 0
    while going is not None or rounds == 0:
        page = core.list_namespaced_config_map(SPACE, label_selector=f"of={SPACE}", limit=2, _continue=going)
        names += [item.metadata.name for item in page.items]
        going, rounds = page.metadata._continue, rounds + 1
    assert [name for name in names if name.startswith("n")] == ["n0", "n1", "n2", "n3", "n4"]
    one = core.list_namespaced_config_map(SPACE, field_selector="metadata.name=n3")
    assert [item.metadata.name for item in one.items] == ["n3"]


def test_watch(core: Any) -> None:
    """Its watch, from a list's version, sees each change of one object as a typed object."""
    version = core.list_namespaced_config_map(SPACE).metadata.resource_version
    events: list[tuple[str, Any]] = []

    def follow() -> None:
        stream = watch.Watch().stream(
            core.list_namespaced_config_map,
            SPACE,
            field_selector="metadata.name=watched",
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=20,
        )
        for event in stream:
            events.append((event["type"], event["object"].data))
            if event["type"] == "DELETED":
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    core.create_namespaced_config_map(SPACE, config_map("watched", a="1"))
    core.patch_namespaced_config_map("watched", SPACE, {"data": {"a": "2"}})
    core.delete_namespaced_config_map("watched", SPACE)
    thread.join(20)
    assert [event for event in events if event[0] != "BOOKMARK"] == [
        ("ADDED", {"a": "1"}),
        ("MODIFIED", {"a": "2"}),
        ("DELETED", {"a": "2"}),
    ]


def test_an_expired_version_is_gone(core: Any) -> None:
    """A watch from a version nobody has is the error its informers start again upon."""
    with pytest.raises(ApiException) as error:
        list(
            watch.Watch().stream(
                core.list_namespaced_config_map, SPACE, resource_version="999999999", timeout_seconds=1
            )
        )
    assert error.value.status in (410, 504)


def test_every_listed_resource_can_be_listed(api: Any) -> None:
    """The dynamic client's discovery finds all kinds, and each that can be listed is."""
    count = 0
    connected = dynamic.DynamicClient(api)
    for resources in connected.resources.search():
        for resource in [resources] if not isinstance(resources, list) else resources:
            is_measured = resource.group == "metrics.k8s.io"  # of nodes, which are not there
            if "list" in (resource.verbs or ()) and not resource.kind.endswith("List") and not is_measured:
                assert resource.get(limit=1).kind.endswith("List"), resource.kind
                count += 1
    assert count > 60, count


def test_a_custom_kind_from_a_file(api: Any) -> None:
    """`create_from_dict` makes a definition; its objects have status and scale of their own."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.official.example"},
        "spec": {
            "group": "official.example",
            "scope": "Namespaced",
            "names": {"plural": "lamps", "singular": "lamp", "kind": "Lamp", "listKind": "LampList"},
            "versions": [version],
        },
    }
    utils.create_from_dict(api, definition)
    lamps = k8s.CustomObjectsApi(api)
    place = ("official.example", "v1", SPACE, "lamps")
    body = {"apiVersion": "official.example/v1", "kind": "Lamp", "metadata": {"name": "l"}}
    lamps.create_namespaced_custom_object(*place, {**body, "spec": {"replicas": 1}})
    lamps.patch_namespaced_custom_object_status(*place, "l", {"status": {"lit": True}})
    lamps.patch_namespaced_custom_object_scale(*place, "l", {"spec": {"replicas": 4}})
    lamp = lamps.get_namespaced_custom_object(*place, "l")
    assert (lamp["spec"], lamp["status"]) == ({"replicas": 4}, {"lit": True})


def test_reviews_and_tokens(api: Any, core: Any) -> None:
    """What it asks of the server besides objects: access reviews, tokens, versions."""
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": SPACE}}}
    answer = k8s.AuthorizationV1Api(api).create_self_subject_access_review(review)
    assert answer.status.allowed
    core.create_namespaced_service_account(SPACE, {"metadata": {"name": "sa"}})
    request = k8s.AuthenticationV1TokenRequest(
        spec=k8s.V1TokenRequestSpec(audiences=[], expiration_seconds=600)
    )
    token = core.create_namespaced_service_account_token("sa", SPACE, request)
    reviewed = k8s.AuthenticationV1Api(api).create_token_review({"spec": {"token": token.status.token}})
    assert reviewed.status.user.username == f"system:serviceaccount:{SPACE}:sa"
    assert int(k8s.VersionApi(api).get_code().minor.rstrip("+")) >= 34
