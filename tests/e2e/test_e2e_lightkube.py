"""An independent Python client, lightkube: what it was written against is what is served."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import lightkube
import pytest
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Namespace, Pod
from lightkube.types import CascadeType, PatchType
from tests.e2e.harness import ApiServer

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def client(api_server: ApiServer) -> Iterator[lightkube.Client]:
    """A client in a namespace of its own."""
    config = KubeConfig.from_file(api_server.kubeconfig)
    connected = lightkube.Client(config=config, namespace="light", field_manager="light")
    connected.create(Namespace(metadata=ObjectMeta(name="light")))
    yield connected
    connected._client._client.close()  # the library has no public way to close its connections


def config_map(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, labels={"of": "light"}), data=data)


def test_create_get_replace_delete(client: lightkube.Client) -> None:
    """The round of a typed object."""
    created = client.create(config_map("round", a="1"))
    assert created.metadata is not None
    created.data = {"a": "2"}
    client.replace(created)
    assert client.get(ConfigMap, "round").data == {"a": "2"}
    client.delete(ConfigMap, "round")
    with pytest.raises(ApiError) as error:
        client.get(ConfigMap, "round")
    assert error.value.status.code == 404
    assert error.value.status.reason == "NotFound"


def test_conflict(client: lightkube.Client) -> None:
    """A replace of an old version is a conflict."""
    old = client.create(config_map("stale", a="1"))
    client.patch(ConfigMap, "stale", {"data": {"a": "2"}}, patch_type=PatchType.MERGE)
    with pytest.raises(ApiError) as error:
        client.replace(old)
    assert error.value.status.reason == "Conflict"


def test_apply(client: lightkube.Client) -> None:
    """Server-side apply, with a conflict between two managers and force."""
    client.apply(config_map("shared", a="1"))
    with pytest.raises(ApiError) as error:
        client.apply(config_map("shared", a="2"), field_manager="other")
    assert error.value.status.code == 409
    assert client.apply(config_map("shared", a="2"), field_manager="other", force=True).data == {"a": "2"}


def test_list_in_chunks_and_by_label(client: lightkube.Client) -> None:
    """Its list follows `continue` by itself."""
    for number in range(5):
        client.create(config_map(f"n{number}", n=str(number)))
    names = [
        m.metadata.name for m in client.list(ConfigMap, labels={"of": "light"}, chunk_size=2) if m.metadata
    ]
    assert [name for name in names if name and name.startswith("n")] == ["n0", "n1", "n2", "n3", "n4"]


def test_watch(client: lightkube.Client) -> None:
    """Its watch sees creation, change and deletion of one object."""
    events: list[str] = []

    def follow() -> None:
        for event, _ in client.watch(ConfigMap, fields={"metadata.name": "watched"}, server_timeout=20):
            events.append(event)
            if event == "DELETED":
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    client.create(config_map("watched", a="1"))
    client.patch(ConfigMap, "watched", {"data": {"a": "2"}})
    client.delete(ConfigMap, "watched")
    thread.join(20)
    assert not thread.is_alive()
    assert events[-1] == "DELETED"


def test_deployment_and_scale(client: lightkube.Client) -> None:
    """Typed Deployments are created and scaled through their subresource."""
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels={"app": "web"}),
        spec=PodSpec(containers=[Container(name="web", image="web:1")]),
    )
    spec = DeploymentSpec(replicas=1, selector=LabelSelector(matchLabels={"app": "web"}), template=template)
    client.create(Deployment(metadata=ObjectMeta(name="web"), spec=spec))
    scaled = Deployment.Scale(metadata=ObjectMeta(name="web", namespace="light"))
    assert scaled is not None
    client.patch(Deployment.Scale, "web", {"spec": {"replicas": 3}}, patch_type=PatchType.MERGE)
    deployment = client.get(Deployment, "web")
    assert deployment.spec is not None
    assert deployment.spec.replicas == 3
    client.delete(Deployment, "web", cascade=CascadeType.ORPHAN)


def test_invalid_is_an_error_with_causes(client: lightkube.Client) -> None:
    """A refused object's Status carries the field of each cause."""
    pod = Pod(metadata=ObjectMeta(name="bad"), spec=PodSpec(containers=[Container(name="A", image="x")]))
    with pytest.raises(ApiError) as error:
        client.create(pod)
    details = error.value.status.details
    assert details is not None
    assert details.causes is not None
    assert [cause.field for cause in details.causes] == ["spec.containers[0].name"]
