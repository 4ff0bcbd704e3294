"""Storage classes, attachments and what CSI drivers say of themselves, as kubectl users know them."""

from __future__ import annotations

from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

GROUP: Final = "/apis/storage.k8s.io/v1"
CLASSES: Final = f"{GROUP}/storageclasses"
CAPACITIES: Final = f"{GROUP}/namespaces/default/csistoragecapacities"
CLAIMS: Final = "/api/v1/namespaces/default/persistentvolumeclaims"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"


def _class(name: str = "fast", *, default: bool = False, **fields: Any) -> dict[str, Any]:
    annotations = {DEFAULT: "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}, "provisioner": "x.io/p", **fields}


def _named(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def _claim(name: str, **spec: Any) -> dict[str, Any]:
    own = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return _named(name, **{**own, **spec})


async def test_a_class_is_completed_and_shown(api: Any) -> None:
    """The default one is marked in the table."""
    stored = await api.post(CLASSES, _class(default=True))
    assert stored.status == 201, stored.json
    assert (stored.json["reclaimPolicy"], stored.json["volumeBindingMode"]) == ("Delete", "Immediate")
    table = (await api.get(CLASSES, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["fast (default)", "x.io/p", "Delete", "Immediate", False, "0s"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"provisioner": ""}, "provisioner: Required value"),
        ({"provisioner": "a b"}, 'provisioner: Invalid value: "a b": name part must consist of'),
        (
            {"reclaimPolicy": "Recycle"},
            'reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"',
        ),
        (
            {"volumeBindingMode": "Later"},
            (
                'volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", '
                '"WaitForFirstConsumer"'
            ),
        ),
        ({"parameters": {"": "a"}}, 'parameters: Invalid value: "": field can not be empty.'),
        ({"parameters": {"a": "x" * 262144}}, "parameters: Too long: may not be more than 262144 bytes"),
        (
            {"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": []}]}]},
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
        ),
    ],
)
async def test_what_no_class_may_be(api: Any, fields: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(CLASSES, _class(**fields))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provisioner": "y"}, "provisioner: Forbidden: updates to provisioner are forbidden."),
        ({"parameters": {"a": "b"}}, "parameters: Forbidden: updates to parameters are forbidden."),
        ({"reclaimPolicy": "Retain"}, "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."),
        (
            {"volumeBindingMode": "WaitForFirstConsumer"},
            'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable',
        ),
    ],
)
async def test_a_class_stays_what_volumes_were_made_by(api: Any, change: Any, message: str) -> None:
    """Whether they may grow does not."""
    await api.post(CLASSES, _class())
    refused = await api.patch(f"{CLASSES}/fast", change)
    assert (refused.status, message in refused.json["message"]) == (422, True), refused.json
    assert (await api.patch(f"{CLASSES}/fast", {"allowVolumeExpansion": True})).status == 200


async def test_claims_get_the_default_class(api: Any) -> None:
    """The newest of several; those that name one, or ask for none, are left alone."""
    assert "storageClassName" not in (await api.post(CLAIMS, _claim("none"))).json["spec"]
    await api.post(CLASSES, _class("old", default=True))
    await api.clock.advance(10)
    for name in ("new-b", "new-a"):
        await api.post(CLASSES, _class(name, default=True))
    await api.post(CLASSES, _class("plain"))
    assert (await api.post(CLAIMS, _claim("a"))).json["spec"]["storageClassName"] == "new-a"
    assert (await api.post(CLAIMS, _claim("b", storageClassName="plain"))).json["spec"][
        "storageClassName"
    ] == "plain"
    assert (await api.post(CLAIMS, _claim("c", storageClassName=""))).json["spec"]["storageClassName"] == ""
    changed = await api.patch(f"{CLAIMS}/none", {"metadata": {"labels": {"a": "b"}}})
    assert "storageClassName" not in changed.json["spec"]


async def test_classes_of_the_past_are_warned_of(api: Any) -> None:
    """Labels of nodes that are no longer given."""
    zone = "failure-domain.beta.kubernetes.io/zone"
    stored = await api.post(
        CLASSES, _class(allowedTopologies=[{"matchLabelExpressions": [{"key": zone, "values": ["a"]}]}])
    )
    assert any(f"matchLabelExpressions[0].key: {zone} is deprecated" in each for each in stored.warnings)
    capacity = {
        "metadata": {"name": "c"},
        "storageClassName": "fast",
        "nodeTopology": {"matchLabels": {zone: "a"}},
    }
    stored = await api.post(CAPACITIES, capacity)
    assert any(f"nodeTopology.matchLabels.{zone}: deprecated" in each for each in stored.warnings)


