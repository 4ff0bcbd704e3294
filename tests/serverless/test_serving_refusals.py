"""Services that Serving refuses when they are written, on an API server in this process."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from ondol import apiserver, sdk, store
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.contracts import serving
from ondol.sdk.testing.world import World
from ondol.serverless import wiring
from ondol.serverless.serving import validation

pytestmark = pytest.mark.anyio
NAMESPACE = "default"


@pytest.mark.parametrize("mode", ["Ignore", "Warn", "Strict"])
@pytest.mark.parametrize(
    ("part", "status", "place"),
    [
        ({"hostNetwork": True}, 422, "spec.template.spec.hostNetwork"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, 422, "volumes[0]"),
    ],
)
async def test_what_serving_does_not_do_is_refused(mode: str, part: Object, status: int, place: str) -> None:
    """Whatever the client asks of unknown fields, none of a pod's is dropped in silence."""
    rules = validation.rules()
    app = apiserver.build(
        apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(1), rules=rules
    )
    document = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "bad", "namespace": NAMESPACE},
        "spec": {"template": {"spec": {**part, "containers": [{"image": "x"}]}}},
    }
    async with World(app) as world:
        await sdk.install_crds(world.client, wiring.crds())
        answer = await world.client.raw(
            "POST",
            serving.SERVICE.path(NAMESPACE),
            query={"fieldValidation": mode},
            headers={"content-type": "application/json"},
            body=json.dumps(document).encode(),
        )
    assert answer.status == status
    assert place.encode() in answer.body


@pytest.mark.parametrize("target", [None, {}, {"name": ""}, {"name": 7}, "text"])
async def test_an_autoscaler_names_what_it_scales(target: Any) -> None:
    """One that does not is refused, for nobody could ever scale by it."""
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(1))
    document = {"metadata": {"name": "bad", "namespace": NAMESPACE}, "spec": {"scaleTargetRef": target}}
    async with World(app) as world:
        await sdk.install_crds(world.client, wiring.crds())
        with pytest.raises(errors.Invalid, match="scaleTargetRef"):
            await world.client.create(serving.POD_AUTOSCALER, document, NAMESPACE)


@pytest.mark.parametrize("resource", [serving.SERVICE, serving.CONFIGURATION, serving.REVISION])
async def test_nonsense_is_refused_and_breaks_nothing(resource: Resource) -> None:
    """Every field of a pod with a value of another form: a client error, whatever it is."""
    app = apiserver.build(
        apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(1), rules=validation.rules()
    )
    (crd,) = (c for c in wiring.crds() if c["metadata"]["name"] == resource.group_resource)
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    of_revision = resource == serving.REVISION
    pod = schema if of_revision else schema["properties"]["template"]["properties"]["spec"]
    container = pod["properties"]["containers"]["items"]
    good = {"image": "x"}
    specs: list[Any] = [None, {}, {"containers": None}, {"containers": [None]}]
    for value in (
        None,
        "text",
        7,
        [7],
        [["text"]],
        {"a": {"b": 7}},
        [{"name": 7}],
        [{"name": "a", "x": [1]}],
    ):
        specs += [{"containers": [good], name: value} for name in pod["properties"]]
        specs += [{"containers": [{**good, name: value}]} for name in container["properties"]]
    statuses = set()
    async with World(app) as world:
        await sdk.install_crds(world.client, wiring.crds())
        for number, spec in enumerate(specs):
            document: Object = {"apiVersion": resource.api_version, "kind": resource.kind}
            document["metadata"] = {"name": f"odd-{number}", "namespace": NAMESPACE}
            if spec is not None:
                document["spec"] = spec if of_revision else {"template": {"spec": spec}}
            answer = await world.client.raw(
                "POST",
                resource.path(NAMESPACE),
                query={"fieldValidation": "Ignore", "dryRun": "All"},
                headers={"content-type": "application/json"},
                body=json.dumps(document).encode(),
            )
            assert answer.status in (201, 400, 422), (spec, answer.body)
            statuses.add(answer.status)
    assert statuses >= {422}
