"""Devices: their classes, slices and claims, as kubectl users know them."""

from __future__ import annotations

from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

GROUP: Final = "/apis/resource.k8s.io/v1"
CLAIMS: Final = f"{GROUP}/namespaces/default/resourceclaims"
TEMPLATES: Final = f"{GROUP}/namespaces/default/resourceclaimtemplates"
SLICES: Final = f"{GROUP}/resourceslices"
CLASSES: Final = f"{GROUP}/deviceclasses"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
REQUEST: Final = {"name": "r", "exactly": {"deviceClassName": "gpu"}}
POOL: Final = {"name": "p", "resourceSliceCount": 1}


def _named(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def _claim(*requests: Any, **devices: Any) -> dict[str, Any]:
    return _named("c", devices={"requests": list(requests or [REQUEST]), **devices})


def _exactly(**fields: Any) -> dict[str, Any]:
    return _claim({"name": "r", "exactly": {"deviceClassName": "gpu", **fields}})


def _slice(**spec: Any) -> dict[str, Any]:
    own = {"driver": "x.io", "pool": POOL, "nodeName": "n", "devices": [{"name": "d"}]}
    return _named("s", **{**own, **spec})


def _device(**fields: Any) -> dict[str, Any]:
    return _slice(devices=[{"name": "d", **fields}])


async def test_a_claim_is_completed_and_fixed(api: Any) -> None:
    """One device of its class; what was given is its status, and is not changed while it is."""
    stored = await api.post(CLAIMS, {**_claim(), "status": {"reservedFor": []}})
    assert (stored.status, stored.json["status"]) == (201, {}), stored.json
    exactly = stored.json["spec"]["devices"]["requests"][0]["exactly"]
    assert (exactly["allocationMode"], exactly["count"]) == ("ExactCount", 1)
    refused = await api.patch(f"{CLAIMS}/c", {"spec": {"devices": {"requests": []}}})
    assert (refused.status, "spec: Invalid value" in refused.json["message"]) == (422, True)
    user = {"resource": "pods", "name": "p", "uid": "1"}
    refused = await api.patch(f"{CLAIMS}/c/status", {"status": {"reservedFor": [user]}})
    message = "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
    assert message in refused.json["message"]
    states = []
    changes: list[dict[str, Any]] = [{}, {"allocation": {"devices": {}}}, {"reservedFor": [user]}]
    for change in changes:
        assert (await api.patch(f"{CLAIMS}/c/status", {"status": change})).status == 200
        states.append((await api.get(CLAIMS, accept=TABLE)).json["rows"][0]["cells"][1])
    assert states == ["pending", "allocated", "allocated,reserved"]
    other: dict[str, Any] = {
        "allocation": {"devices": {"results": []}, "nodeSelector": {"nodeSelectorTerms": []}}
    }
    refused = await api.patch(f"{CLAIMS}/c/status", {"status": other})
    assert "status.allocation: Invalid value" in refused.json["message"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            _claim({"name": "r"}),
            (
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is "
                "required"
            ),
        ),
        (
            _claim({**REQUEST, "firstAvailable": [{"name": "a", "deviceClassName": "gpu"}]}),
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (_claim(REQUEST, REQUEST), 'spec.devices.requests[1].name: Duplicate value: "r"'),
        (
            _claim(*[{**REQUEST, "name": f"r{n}"} for n in range(33)]),
            "Too many: 33: must have at most 32 items",
        ),
        (_exactly(deviceClassName=""), "requests[0].exactly.deviceClassName: Required value"),
        (
            _exactly(allocationMode="Some"),
            (
                'requests[0].exactly.allocationMode: Unsupported value: "Some": supported values: "All", '
                '"ExactCount"'
            ),
        ),
        (
            _exactly(allocationMode="All", count=2),
            "count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ),
        (_exactly(count=-1), "count: Invalid value: -1: must be greater than zero"),
        (_exactly(selectors=[{}]), "requests[0].exactly.selectors[0].cel: Required value"),
        (
            _exactly(tolerations=[{"operator": "Exists", "value": "a"}]),
            'tolerations[0].value: Invalid value: "a": must be empty for operator `Exists`',
        ),
        (
            _claim(constraints=[{"requests": ["other"], "matchAttribute": "x.io/a"}]),
            (
                'spec.devices.constraints[0].requests[0]: Invalid value: "other": must be the name of a '
                "request in the claim"
            ),
        ),
        (_claim(constraints=[{}]), "spec.devices.constraints[0].matchAttribute: Required value"),
        (_claim(config=[{"requests": ["r"]}]), "spec.devices.config[0].opaque: Required value"),
    ],
)
async def test_what_no_claim_may_be(api: Any, document: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words; so are templates for claims."""
    refused = await api.post(CLAIMS, document)
    assert (refused.status, message in refused.json["message"]) == (422, True), refused.json
    template = _named("t", spec=document["spec"])
    refused = await api.post(TEMPLATES, template)
    assert (
        refused.status,
        message.replace("spec.devices", "spec.spec.devices") in refused.json["message"],
    ) == (
        422,
        True,
    ), refused.json


async def test_a_template_is_completed_and_fixed(api: Any) -> None:
    """As the claims made of it are."""
    choice = {"name": "a", "deviceClassName": "gpu"}
    stored = await api.post(
        TEMPLATES, _named("t", spec=_claim({"name": "r", "firstAvailable": [choice]})["spec"])
    )
    first = stored.json["spec"]["spec"]["devices"]["requests"][0]["firstAvailable"][0]
    assert first == {**choice, "allocationMode": "ExactCount", "count": 1}
    refused = await api.patch(f"{TEMPLATES}/t", {"spec": {"metadata": {"labels": {"a": "b"}}}})
    assert "spec: Invalid value" in refused.json["message"]


async def test_a_slice_says_where_its_devices_are(api: Any) -> None:
    """That stays; taints are dated, changes counted, and slices found by their node."""
    taint = {"key": "broken", "effect": "NoSchedule"}
    stored = await api.post(SLICES, _device(taints=[taint]))
    assert stored.status == 201, stored.json
    assert stored.json["spec"]["devices"][0]["taints"][0]["timeAdded"]
    refused = await api.patch(f"{SLICES}/s", {"spec": {"nodeName": "m"}})
    assert 'spec.nodeName: Invalid value: "m": field is immutable' in refused.json["message"]
    changed = await api.patch(f"{SLICES}/s", {"spec": {"devices": [{"name": "e"}]}})
    assert changed.json["metadata"]["generation"] == 2
    assert (await api.get(SLICES, accept=TABLE)).json["rows"][0]["cells"] == ["s", "n", "x.io", "p", "0s"]
    for selector, count in (("spec.nodeName%3Dn,spec.driver%3Dx.io", 1), ("spec.nodeName%3Dm", 0)):
        assert len((await api.get(f"{SLICES}?fieldSelector={selector}")).json["items"]) == count


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (_slice(driver=""), "spec.driver: Required value"),
        (
            _slice(pool={"name": "p"}),
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
        ),
        (
            _slice(nodeName=None),
            (
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, "
                "`perDeviceNodeSelection` is required"
            ),
        ),
        (_slice(allNodes=True), 'spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of'),
        (_slice(allNodes=False), "spec.allNodes: Invalid value: false: must be either unset or set to true"),
        (_slice(devices=[{"name": "d"}] * 2), 'spec.devices[1].name: Duplicate value: "d"'),
        (
            _device(attributes={"a": {}}),
            "spec.devices[0].attributes[a]: Required value: exactly one value must be specified",
        ),
        (
            _device(attributes={"a": {"version": "1"}}),
            (
                'attributes[a].version: Invalid value: "1": must be a string compatible with '
                "semver.org spec 2.0.0"
            ),
        ),
        (
            _device(taints=[{"key": "a", "effect": "Never"}]),
            (
                'taints[0].effect: Unsupported value: "Never": supported values: "NoExecute", '
                '"NoSchedule", "None"'
            ),
        ),
    ],
)
async def test_what_no_slice_may_be(api: Any, document: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(SLICES, document)
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_classes_of_devices_are_counted(api: Any) -> None:
    """What selects them is an expression."""
    refused = await api.post(CLASSES, _named("gpu", selectors=[{}]))
    assert "spec.selectors[0].cel: Required value" in refused.json["message"]
    selector = {"cel": {"expression": "device.driver == 'x.io'"}}
    assert (await api.post(CLASSES, _named("gpu"))).json["metadata"]["generation"] == 1
    changed = await api.patch(f"{CLASSES}/gpu", {"spec": {"selectors": [selector]}})
    assert changed.json["metadata"]["generation"] == 2
    assert (await api.get(CLASSES, accept=TABLE)).json["rows"][0]["cells"] == ["gpu", "0s"]
