"""APIServices, flow schemas and priority levels: what a server has from its start, and what is refused."""

from __future__ import annotations

from typing import Any, Final

import pytest

from ondol.api import flow_control

pytestmark = pytest.mark.anyio

SERVICES: Final = "/apis/apiregistration.k8s.io/v1/apiservices"
FLOWS: Final = "/apis/flowcontrol.apiserver.k8s.io/v1"
SCHEMAS: Final = f"{FLOWS}/flowschemas"
LEVELS: Final = f"{FLOWS}/prioritylevelconfigurations"
DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
SUBJECT: Final = {"kind": "User", "user": {"name": "ann"}}
RULE: Final = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}


def _service(**spec: Any) -> dict[str, Any]:
    own = {"group": "x.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}
    return {"metadata": {"name": "v1.x.io"}, "spec": {**own, **spec}}


def _schema(name: str = "s", **spec: Any) -> dict[str, Any]:
    own = {
        "priorityLevelConfiguration": {"name": "system"},
        "rules": [{"subjects": [SUBJECT], "resourceRules": [RULE]}],
    }
    return {"metadata": {"name": name}, "spec": {**own, **spec}}


def _rules(**rule: Any) -> dict[str, Any]:
    return {"rules": [{"subjects": [SUBJECT], "resourceRules": [RULE], **rule}]}


def _level(name: str = "l", **limited: Any) -> dict[str, Any]:
    own = {"limitResponse": {"type": "Queue", "queuing": {}}}
    return {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {**own, **limited}}}


async def test_each_version_of_a_group_has_its_api_service(api: Any) -> None:
    """It is answered for here, and so available."""
    rows = (await api.get(SERVICES, accept=TABLE)).json["rows"]
    cells = {row["cells"][0]: row["cells"][1:3] for row in rows}
    groups = (await api.get("/apis")).json["groups"]
    served = {f"{each['version']}.{group['name']}" for group in groups for each in group["versions"]}
    assert set(cells) == {"v1.", *served} - {"v1.apiregistration.k8s.io"}
    assert set(map(tuple, cells.values())) == {("Local", "True")}


