"""Webhook configurations, admission policies and their bindings, as kubectl users know them."""

from __future__ import annotations

from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

GROUP: Final = "/apis/admissionregistration.k8s.io"
MUTATING: Final = f"{GROUP}/v1/mutatingwebhookconfigurations"
VALIDATING: Final = f"{GROUP}/v1/validatingwebhookconfigurations"
POLICIES: Final = f"{GROUP}/v1/validatingadmissionpolicies"
BINDINGS: Final = f"{GROUP}/v1/validatingadmissionpolicybindings"
MUTATING_POLICIES: Final = f"{GROUP}/v1beta1/mutatingadmissionpolicies"
MUTATING_BINDINGS: Final = f"{GROUP}/v1beta1/mutatingadmissionpolicybindings"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
RULE: Final = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
CONSTRAINTS: Final = {"resourceRules": [RULE]}


def _webhook(**fields: Any) -> dict[str, Any]:
    own = {
        "name": "a.example.com",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n"}},
    }
    return {"metadata": {"name": "a"}, "webhooks": [{**own, **fields}]}


def _named(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def _policy(**spec: Any) -> dict[str, Any]:
    own = {"matchConstraints": CONSTRAINTS, "validations": [{"expression": "true"}]}
    return _named("p", {**own, **spec})


def _mutating(**spec: Any) -> dict[str, Any]:
    expression = 'JSONPatch{op: "test", path: "/kind", value: "Pod"}'
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{expression}]"}}
    own = {"matchConstraints": CONSTRAINTS, "mutations": [mutation], "reinvocationPolicy": "Never"}
    return _named("p", {**own, **spec})


