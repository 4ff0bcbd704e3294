"""kr8s, a Python client in the manner of kubectl: it finds kinds by discovery alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import kr8s
import kr8s.asyncio
import pytest
from kr8s.asyncio.objects import ConfigMap, Deployment, Namespace, Pod, new_class
from tests.e2e.harness import ApiServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.anyio,
    # It tells of every release that came out after its own.
    pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported"),
    # Nor does it close all its connections: see `collected`.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]

SPACE = "kr"


@pytest.fixture
def anyio_backend() -> str:
    """It keeps its clients by thread, so one event loop after another has to be of one kind."""
    return "asyncio"


@pytest.fixture
async def api(api_server: ApiServer, anyio_backend: str) -> AsyncIterator[Any]:
    """A client in a namespace of its own."""
    connected: Any = await kr8s.asyncio.api(kubeconfig=str(api_server.kubeconfig), namespace=SPACE)
    namespace = await Namespace(SPACE, api=connected)
    if not await namespace.exists():
        await namespace.create()
    yield connected
    await connected._session.aclose()  # the library has no public way to close its connections


async def config_map(api: Any, name: str, **data: str) -> Any:
    body = {"metadata": {"name": name, "labels": {"of": "kr"}}, "data": data}
    return await ConfigMap(body, namespace=api.namespace, api=api)


async def test_create_patch_delete(api: Any) -> None:
    """The round of an object, with each kind of patch; what is gone is an error of its own."""
    created = await config_map(api, "round", a="1")
    await created.create()
    await created.patch({"data": {"b": "2"}})
    await created.patch([{"op": "remove", "path": "/data/a"}], type="json")
    await created.label({"more": "labels"})
    await created.annotate({"note": "yes"})
    again = await ConfigMap.get("round", namespace=api.namespace, api=api)
    assert again.data.to_dict() == {"b": "2"}
    assert (again.labels["more"], again.annotations["note"]) == ("labels", "yes")
    await again.delete()
    assert not await again.exists()
    with pytest.raises(kr8s.NotFoundError):
        await ConfigMap.get("round", namespace=api.namespace, api=api, timeout=0)


async def test_errors_are_those_it_knows(api: Any) -> None:
    """A refusal is its ServerError, with the server's words and status."""
    once = await config_map(api, "twice")
    await once.create()
    with pytest.raises(kr8s.ServerError, match="already exists") as error:
        await (await config_map(api, "twice")).create()
    assert error.value.response is not None
    assert error.value.response.status_code == 409
    with pytest.raises(kr8s.ServerError, match="Invalid value"):
        await (await config_map(api, "Bad_Name")).create()


async def test_lists_and_selectors(api: Any) -> None:
    """Kinds by any of their names, labels and fields; lists in pages."""
    for number in range(5):
        await (await config_map(api, f"n{number}")).create()
    names = [item.name async for item in api.get("cm", label_selector={"of": "kr"}, namespace=api.namespace)]
    assert [name for name in names if name.startswith("n")] == ["n0", "n1", "n2", "n3", "n4"]
    only = [item.name async for item in api.get("configmaps", field_selector="metadata.name=n3")]
    assert only == ["n3"]
    kinds = {resource["name"] for resource in await api.api_resources()}
    assert {"pods", "deployments", "customresourcedefinitions"} <= kinds


async def test_watch_and_wait(api: Any) -> None:
    """A watch sees what comes; a wait ends with what it waits for."""
    seen: list[tuple[str, str]] = []
    is_seen = anyio.Event()

    async def follow() -> None:
        async for event, item in api.watch("configmaps", namespace=api.namespace):
            seen.append((event, item.name))
            if item.name == "watched":
                is_seen.set()
            if item.name == "watched" and event == "DELETED":
                return

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            watched = await config_map(api, "watched", a="1")
            await watched.create()
            await is_seen.wait()
            await watched.delete()
            await watched.wait("delete", timeout=10)
    assert ("DELETED", "watched") in seen


async def test_scale_and_a_new_kind(api: Any) -> None:
    """A Deployment is scaled by its subresource; a class for a kind can be made at run time."""
    labels = {"app": "web"}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        },
    }
    web = await Deployment({"metadata": {"name": "web"}, "spec": spec}, namespace=api.namespace, api=api)
    await web.create()
    await web.patch({"spec": {"replicas": 3}}, subresource="scale")
    await web.refresh()
    assert web.replicas == 3
    lease_class = new_class("Lease", version="coordination.k8s.io/v1", asyncio=True, plural="leases")
    lease = await lease_class({"metadata": {"name": "l"}, "spec": {}}, namespace=api.namespace, api=api)
    await lease.create()
    assert await lease.exists()


async def test_a_pod_without_a_node_has_no_logs(api: Any) -> None:
    """What cannot be read is the server's error, not an end without words."""
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    pod = await Pod(body, namespace=api.namespace, api=api)
    await pod.create()
    with pytest.raises(kr8s.ServerError, match="does not have a host assigned"):
        assert [line async for line in pod.logs()]
