"""ValidatingAdmissionPolicies through the server: what they refuse, with which words, and what not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.apiserver.conftest import Response, Server

from ondol.api.objects import Object

GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
Make = Callable[..., Object]

_RULE = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE", "UPDATE"],
    "resources": ["configmaps"],
}


def policy(*validations: Object, name: str = "p", **spec: Any) -> Object:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [_RULE]},
            "validations": list(validations),
            **spec,
        },
    }


def binding(name: str = "b", policy_name: str = "p", *actions: str, **spec: Any) -> Object:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": policy_name, "validationActions": list(actions or ("Deny",)), **spec},
    }


async def put(api: Server, *documents: Object) -> None:
    for document in documents:
        plural = "validatingadmissionpolicies"
        if document["kind"].endswith("Binding"):
            plural = "validatingadmissionpolicybindings"
        answer = await api.post(f"{GROUP}/{plural}", document)
        assert answer.status == 201, answer.json


def check(expression: str, **rest: Any) -> Object:
    return {"expression": expression, **rest}


REFUSED = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request"


async def refusal(api: Server, config_map: Make, **data: str) -> Response:
    answer = await api.post(MAPS, config_map("c", data))
    assert answer.status >= 400, answer.json
    return answer


async def test_a_refusal_is_told_in_full(api: Server, config_map: Make) -> None:
    """Policy, binding, message, cause and details are Kubernetes'."""
    await put(api, policy(check("has(object.data) && has(object.data.a)", message="a is needed")), binding())
    answer = await refusal(api, config_map)
    message = f"{REFUSED}: a is needed"
    assert answer.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'configmaps "c" is forbidden: {message}',
        "reason": "Invalid",
        "details": {"name": "c", "kind": "configmaps", "causes": [{"message": message}]},
        "code": 422,
    }
    assert (await api.post(MAPS, config_map("c", {"a": "b"}))).status == 201


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (check("1 == 2"), "failed expression: 1 == 2"),
        (check("1 == 2", message=" no "), "no"),
        (check("1 == 2", message="no", messageExpression="'x' + object.data.k"), "xv"),
        (check("1 == 2", message="no", messageExpression="string(object.data.none)"), "no"),
        (check("1 == 2", message="no", messageExpression="'a\\nb'"), "no"),
        (check("1 == 2", messageExpression="'  '"), "failed expression: 1 == 2"),
        (check("1 == 2", messageExpression="string(variables.size)"), "1"),
        (check("variables.half != null"), "failed expression: variables.half != null"),
        (
            check("object.data.none == 'x'"),
            "expression 'object.data.none == 'x'' resulted in error: no such key: none",
        ),
        (
            check("variables.wrong == 'x'"),
            (
                "expression 'variables.wrong == 'x'' resulted in error:"
                ' composited variable "wrong" fails to evaluate: no such key: none'
            ),
        ),
    ],
)
async def test_the_message_of_a_refusal(
    api: Server, config_map: Make, validation: Object, message: str
) -> None:
    """The message expression, else the message, else the expression itself."""
    variables = [
        {"name": "size", "expression": "size(object.data)"},
        {"name": "doubled", "expression": "variables.size * 2"},
        {"name": "half", "expression": "null"},
        {"name": "wrong", "expression": "object.data.none"},
    ]
    await put(api, policy(validation, variables=variables), binding())
    answer = await refusal(api, config_map, k="v")
    assert answer.json["message"] == f'configmaps "c" is forbidden: {REFUSED}: {message}'


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        (
            {"validations": [check("nothing.there")]},
            '[0].expression: Invalid value: "nothing.there": compilation failed: ERROR: <input>:1:1',
        ),
        (
            {"validations": [check("variables.none == 'x'")]},
            "compilation failed: ERROR: <input>:1:10: undefined field 'none'",
        ),
        (
            {"validations": [check("true", messageExpression="1")]},
            'spec.validations[0].messageExpression: Invalid value: "1": must evaluate to string but got int',
        ),
        (
            {"validations": [], "auditAnnotations": [{"key": "a", "valueExpression": "1"}]},
            "must evaluate to one of [string null_type] but got int",
        ),
    ],
)
async def test_a_policy_whose_expressions_do_not_compile_is_refused(
    api: Server, fields: Object, cause: str
) -> None:
    """When it is written, with the place."""
    document = policy(*fields.pop("validations"), **fields)
    refused = await api.post(f"{GROUP}/validatingadmissionpolicies", document)
    assert (refused.status, cause in refused.json["message"]) == (422, True), refused.json


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("Invalid", 422),
        ("Forbidden", 403),
        ("RequestEntityTooLarge", 413),
    ],
)
async def test_the_reason_decides_about_the_code(
    api: Server, config_map: Make, reason: str, code: int
) -> None:
    """Of the answer to the client."""
    await put(api, policy(check("false", reason=reason)), binding())
    answer = await refusal(api, config_map)
    assert (answer.status, answer.json["reason"]) == (code, reason)