async def test_a_webhook_is_completed(api: Any) -> None:
    """It is asked of everything its rules name, in time, and its answer counts."""
    stored = await api.post(MUTATING, _webhook(rules=[RULE]))
    assert stored.status == 201, stored.json
    assert stored.json["webhooks"] == [
        {
            "name": "a.example.com",
            "clientConfig": {"service": {"name": "s", "namespace": "n", "port": 443}},
            "rules": [{**RULE, "scope": "*"}],
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
            "reinvocationPolicy": "Never",
        }
    ]
    validating = (await api.post(VALIDATING, _webhook())).json["webhooks"][0]
    assert "reinvocationPolicy" not in validating
    table = (await api.get(MUTATING, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["a", 1, "0s"]


async def test_changes_of_webhooks_are_counted(api: Any) -> None:
    """Also what is left out is defaulted first, and who overwrites says what they have seen."""
    await api.post(VALIDATING, _webhook())
    assert (await api.patch(f"{VALIDATING}/a", {"metadata": {"labels": {"a": "b"}}})).json["metadata"][
        "generation"
    ] == 1
    refused = await api.put(f"{VALIDATING}/a", _webhook())
    assert (
        "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
        in (refused.json["message"])
    )
    other = _webhook(timeoutSeconds=5)
    changed = await api.patch(f"{VALIDATING}/a", {"webhooks": other["webhooks"]})
    assert (changed.status, changed.json["metadata"]["generation"]) == (200, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "webhooks[0].name: Required value"),
        (
            {"name": "a.b"},
            (
                'webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments '
                "separated by dots"
            ),
        ),
        (
            {"sideEffects": None},
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        ),
        (
            {"sideEffects": "Some"},
            'webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"',
        ),
        (
            {"failurePolicy": "Maybe"},
            'webhooks[0].failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"',
        ),
        (
            {"matchPolicy": ""},
            'webhooks[0].matchPolicy: Unsupported value: "": supported values: "Equivalent", "Exact"',
        ),
        (
            {"reinvocationPolicy": "Always"},
            (
                'webhooks[0].reinvocationPolicy: Unsupported value: "Always": supported values: '
                '"IfNeeded", "Never"'
            ),
        ),
        (
            {"timeoutSeconds": 31},
            (
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 "
                "seconds"
            ),
        ),
        (
            {"admissionReviewVersions": []},
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            {"admissionReviewVersions": ["v2"]},
            (
                'webhooks[0].admissionReviewVersions: Invalid value: ["v2"]: must include at least one '
                "of v1, v1beta1"
            ),
        ),
        (
            {"admissionReviewVersions": ["v1", "v1"]},
            'webhooks[0].admissionReviewVersions[1]: Invalid value: "v1": duplicate version',
        ),
        (
            {"clientConfig": {}},
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            {"clientConfig": {"url": "https://a", "service": {"name": "s", "namespace": "n"}}},
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            {"clientConfig": {"url": "http://a.example"}},
            (
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only "
                "allowed URL scheme; "
                "desired format: https://host[/path]"
            ),
        ),
        (
            {"clientConfig": {"url": "https://u:p@a/?q#f"}},
            (
                'webhooks[0].clientConfig.url: Invalid value: "u:p": user information is not permitted '
                "in the URL"
            ),
        ),
        (
            {"clientConfig": {"url": "https:///x"}},
            'webhooks[0].clientConfig.url: Invalid value: "": host must be specified',
        ),
        (
            {"clientConfig": {"service": {"name": "s", "namespace": "n", "port": 0}}},
            (
                "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must "
                "be between 1 "
                "and 65535, inclusive"
            ),
        ),
        (
            {"clientConfig": {"service": {"name": "s", "namespace": "n", "path": "a//b"}}},
            "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": must start with a '/'",
        ),
        (
            {"clientConfig": {"service": {"name": "", "namespace": "n"}}},
            "webhooks[0].clientConfig.service.name: Required value",
        ),
        ({"rules": [{**RULE, "operations": []}]}, "webhooks[0].rules[0].operations: Required value"),
        (
            {"rules": [{**RULE, "operations": ["READ"]}]},
            (
                'webhooks[0].rules[0].operations[0]: Unsupported value: "READ": supported values: "*", '
                '"CONNECT",'
            ),
        ),
        (
            {"rules": [{**RULE, "apiGroups": ["*", "apps"]}]},
            (
                'webhooks[0].rules[0].apiGroups: Invalid value: ["*","apps"]: if \'*\' is present, must not '
                "specify other API groups"
            ),
        ),
        ({"rules": [{**RULE, "apiVersions": [""]}]}, "webhooks[0].rules[0].apiVersions[0]: Required value"),
        (
            {"rules": [{**RULE, "resources": ["pods/*", "pods/log"]}]},
            (
                "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is "
                "present, must "
                "not specify pods/log"
            ),
        ),
        (
            {"rules": [{**RULE, "resources": ["*", "pods"]}]},
            "if '*' is present, must not specify other resources without subresources",
        ),
        (
            {"rules": [{**RULE, "scope": "World"}]},
            (
                'webhooks[0].rules[0].scope: Unsupported value: "World": supported values: "*", "Cluster", '
                '"Namespaced"'
            ),
        ),
        (
            {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            (
                "webhooks[0].namespaceSelector.matchExpressions[0].values: Required value: must be specified "
                "when `operator` is 'In' or 'NotIn'"
            ),
        ),
        (
            {"matchConditions": [{"name": "a b", "expression": "true"}]},
            'webhooks[0].matchConditions[0].name: Invalid value: "a b": name part must consist of',
        ),
        (
            {"matchConditions": [{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]},
            'webhooks[0].matchConditions[1].name: Duplicate value: "a"',
        ),
        (
            {"matchConditions": [{"name": "", "expression": " "}]},
            "webhooks[0].matchConditions[0].expression: Required value",
        ),
    ],
)
async def test_what_no_webhook_may_be(api: Any, fields: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(MUTATING, _webhook(**fields))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_webhooks_have_names_of_their_own(api: Any) -> None:
    """Within one configuration."""
    one = _webhook()["webhooks"][0]
    refused = await api.post(VALIDATING, {"metadata": {"name": "a"}, "webhooks": [one, one]})
    assert 'webhooks[1].name: Duplicate value: "a.example.com"' in refused.json["message"]


async def test_a_policy_is_completed(api: Any) -> None:
    """Its status is written apart, and changes of what it asks for are counted."""
    params = {"apiVersion": "v1", "kind": "ConfigMap"}
    stored = await api.post(POLICIES, {**_policy(paramKind=params), "status": {"observedGeneration": 7}})
    assert stored.status == 201, stored.json
    spec = stored.json["spec"]
    status = {"typeChecking": {}, "observedGeneration": 1}
    assert (spec["failurePolicy"], stored.json["status"]) == ("Fail", status)
    assert spec["matchConstraints"] == {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "resourceRules": [{**RULE, "scope": "*"}],
    }
    await api.patch(
        f"{POLICIES}/p/status", {"status": {"observedGeneration": 1}, "spec": {"failurePolicy": "X"}}
    )
    changed = (await api.patch(f"{POLICIES}/p", {"spec": {"failurePolicy": "Ignore"}})).json
    assert (changed["status"], changed["metadata"]["generation"]) == (
        {"typeChecking": {}, "observedGeneration": 2},
        2,
    )
    table = (await api.get(POLICIES, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["p", 1, "v1/ConfigMap", "0s"]
    mutating = await api.post(MUTATING_POLICIES, _mutating())
    assert (mutating.status, mutating.json["spec"]["failurePolicy"]) == (201, "Fail"), mutating.json
    table = (await api.get(MUTATING_POLICIES, accept=TABLE)).json
    assert table["rows"][0]["cells"] == ["p", 1, "<unset>", "0s"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"failurePolicy": "X"},
            'spec.failurePolicy: Unsupported value: "X": supported values: "Fail", "Ignore"',
        ),
        ({"matchConstraints": None}, "spec.matchConstraints: Required value"),
        ({"matchConstraints": {}}, "spec.matchConstraints.resourceRules: Required value"),
        (
            {"matchConstraints": {"resourceRules": [{**RULE, "resourceNames": ["a", "a"]}]}},
            'spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: "a"',
        ),
        (
            {"validations": []},
            (
                "spec.auditAnnotations: Required value: validations or auditAnnotations must "
                "contain at least "
                "one item"
            ),
        ),
        ({"paramKind": {"apiVersion": "", "kind": "A"}}, "spec.paramKind.apiVersion: Required value"),
        (
            {"paramKind": {"apiVersion": "a/b/c", "kind": "A"}},
            'spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c',
        ),
        (
            {"paramKind": {"apiVersion": "v1", "kind": "A B"}},
            'spec.paramKind.kind: Invalid value: "A B": may have mixed case, but should otherwise match:',
        ),
        (
            {"variables": [{"name": "in", "expression": "1"}]},
            'spec.variables[0].name: Invalid value: "in": must be a valid CEL identifier',
        ),
        (
            {"validations": [{"expression": " "}]},
            "spec.validations[0].expression: Required value: expression is not specified",
        ),
        (
            {"validations": [{"expression": "1", "message": "a\nb"}]},
            'spec.validations[0].message: Invalid value: "a\\nb": must not contain line breaks',
        ),
        (
            {"validations": [{"expression": "1", "messageExpression": " "}]},
            'spec.validations[0].messageExpression: Invalid value: " ": must be non-empty if specified',
        ),
        (
            {"validations": [{"expression": "1", "reason": "Gone"}]},
            (
                'spec.validations[0].reason: Unsupported value: "Gone": supported values: "Forbidden", '
                '"Invalid", "RequestEntityTooLarge"'
            ),
        ),
        (
            {"auditAnnotations": [{"key": "a b", "valueExpression": "1"}]},
            'spec.auditAnnotations[0].key: Invalid value: "p/a b": name part must consist of',
        ),
        (
            {"auditAnnotations": [{"key": "a", "valueExpression": ""}]},
            "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
        ),
    ],
)
async def test_what_no_policy_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words, whatever its expressions say."""
    refused = await api.post(POLICIES, _policy(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"mutations": []}, "spec.mutations: Required value: mutations must contain at least one item"),
        ({"reinvocationPolicy": ""}, "spec.reinvocationPolicy: Required value"),
        (
            {"matchConstraints": {"resourceRules": [{**RULE, "operations": ["DELETE"]}]}},
            (
                'spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": '
                "supported values: "
                '"*", "CONNECT", "CREATE", "UPDATE"'
            ),
        ),
        (
            {"mutations": [{"patchType": "Merge"}]},
            (
                'spec.mutations[0].patchType: Unsupported value: "Merge": supported values: '
                '"ApplyConfiguration", "JSONPatch"'
            ),
        ),
        (
            {"mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "1"}}]},
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
        ),
        (
            {"mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "1"}}]},
            (
                'spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be '
                "specified when patchType is JSONPatch"
            ),
        ),
        (
            {"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {}}]},
            "spec.mutations[0].applyConfiguration.expression: Required value",
        ),
    ],
)
async def test_what_no_mutating_policy_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(MUTATING_POLICIES, _mutating(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_binding_shows_what_it_binds(api: Any) -> None:
    """In its columns: the policy, and the parameters by name or as they are selected."""
    ref = {"name": "c", "namespace": "n", "parameterNotFoundAction": "Deny"}
    spec = {"policyName": "p", "validationActions": ["Deny"], "paramRef": ref, "matchResources": {}}
    stored = await api.post(BINDINGS, _named("b", spec))
    assert stored.status == 201, stored.json
    assert stored.json["spec"]["matchResources"] == {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
    }
    selected = {"selector": {"matchLabels": {"a": "b"}}, "parameterNotFoundAction": "Allow"}
    other = await api.post(MUTATING_BINDINGS, _named("b", {"policyName": "p", "paramRef": selected}))
    assert other.status == 201, other.json
    assert (await api.get(BINDINGS, accept=TABLE)).json["rows"][0]["cells"] == ["b", "p", "n/c", "0s"]
    cells = (await api.get(MUTATING_BINDINGS, accept=TABLE)).json["rows"][0]["cells"]
    assert cells[2] == (
        "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"policyName": ""}, "spec.policyName: Required value"),
        (
            {"validationActions": []},
            "spec.validationActions: Required value: at least one validation action is required",
        ),
        (
            {"validationActions": ["Deny", "Warn"]},
            'spec.validationActions: Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn',
        ),
        (
            {"validationActions": ["Shout"]},
            (
                'spec.validationActions[0]: Unsupported value: "Shout": supported values: "Audit", "Deny", '
                '"Warn"'
            ),
        ),
        (
            {"paramRef": {"parameterNotFoundAction": "Deny"}},
            "spec.paramRef: Required value: one of name or selector must be specified",
        ),
        (
            {"paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "Deny"}},
            "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
        ),
        ({"paramRef": {"name": "a"}}, "spec.paramRef.parameterNotFoundAction: Required value"),
    ],
)
async def test_what_no_binding_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    own = {"policyName": "p", "validationActions": ["Deny"]}
    refused = await api.post(BINDINGS, _named("b", {**own, **spec}))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_parameters_are_for_those_who_may_read_them(api: Any) -> None:
    """A policy could show its author what they say."""
    rule = {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]}
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await api.post(f"{rbac}/clusterroles", {"metadata": {"name": "policies"}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "policies"}
    ann = [{"kind": "User", "name": "ann"}]
    await api.post(
        f"{rbac}/clusterrolebindings", {"metadata": {"name": "ann"}, "roleRef": role, "subjects": ann}
    )
    secrets = _policy(paramKind={"apiVersion": "v1", "kind": "Secret"})
    refused = await api.as_("ann").post(POLICIES, secrets)
    assert (refused.status, refused.json["details"]["causes"][0]["field"]) == (422, "spec.paramKind")
    assert 'user ann must have "get" permission on all objects' in refused.json["message"]
    assert (await api.post(POLICIES, secrets)).status == 201
    ref = {"name": "s", "namespace": "default", "parameterNotFoundAction": "Deny"}
    binding = _named("b", {"policyName": "p", "validationActions": ["Deny"], "paramRef": ref})
    refused = await api.as_("ann").post(BINDINGS, binding)
    assert 'user ann does not have "get" permission on the object' in refused.json["message"]
    assert (await api.post(BINDINGS, binding)).status == 201
    label = await api.as_("ann").patch(f"{BINDINGS}/b", {"metadata": {"labels": {"a": "b"}}})
    assert label.status == 200