async def test_groups_of_custom_kinds_come_and_go(api: Any) -> None:
    """Their APIServices with them."""
    schema = {"openAPIV3Schema": {"type": "object"}}
    spec = {
        "group": "x.io",
        "scope": "Cluster",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    await api.post(DEFINITIONS, {"metadata": {"name": "things.x.io"}, "spec": spec})
    await api.settle()
    await api.clock.advance(2)
    await api.settle()
    kept = (await api.get(f"{SERVICES}/v1.x.io")).json
    assert kept["spec"]["groupPriorityMinimum"] == 1000, kept
    await api.delete(f"{DEFINITIONS}/things.x.io")
    for _ in range(3):
        await api.settle()
        await api.clock.advance(2)
    await api.settle()
    assert (await api.get(f"{SERVICES}/v1.x.io")).status == 404


async def test_what_the_server_has_is_made_anew(api: Any) -> None:
    """Whoever deletes it."""
    for path in (f"{SERVICES}/v1.apps", f"{SCHEMAS}/catch-all", f"{LEVELS}/exempt"):
        assert (await api.delete(path)).status == 200
        await api.settle()
        await api.clock.advance(2)
        await api.settle()
        assert (await api.get(path)).status == 200, path


async def test_the_port_of_another_server_is_443_unless_it_is_said(api: Any) -> None:
    """And its row says whether it is there, and why not."""
    service = {"namespace": "n", "name": "s"}
    stored = await api.post(SERVICES, _service(service=service))
    assert stored.json["spec"]["service"] == {**service, "port": 443}
    await api.settle()
    rows = (await api.get(SERVICES, accept=TABLE)).json["rows"]
    assert [row["cells"][:3] for row in rows if row["cells"][0] == "v1.x.io"] == [
        ["v1.x.io", "n/s", "False (ServiceNotFound)"]
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"version": "v2"},
            'metadata.name: Invalid value: "v1.x.io": must be `spec.version+"."+spec.group`: "v2.x.io"',
        ),
        (
            {"groupPriorityMinimum": 20001},
            "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
        ),
        (
            {"versionPriority": 0},
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
        ),
        (
            {"caBundle": "YQ=="},
            'spec.caBundle: Invalid value: "1 bytes": local APIServices may not have a caBundle',
        ),
        (
            {"insecureSkipTLSVerify": True},
            (
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have "
                "insecureSkipTLSVerify"
            ),
        ),
        ({"service": {"name": "s"}}, "spec.service.namespace: Required value"),
        (
            {"service": {"namespace": "n", "name": "s"}, "insecureSkipTLSVerify": True, "caBundle": "YQ=="},
            "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
        ),
    ],
)
async def test_what_no_api_service_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(SERVICES, _service(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_requests_have_their_weights_from_the_start(api: Any) -> None:
    """As Kubernetes suggests them."""
    schemas = (await api.get(SCHEMAS, accept=TABLE)).json["rows"]
    assert len(schemas) == len(flow_control.schemas())
    assert ["exempt", "exempt", 1, "<none>", "0s", "False"] in [row["cells"] for row in schemas]
    levels = [row["cells"] for row in (await api.get(LEVELS, accept=TABLE)).json["rows"]]
    assert ["exempt", "Exempt", "<none>", "<none>", "<none>", "<none>", "0s"] in levels
    assert ["workload-low", "Limited", 100, 128, 6, 50, "0s"] in levels


async def test_a_flow_is_completed_and_counted(api: Any) -> None:
    """Its status is written apart."""
    schema = await api.post(SCHEMAS, {**_schema(), "status": {"conditions": []}})
    assert schema.json["spec"]["matchingPrecedence"] == 1000
    assert [each["type"] for each in schema.json["status"]["conditions"]] == ["Dangling"]
    level = (await api.post(LEVELS, _level())).json
    assert level["spec"]["limited"] == {
        "nominalConcurrencyShares": 30,
        "lendablePercent": 0,
        "limitResponse": {"type": "Queue", "queuing": {"handSize": 8, "queues": 64, "queueLengthLimit": 50}},
    }
    changed = await api.patch(f"{SCHEMAS}/s", {"spec": {"matchingPrecedence": 5}})
    assert changed.json["metadata"]["generation"] == 2
    dangling = {"conditions": [{"type": "Dangling", "status": "True"}]}
    await api.patch(f"{SCHEMAS}/s/status", {"status": dangling})
    rows = (await api.get(SCHEMAS, accept=TABLE)).json["rows"]
    assert [row["cells"][5] for row in rows if row["cells"][0] == "s"] == ["True"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            _schema(matchingPrecedence=-1),
            "spec.matchingPrecedence: Invalid value: -1: must be a positive value",
        ),
        (_schema(matchingPrecedence=10001), "must not be greater than 10000"),
        (_schema(matchingPrecedence=1), "only the schema named 'exempt' may have matchingPrecedence 1"),
        (
            _schema(priorityLevelConfiguration={"name": ""}),
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
        ),
        (
            _schema(**_rules(subjects=[])),
            "spec.rules[0].subjects: Required value: subjects must contain at least one value",
        ),
        (
            _schema(**_rules(subjects=[{"kind": "Group", "user": {"name": "ann"}}])),
            "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
        ),
        (
            _schema(**_rules(subjects=[{**SUBJECT, "group": {"name": "g"}}])),
            (
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not "
                "'Group'"
            ),
        ),
        (
            _schema(**_rules(resourceRules=[])),
            (
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be "
                "non-empty"
            ),
        ),
        (
            _schema(**_rules(resourceRules=[{**RULE, "verbs": ["read"]}])),
            'spec.rules[0].resourceRules[0].verbs: Unsupported value: ["read"]: supported values: "create",',
        ),
        (
            _schema(**_rules(resourceRules=[{**RULE, "namespaces": []}])),
            "resource rules that are not cluster scoped must supply at least one namespace",
        ),
        (
            _schema(**_rules(nonResourceRules=[{"verbs": ["get"], "nonResourceURLs": ["healthz"]}])),
            (
                'spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "healthz": must start '
                "with slash"
            ),
        ),
        (_level(nominalConcurrencyShares=-1), "Invalid value: -1: must be a non-negative integer"),
        (
            _level(lendablePercent=101),
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
        ),
        (
            _level(limitResponse={"type": "Reject", "queuing": {}}),
            "queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited",
        ),
        (
            _level(limitResponse={"type": "Queue", "queuing": {"queues": 4, "handSize": 5}}),
            "handSize: Invalid value: 5: should not be greater than queues (4)",
        ),
        (
            _level(limitResponse={"type": "Queue", "queuing": {"queues": 1024, "handSize": 7}}),
            "required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60",
        ),
        (
            {"metadata": {"name": "l"}, "spec": {"type": "Exempt"}},
            "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'",
        ),
    ],
)
async def test_what_no_flow_may_be(api: Any, document: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    path = LEVELS if "type" in document["spec"] else SCHEMAS
    refused = await api.post(path, document)
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_some_weights_are_as_they_must_be(api: Any) -> None:
    """But for what the exempt may lend."""
    refused = await api.patch(f"{SCHEMAS}/catch-all", {"spec": {"matchingPrecedence": 9}})
    assert "spec of 'catch-all' must equal the fixed value" in refused.json["message"]
    refused = await api.patch(f"{LEVELS}/catch-all", {"spec": {"limited": {"lendablePercent": 9}}})
    assert "spec of 'catch-all' must equal the fixed value" in refused.json["message"]
    lends = await api.patch(f"{LEVELS}/exempt", {"spec": {"exempt": {"lendablePercent": 9}}})
    assert lends.status == 200, lends.json