async def test_what_warns_and_what_is_audited_lets_the_write_pass(api: Server, config_map: Make) -> None:
    """Only a binding that denies refuses."""
    await put(api, policy(check("false", message="no")), binding("b", "p", "Warn", "Audit"))
    answer = await api.post(MAPS, config_map("c"))
    assert answer.status == 201
    text = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no"
    assert answer.warnings == [f'299 - "{text}"']


async def test_without_a_binding_no_policy_is_in_force(api: Server, config_map: Make) -> None:
    """It is only kept."""
    await put(api, policy(check("false")), binding("b", "another"))
    assert (await api.post(MAPS, config_map("c"))).status == 201


async def test_the_first_refusal_of_several_bindings_is_the_answer(api: Server, config_map: Make) -> None:
    """In order of their names."""
    await put(
        api,
        policy(check("false", message="no")),
        binding("a", "p", "Warn"),
        binding("b"),
        binding("z"),
    )
    answer = await refusal(api, config_map)
    assert answer.json["message"] == f'configmaps "c" is forbidden: {REFUSED}: no'
    assert len(answer.warnings) == 1


@pytest.mark.parametrize(
    "expression",
    [
        "request.operation == 'CREATE' && request.kind.kind == 'ConfigMap' && request.name == 'c'",
        "request.userInfo.username == 'admin' && request.namespace == 'default' && !request.dryRun",
        "oldObject == null && object.metadata.name == 'c' && object.kind == 'ConfigMap'",
        "namespaceObject.metadata.name == 'default' && namespaceObject.status.phase == 'Active'",
        "!has(namespaceObject.metadata.managedFields)",
        "authorizer.group('').resource('pods').namespace('default').check('create').allowed()",
        "!authorizer.serviceAccount('default', 'x').group('').resource('pods').check('get').allowed()",
        "authorizer.requestResource.check('create').allowed()",
        "authorizer.path('/x').check('get').allowed()",
        "request.options.kind == 'CreateOptions'",
        "variables.wanted.all(key, key in object.data)",
    ],
)
async def test_what_expressions_see(api: Server, config_map: Make, expression: str) -> None:
    """Object, request, namespace and authorizer, with Kubernetes' fields."""
    variables = [{"name": "wanted", "expression": "['k']"}]
    await put(api, policy(check(expression), variables=variables), binding())
    answer = await api.post(MAPS, config_map("c", {"k": "v"}))
    assert answer.status == 201, answer.json["message"]
    await put(api, policy(check(f"!({expression})"), name="q", variables=variables), binding("q", "q"))
    refused = await api.post(MAPS, config_map("c", {"k": "v"}))
    assert refused.status == 422


@pytest.mark.parametrize(
    ("match", "is_refused"),
    [
        ({"resourceRules": [_RULE]}, True),
        ({"resourceRules": [{**_RULE, "operations": ["UPDATE"]}]}, False),
        ({"resourceRules": [{**_RULE, "resources": ["*"], "apiGroups": ["*"]}]}, True),
        ({"resourceRules": [{**_RULE, "resourceNames": ["c"]}]}, True),
        ({"resourceRules": [{**_RULE, "resourceNames": ["d"]}]}, False),
        ({"resourceRules": [{**_RULE, "scope": "Cluster"}]}, False),
        ({"resourceRules": [_RULE], "excludeResourceRules": [_RULE]}, False),
        (
            {"resourceRules": [_RULE], "excludeResourceRules": [{**_RULE, "resourceNames": ["d"]}]},
            True,
        ),
        ({"resourceRules": [_RULE], "objectSelector": {"matchLabels": {"app": "x"}}}, False),
        ({"resourceRules": [_RULE], "objectSelector": {"matchLabels": {"app": "web"}}}, True),
        (
            {
                "resourceRules": [_RULE],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "x"}},
            },
            False,
        ),
        (
            {
                "resourceRules": [_RULE],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
            },
            True,
        ),
    ],
)
async def test_which_writes_a_policy_and_a_binding_are_about(
    api: Server, config_map: Make, match: Object, is_refused: bool
) -> None:
    """By rules, exclusions, names and labels of both."""
    labels = {"app": "web"}
    await put(api, policy(check("false"), matchConstraints=match), binding())
    assert (await api.post(MAPS, config_map("c", labels=labels))).status == (422 if is_refused else 201)
    await api.delete(f"{GROUP}/validatingadmissionpolicies/p")
    await api.delete(f"{GROUP}/validatingadmissionpolicybindings/b")
    await put(api, policy(check("false")), binding(matchResources=match))
    assert (await api.post(MAPS, config_map("e", labels=labels))).status == (422 if is_refused else 201) or (
        match["resourceRules"][0].get("resourceNames") == ["c"]
    )


