"""Endpoints that are written by hand appear as EndpointSlices, and only those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.controllers import endpoints, mirroring

Play = Callable[..., None]


async def the_slice(stage: Any) -> Object:
    selector = "kubernetes.io/service-name=web"
    (slice_,) = (await stage.client.list(resources.ENDPOINT_SLICE, "default", label_selector=selector)).items
    return cast("Object", slice_)


def _by_hand(*ips: str, port: int = 8080, **metadata: Any) -> Object:
    subsets = [{"addresses": [{"ip": ip} for ip in ips], "ports": [{"name": "http", "port": port}]}]
    return {"subsets": subsets if ips else [], "metadata": metadata}


def test_endpoints_written_by_hand_are_mirrored(play: Play) -> None:
    """For a Service without selector: slices follow the Endpoints, and go with them."""

    async def scene(stage: Any) -> None:
        await stage.run(endpoints.add_to, mirroring.add_to)
        ports = [{"name": "http", "port": 81}]
        await stage.create(resources.SERVICE, "web", spec={"ports": ports})
        last = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x"}
        mirrored = _by_hand("192.0.2.7", "2001:db8::7", labels={"team": "a"}, annotations=last)
        await stage.create(resources.ENDPOINTS, "web", **mirrored)
        await stage.settle()
        selector = "kubernetes.io/service-name=web"
        listed = (await stage.client.list(resources.ENDPOINT_SLICE, "default", label_selector=selector)).items
        by_family = {each["addressType"]: each for each in listed}
        assert by_family.keys() == {"IPv4", "IPv6"}
        slice_ = by_family["IPv4"]
        assert slice_["endpoints"] == [{"addresses": ["192.0.2.7"], "conditions": {"ready": True}}]
        assert slice_["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
        assert slice_["metadata"]["labels"]["team"] == "a"
        assert slice_["metadata"]["annotations"] == {"note": "x"}
        assert (objects.controller_of(slice_) or {})["kind"] == "Endpoints"
        writes = stage.transport.writes
        await stage.advance(300)
        assert stage.transport.writes == writes
        patch = _by_hand("192.0.2.8")["subsets"]
        await stage.client.patch(resources.ENDPOINTS, "web", "default", patch={"subsets": patch})
        await stage.settle()
        changed = await the_slice(stage)
        assert objects.name(changed) == objects.name(slice_)
        assert changed["endpoints"][0]["addresses"] == ["192.0.2.8"]
        await stage.client.delete(resources.SERVICE, "web", "default")
        await stage.settle()
        remaining = (
            await stage.client.list(resources.ENDPOINT_SLICE, "default", label_selector=selector)
        ).items
        assert not remaining

    play(scene)


def test_endpoints_that_ask_for_it_or_belong_to_a_selector_are_not_mirrored(play: Play) -> None:
    """A label says so, an election lives in some, and those of pods have their slices already."""

    async def scene(stage: Any) -> None:
        await stage.run(mirroring.add_to)
        ports = [{"name": "http", "port": 81}]
        for name, more in (("a", {}), ("b", {}), ("c", {"selector": {"app": "c"}}), ("d", None)):
            if more is not None:
                await stage.create(resources.SERVICE, name, spec={"ports": ports, **more})
        skipped = {"endpointslice.kubernetes.io/skip-mirror": "true"}
        elected = {"control-plane.alpha.kubernetes.io/leader": "{}"}
        await stage.create(resources.ENDPOINTS, "a", **_by_hand("192.0.2.7", labels=skipped))
        await stage.create(resources.ENDPOINTS, "b", **_by_hand("192.0.2.7", annotations=elected))
        await stage.create(resources.ENDPOINTS, "c", **_by_hand("192.0.2.7"))
        await stage.create(resources.ENDPOINTS, "d", **_by_hand("192.0.2.7"))
        await stage.settle()
        listed = (await stage.client.list(resources.ENDPOINT_SLICE, "default")).items
        assert [objects.name(each) for each in listed] == ["kubernetes"]

    play(scene)