async def test_an_attachment_stays_what_it_is(api: Any) -> None:
    """Whether it is attached is its status."""
    path = f"{GROUP}/volumeattachments"
    spec = {"attacher": "x.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    stored = await api.post(path, _named("a", **spec))
    assert (stored.status, stored.json["status"]) == (201, {"attached": False}), stored.json
    refused = await api.patch(f"{path}/a", {"spec": {"nodeName": "m"}})
    assert (refused.status, "spec: Invalid value" in refused.json["message"]) == (422, True)
    await api.patch(f"{path}/a/status", {"status": {"attached": True}, "metadata": {"labels": {"a": "b"}}})
    table = (await api.get(path, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["a", "x.io", "v", "n", True, "0s"]
    assert "labels" not in (await api.get(f"{path}/a")).json["metadata"]
    refused = await api.put(f"{path}/a", _named("a", **spec))
    assert "must be specified for an update" in refused.json["message"]


@pytest.mark.parametrize(
    ("plural", "document", "message"),
    [
        (
            "volumeattachments",
            _named("a", attacher="x", nodeName="n", source={}),
            (
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and "
                "persistentVolumeName"
            ),
        ),
        (
            "volumeattachments",
            _named("a", attacher="", nodeName="n", source={"persistentVolumeName": "v"}),
            "spec.attacher: Required value",
        ),
        (
            "volumeattributesclasses",
            {"metadata": {"name": "a"}, "driverName": "x"},
            "parameters: Required value: must contain at least one key/value pair",
        ),
        (
            "csidrivers",
            _named("a", fsGroupPolicy="All"),
            (
                'spec.fsGroupPolicy: Unsupported value: "All": supported values: "File", "None", '
                '"ReadWriteOnceWithFSType"'
            ),
        ),
        (
            "csidrivers",
            _named("a", tokenRequests=[{"audience": "a", "expirationSeconds": 1}]),
            (
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less "
                "than 10 minutes"
            ),
        ),
        (
            "csinodes",
            _named("a", drivers=[{"name": "d", "nodeID": ""}]),
            "spec.drivers[0].nodeID: Required value",
        ),
        (
            "csinodes",
            _named("a", drivers=[{"name": "d", "nodeID": "n"}] * 2),
            'spec.drivers[1].name: Duplicate value: "d"',
        ),
        (
            "namespaces/default/csistoragecapacities",
            {"metadata": {"name": "a"}, "storageClassName": "s", "capacity": "-1"},
            'capacity: Invalid value: "-1": must be greater than or equal to 0',
        ),
    ],
)
async def test_what_no_driver_may_say(api: Any, plural: str, document: Any, message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(f"{GROUP}/{plural}", document)
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_drivers_are_completed_and_shown(api: Any) -> None:
    """How a driver attaches and lives is fixed; its changes are counted."""
    drivers, nodes = f"{GROUP}/csidrivers", f"{GROUP}/csinodes"
    stored = await api.post(drivers, _named("x.io"))
    assert stored.json["spec"] == {
        "attachRequired": True,
        "podInfoOnMount": False,
        "requiresRepublish": False,
        "seLinuxMount": False,
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "volumeLifecycleModes": ["Persistent"],
    }
    cells = (await api.get(drivers, accept=TABLE)).json["rows"][0]["cells"]
    assert cells == ["x.io", True, False, False, "<unset>", False, "Persistent", "0s"]
    refused = await api.patch(f"{drivers}/x.io", {"spec": {"attachRequired": False}})
    assert "spec.attachedRequired: Invalid value: false: field is immutable" in refused.json["message"]
    changed = await api.patch(f"{drivers}/x.io", {"spec": {"podInfoOnMount": True}})
    assert changed.json["metadata"]["generation"] == 1
    node = _named("n", drivers=[{"name": "x.io", "nodeID": "n", "allocatable": {"count": 3}}])
    assert (await api.post(nodes, node)).status == 201
    grown = [{"name": "x.io", "nodeID": "n", "allocatable": {"count": 4}}]
    assert (await api.patch(f"{nodes}/n", {"spec": {"drivers": grown}})).status == 200
    refused = await api.patch(f"{nodes}/n", {"spec": {"drivers": [{"name": "x.io", "nodeID": "m"}]}})
    assert "spec.drivers: Invalid value" in refused.json["message"]
    assert (await api.get(nodes, accept=TABLE)).json["rows"][0]["cells"] == ["n", 1, "0s"]


async def test_room_is_shown_and_stays_where_it_is(api: Any) -> None:
    """The amount may change, the place may not; so do classes of attributes."""
    await api.post(CAPACITIES, {"metadata": {"name": "c"}, "storageClassName": "fast", "capacity": "1Gi"})
    assert (await api.get(CAPACITIES, accept=TABLE)).json["rows"][0]["cells"] == ["c", "fast", "1Gi"]
    refused = await api.patch(f"{CAPACITIES}/c", {"storageClassName": "slow"})
    assert 'storageClassName: Invalid value: "slow": field is immutable' in refused.json["message"]
    assert (await api.patch(f"{CAPACITIES}/c", {"capacity": "2Gi"})).status == 200
    attributes = f"{GROUP}/volumeattributesclasses"
    await api.post(attributes, {"metadata": {"name": "a"}, "driverName": "x", "parameters": {"a": "b"}})
    assert (await api.get(attributes, accept=TABLE)).json["rows"][0]["cells"] == ["a", "x", "0s"]
    refused = await api.patch(f"{attributes}/a", {"driverName": "y"})
    assert "driverName: Forbidden: updates to driverName are forbidden." in refused.json["message"]