@pytest.mark.parametrize(
    ("conditions", "failure_policy", "code"),
    [
        (["true"], "Fail", 422),
        (["false"], "Fail", 201),
        (["object.data.none == 'x'", "false"], "Fail", 201),
        (["object.data.none == 'x'"], "Fail", 422),
        (["object.data.none == 'x'"], "Ignore", 201),
        (["request.userInfo.username != 'admin'"], "Fail", 201),
    ],
)
async def test_conditions_decide_whether_a_policy_is_asked(
    api: Server, config_map: Make, conditions: list[str], failure_policy: str, code: int
) -> None:
    """All must hold; one that fails leaves it to the failure policy."""
    documents = [{"name": f"c{i}", "expression": each} for i, each in enumerate(conditions)]
    spec: Object = {"matchConditions": documents, "failurePolicy": failure_policy}
    await put(api, policy(check("false"), **spec), binding())
    assert (await api.post(MAPS, config_map("c"))).status == code


async def test_what_fails_to_be_evaluated_is_passed_over_if_the_policy_says_so(
    api: Server, config_map: Make
) -> None:
    """Else it refuses."""
    await put(api, policy(check("object.data.none == 'x'"), failurePolicy="Ignore"), binding())
    assert (await api.post(MAPS, config_map("c"))).status == 201
    await put(api, policy(check("object.metadata.name == 'd'"), name="q", failurePolicy="Ignore"))
    await put(api, binding("q", "q"))
    assert (await api.post(MAPS, config_map("e"))).status == 422  # a refusal is no failure


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("string(object.none)", "expression 'string(object.none)' resulted in error: no such key: none"),
        ("null", ""),
        ("'text'", ""),
    ],
)
async def test_audit_annotations_may_fail(
    api: Server, config_map: Make, expression: str, message: str
) -> None:
    """Then they refuse like a validation that fails."""
    annotations = [{"key": "k", "valueExpression": expression}]
    await put(api, policy(auditAnnotations=annotations), binding("b", "p", "Audit"))
    answer = await api.post(MAPS, config_map("c"))
    if message:
        assert answer.json["message"] == f'configmaps "c" is forbidden: {REFUSED}: {message}'
    else:
        assert answer.status == 201


_PARAMS: Object = {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}
_LIMITS = [check("!has(object.data.n) || int(object.data.n) < int(params.data.max)")]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"name": "small"}, f"failed expression: {_LIMITS[0]['expression']}"),
        ({"name": "large"}, ""),
        ({"selector": {"matchLabels": {"of": "p"}}}, f"failed expression: {_LIMITS[0]['expression']}"),
        ({"selector": {}, "namespace": "kube-system", "parameterNotFoundAction": "Allow"}, ""),
        ({"name": "none", "parameterNotFoundAction": "Allow"}, ""),
        (
            {"name": "none", "parameterNotFoundAction": "Deny"},
            (
                "failed to configure binding: no params found for policy binding with `Deny`"
                " parameterNotFoundAction"
            ),
        ),
    ],
)
async def test_a_binding_hands_objects_to_its_policy(
    api: Server, config_map: Make, reference: Object, message: str
) -> None:
    """By name or labels, in a namespace of its own, with what to do if there are none."""
    for name, most in (("small", "3"), ("large", "9")):
        answer = await api.post(MAPS, config_map(name, {"max": most}, labels={"of": "p"}))
        assert answer.status == 201
    for existing in (await api.get("/api/v1/namespaces/kube-system/configmaps")).json["items"]:
        await api.delete(f"/api/v1/namespaces/kube-system/configmaps/{existing['metadata']['name']}")
    await put(
        api, policy(*_LIMITS, **_PARAMS), binding(paramRef={"parameterNotFoundAction": "Deny", **reference})
    )
    answer = await api.post(MAPS, config_map("c", {"n": "5"}))
    if message:
        assert answer.json["message"] == f'configmaps "c" is forbidden: {REFUSED}: {message}'
    else:
        assert answer.status == 201


