"""The kinds of the core group that nothing of this platform runs by yet."""

from __future__ import annotations

from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

CONTROLLERS: Final = "/api/v1/namespaces/default/replicationcontrollers"
TEMPLATES: Final = "/api/v1/namespaces/default/podtemplates"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"


def _template(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "example.org/app:1"}]
    return {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": containers, **spec}}


def _controller(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {"template": _template(), **spec}}


async def test_a_replication_controller_takes_labels_of_its_template(api: Any) -> None:
    """For itself and for its selector, which is not a LabelSelector: its scale shows it all the same."""
    stored = await api.post(CONTROLLERS, _controller())
    assert stored.status == 201, stored.json
    assert stored.json["metadata"]["labels"] == {"app": "a"}
    assert (stored.json["spec"]["selector"], stored.json["spec"]["replicas"]) == ({"app": "a"}, 1)
    assert (stored.json["status"], stored.json["metadata"]["generation"]) == ({"replicas": 0}, 1)
    scale = (await api.get(f"{CONTROLLERS}/a/scale")).json
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 0, "selector": "app=a"})
    assert (await api.patch(f"{CONTROLLERS}/a/scale", {"spec": {"replicas": 0}})).status == 200
    await api.patch(f"{CONTROLLERS}/a/status", {"status": {"replicas": 3, "readyReplicas": 2}})
    table = (await api.get(f"{CONTROLLERS}?fieldSelector=status.replicas=3", accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["a", 0, 3, 2, "0s", "main", "example.org/app:1", "app=a"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"template": {"spec": _template()["spec"]}}, "spec.selector: Required value"),
        ({"template": None}, "spec.template: Required value"),
        (
            {"selector": {"app": "b"}},
            (
                'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not '
                "match template "
                "`labels`"
            ),
        ),
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            {"template": _template(restartPolicy="Never")},
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
        (
            {"template": _template(activeDeadlineSeconds=1)},
            "activeDeadlineSeconds in ReplicationController is not Supported",
        ),
    ],
)
async def test_what_no_replication_controller_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(CONTROLLERS, _controller(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_replication_controller_leaves_its_pods(api: Any) -> None:
    """Unless its deletion says otherwise."""
    await api.post(CONTROLLERS, _controller())
    assert (await api.delete(f"{CONTROLLERS}/a")).json["metadata"]["finalizers"] == ["orphan"]


async def test_a_pod_template_is_completed(api: Any) -> None:
    """As the pods made by it would be, and checked like them."""
    stored = await api.post(TEMPLATES, {"metadata": {"name": "a"}, "template": _template()})
    assert stored.json["template"]["spec"]["restartPolicy"] == "Always"
    changed = await api.patch(f"{TEMPLATES}/a", {"template": {"metadata": {"labels": {"b": "c"}}}})
    assert changed.json["metadata"]["generation"] == 2
    refused = await api.post(TEMPLATES, {"metadata": {"name": "b"}, "template": {"spec": {"containers": []}}})
    assert "template.spec.containers: Required value" in refused.json["message"]
    table = (await api.get(TEMPLATES, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["a", "main", "example.org/app:1", "app=a,b=c"]