async def test_parameters_of_a_kind_that_is_not_there_refuse(api: Server, config_map: Make) -> None:
    """The policy cannot be configured."""
    kind = {"apiVersion": "example.org/v1", "kind": "Limit"}
    await put(
        api,
        policy(check("true"), paramKind=kind),
        binding(paramRef={"name": "x", "parameterNotFoundAction": "Deny"}),
    )
    answer = await refusal(api, config_map)
    assert answer.json["message"] == (
        "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure"
        " policy: failed to find resource referenced by paramKind: 'example.org/v1, Kind=Limit'"
    )


async def test_deletes_are_judged_by_the_old_object(api: Server, config_map: Make) -> None:
    """There is no new one."""
    rule = {**_RULE, "operations": ["DELETE"]}
    validation = check("object == null && !has(oldObject.data)", message="kept")
    await put(api, policy(validation, matchConstraints={"resourceRules": [rule]}), binding())
    await api.post(MAPS, config_map("a", {"keep": "1"}))
    await api.post(MAPS, config_map("b", {}))
    answer = await api.delete(f"{MAPS}/a")
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert (await api.delete(f"{MAPS}/b")).status == 200


async def test_updates_see_both_objects(api: Server, config_map: Make) -> None:
    """What was, and what is to be."""
    validation = check("oldObject == null || oldObject.data == object.data", message="immutable")
    await put(api, policy(validation), binding())
    await api.post(MAPS, config_map("a", {"k": "1"}))
    assert (await api.patch(f"{MAPS}/a", {"data": {"k": "2"}})).status == 422
    assert (await api.patch(f"{MAPS}/a", {"metadata": {"labels": {"x": "y"}}})).status == 200


async def test_a_change_of_a_policy_holds_at_once(api: Server, config_map: Make) -> None:
    """For the next write."""
    await put(api, policy(check("true")), binding())
    assert (await api.post(MAPS, config_map("a"))).status == 201
    path = f"{GROUP}/validatingadmissionpolicies/p"
    changed = await api.patch(path, {"spec": {"validations": [check("false")]}})
    assert changed.status == 200
    assert (await api.post(MAPS, config_map("b"))).status == 422


async def test_a_policy_that_refuses_everything_can_be_taken_away(api: Server, config_map: Make) -> None:
    """Policies are not asked about policies."""
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
    await put(api, policy(check("false"), matchConstraints={"resourceRules": [rule]}), binding())
    assert (await api.post(MAPS, config_map("a"))).status == 422
    assert (await api.delete(f"{GROUP}/validatingadmissionpolicybindings/b")).status == 200
    assert (await api.post(MAPS, config_map("a"))).status == 201
    assert (await api.delete(f"{GROUP}/validatingadmissionpolicies/p")).status == 200


_LOOP = "variables.l.all(a, variables.l.all(b, variables.l.all(c, a + b + c >= 0)))"
_LIST = "[" + ",".join(map(str, range(100))) + "]"


@pytest.mark.parametrize(
    ("validations", "message"),
    [
        (
            [check(_LOOP)],
            f"expression '{_LOOP}' resulted in error: operation cancelled: actual cost limit exceeded",
        ),
        (
            [check(_LOOP)] * 11,
            "validation failed due to running out of cost budget, no further validation rules will be run",
        ),
    ],
)
async def test_what_costs_too_much_is_stopped(
    api: Server, config_map: Make, validations: list[Object], message: str
) -> None:
    """The budget of a policy bounds its expressions."""
    await put(api, policy(*validations, variables=[{"name": "l", "expression": _LIST}]), binding())
    answer = await refusal(api, config_map)
    assert answer.json["message"] == f'configmaps "c" is forbidden: {REFUSED}: {message}'


async def test_a_dry_run_is_judged_like_any_write(api: Server, config_map: Make) -> None:
    """It is refused alike."""
    await put(api, policy(check("!request.dryRun", message="dry")), binding())
    answer = await api.post(f"{MAPS}?dryRun=All", config_map("c"))
    assert answer.json["message"] == f'configmaps "c" is forbidden: {REFUSED}: dry'
