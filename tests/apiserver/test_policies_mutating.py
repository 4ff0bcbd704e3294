"""MutatingAdmissionPolicies through the server: what they change, in which order, and how they fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.apiserver.conftest import Response, Server

from ondol.api.objects import Object

GROUP = "/apis/admissionregistration.k8s.io/v1beta1"
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
Make = Callable[..., Object]


def rule(resource: str) -> Object:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [resource],
    }


def policy(*mutations: Object, name: str = "m", resource: str = "configmaps", **spec: Any) -> Object:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1beta1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule(resource)]},
            "mutations": list(mutations),
            **spec,
        },
    }


def binding(name: str = "b", policy_name: str = "m", **spec: Any) -> Object:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1beta1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": policy_name, **spec},
    }


def applied(expression: str) -> Object:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patched(expression: str) -> Object:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


async def put(api: Server, *documents: Object) -> None:
    for document in documents:
        plural = "mutatingadmissionpolicies"
        if document["kind"].endswith("Binding"):
            plural = "mutatingadmissionpolicybindings"
        answer = await api.post(f"{GROUP}/{plural}", document)
        assert answer.status == 201, answer.json


async def created(api: Server, document: Object, path: str = MAPS) -> Object:
    answer: Response = await api.post(path, document)
    assert answer.status == 201, answer.json["message"]
    obj: Object = answer.json
    return obj


@pytest.mark.parametrize(
    ("mutation", "data"),
    [
        (applied('Object{data: {"b": "2"}}'), {"a": "1", "b": "2"}),
        (applied("Object{data: {'a': string(size(object.data))}}"), {"a": "1"}),
        (applied("Object{data: {'name': object.metadata.name}}"), {"a": "1", "name": "c"}),
        (applied("Object{}"), {"a": "1"}),
        (patched('[JSONPatch{op: "add", path: "/data/b", value: "2"}]'), {"a": "1", "b": "2"}),
        (patched('[JSONPatch{op: "remove", path: "/data/a"}]'), None),
        (
            patched('[JSONPatch{op: "copy", from: "/data/a", path: "/data/" + jsonpatch.escapeKey("x.y")}]'),
            {"a": "1", "x.y": "1"},
        ),
        (patched('[JSONPatch{op: "replace", path: "/data", value: {"z": "9"}}]'), {"z": "9"}),
        (
            patched(
                '[JSONPatch{op: "test", path: "/data/a", value: "2"},'
                ' JSONPatch{op: "add", path: "/data/b", value: "2"}]'
            ),
            {"a": "1"},
        ),
    ],
)
async def test_what_a_mutation_makes_of_an_object(
    api: Server, config_map: Make, mutation: Object, data: Object | None
) -> None:
    """Merged like an apply, or patched."""
    await put(api, policy(mutation), binding())
    obj = await created(api, config_map("c", {"a": "1"}))
    assert (obj.get("data") or None) == data


@pytest.mark.parametrize(("written", "read"), [("v1", "v1beta1"), ("v1beta1", "v1")])
async def test_a_policy_is_one_in_both_versions(
    api: Server, config_map: Make, written: str, read: str
) -> None:
    """It holds whichever it was written as, and is read as the one that is asked for."""
    group, other = (f"{GROUP.rpartition('/')[0]}/{version}" for version in (written, read))
    version = {"apiVersion": group.removeprefix("/apis/")}
    mutation = applied('Object{data: {"b": "2"}}')
    policies, bindings = "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"
    assert (await api.post(f"{group}/{policies}", {**policy(mutation), **version})).status == 201
    assert (await api.post(f"{group}/{bindings}", {**binding(), **version})).status == 201
    for plural, name in ((policies, "m"), (bindings, "b")):
        shown = (await api.get(f"{other}/{plural}/{name}")).json
        assert shown["apiVersion"] == other.removeprefix("/apis/")
        (listed,) = (await api.get(f"{group}/{plural}")).json["items"]
        assert listed["metadata"]["uid"] == shown["metadata"]["uid"]
    assert (await created(api, config_map("c", {"a": "1"})))["data"] == {"a": "1", "b": "2"}
    assert (await api.delete(f"{other}/{bindings}/b")).status == 200
    assert (await created(api, config_map("d", {"a": "1"})))["data"] == {"a": "1"}


async def test_mutations_see_what_those_before_have_changed(api: Server, config_map: Make) -> None:
    """In their order."""
    mutations = [
        applied('Object{data: {"b": object.data.a + "b"}}'),
        applied('Object{data: {"c": object.data.b + "c"}}'),
    ]
    await put(api, policy(*mutations), binding())
    obj = await created(api, config_map("c", {"a": "a"}))
    assert obj["data"] == {"a": "a", "b": "ab", "c": "abc"}
    later = applied('Object{data: {"d": object.data.c + "d"}}')
    await put(api, policy(later, name="n"), binding("n", "n"))
    obj = await created(api, config_map("d", {"a": "a"}))
    assert obj["data"]["d"] == "abcd"


async def test_a_configuration_is_merged_by_the_keys_of_its_lists(api: Server, pod: Make) -> None:
    """As server-side apply merges lists that are maps."""
    mutation = applied(
        """Object{spec: Object.spec{initContainers: [
            Object.spec.initContainers{
                name: "mesh", image: "example.org/mesh:1", restartPolicy: "Always"}]}}"""
    )
    second = applied(
        'Object{spec: Object.spec{containers: [Object.spec.containers{name: "main", workingDir: "/w"}]}}'
    )
    conditions = [{"name": "once", "expression": "!has(object.spec.initContainers)"}]
    await put(api, policy(mutation, second, resource="pods", matchConditions=conditions), binding())
    obj = await created(api, pod("web"), PODS)
    (side,) = obj["spec"]["initContainers"]
    (main,) = obj["spec"]["containers"]
    assert (side["name"], side["restartPolicy"], side["imagePullPolicy"]) == (
        "mesh",
        "Always",
        "IfNotPresent",
    )
    assert (main["workingDir"], main["image"]) == ("/w", "example.org/app:1")
    owners = [
        entry for entry in obj["metadata"]["managedFields"] if "initContainers" in str(entry["fieldsV1"])
    ]
    assert owners == []


DENIED = "policy 'm' with binding 'b' denied request"


@pytest.mark.parametrize(
    ("mutation", "message"),
    [
        (
            applied("Object{data: {'b': object.data.none}}"),
            "expression 'Object{data: {'b': object.data.none}}' resulted in error: no such key: none",
        ),
        (
            patched('[JSONPatch{op: "remove", path: "/data/none"}]'),
            (
                "JSON Patch: remove operation does not apply: doc is missing path: /data/none:"
                " Unable to remove nonexistent key: none: missing value"
            ),
        ),
        (applied("Object{dat: {'b': 'x'}}"), None),
    ],
)
async def test_a_mutation_that_fails_refuses(
    api: Server, config_map: Make, mutation: Object, message: str | None
) -> None:
    """With the reason."""
    await put(api, policy(mutation), binding())
    answer = await api.post(MAPS, config_map("c", {"a": "1"}))
    assert (answer.status, answer.json["reason"]) == (403, "Invalid")
    if message is None:
        message = (
            "error applying patch: failed to convert patch object to typed object:"
            " failed to create typed patch object (/; v1, Kind=ConfigMap): .dat: field not declared in schema"
        )
    assert answer.json["message"] == f"{DENIED}: {message}"
    assert answer.json["details"] == {
        "name": "c",
        "kind": "configmaps",
        "causes": [{"message": f"{DENIED}: {message}"}],
    }


async def test_a_configuration_may_not_name_a_part_of_a_whole(api: Server, pod: Make) -> None:
    """What is atomic cannot be merged."""
    mutation = applied(
        'Object{spec: Object.spec{containers: [Object.spec.containers{name: "main", args: ["a"]}]}}'
    )
    await put(api, policy(mutation, resource="pods"), binding())
    answer = await api.post(PODS, pod("web"))
    assert answer.json["message"] == (
        f"{DENIED}: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or"
        " structs: .spec.containers[0].args"
    )


async def test_failures_are_passed_over_if_the_policy_says_so(api: Server, config_map: Make) -> None:
    """The object stays as it was."""
    mutations = [applied("Object{data: {'b': object.data.none}}"), applied('Object{data: {"c": "3"}}')]
    await put(api, policy(*mutations, failurePolicy="Ignore"), binding())
    obj = await created(api, config_map("c", {"a": "1"}))
    assert obj["data"] == {"a": "1", "c": "3"}


async def test_parameters_and_variables(api: Server, config_map: Make) -> None:
    """Expressions use both."""
    await created(api, config_map("defaults", {"team": "blue"}))
    mutation = applied("Object{metadata: Object.metadata{labels: {'team': variables.team}}}")
    spec: Object = {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "variables": [{"name": "team", "expression": "params.data.team"}],
        "matchConditions": [{"name": "c", "expression": "object.metadata.name != params.metadata.name"}],
    }
    await put(
        api,
        policy(mutation, **spec),
        binding(paramRef={"name": "defaults", "parameterNotFoundAction": "Deny"}),
    )
    obj = await created(api, config_map("c"))
    assert obj["metadata"]["labels"] == {"team": "blue"}
    absent = binding("n", paramRef={"name": "none", "parameterNotFoundAction": "Deny"})
    await put(api, absent)
    answer = await api.post(MAPS, config_map("d"))
    assert (answer.status, answer.json["reason"]) == (403, "Invalid")
    assert answer.json["message"] == (
        "policy 'm' with binding 'n' denied request: failed to configure binding: no params found for policy"
        " binding with `Deny` parameterNotFoundAction"
    )


@pytest.mark.parametrize(("reinvocation", "count"), [("Never", "1"), ("IfNeeded", "2")])
async def test_a_policy_may_ask_to_see_what_later_ones_changed(
    api: Server, config_map: Make, reinvocation: str, count: str
) -> None:
    """It is called once more."""
    counting = applied("Object{data: {'count': string(size(object.data))}}")
    adding = applied("Object{data: {'added': 'x'}}")
    await put(api, policy(counting, name="a", reinvocationPolicy=reinvocation), binding("a", "a"))
    await put(api, policy(adding, name="z"), binding("z", "z"))
    obj = await created(api, config_map("c", {"k": "v"}))
    assert obj["data"]["count"] == {"1": "1", "2": "3"}[count]
    assert obj["data"]["added"] == "x"


async def test_what_a_policy_adds_is_validated(api: Server, config_map: Make) -> None:
    """Like what a client sends."""
    await put(api, policy(patched('[JSONPatch{op: "add", path: "/data/a b", value: "x"}]')), binding())
    answer = await api.post(MAPS, config_map("c", {"a": "1"}))
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert "data[a b]" in answer.json["message"]


async def test_updates_are_changed_too_and_the_identity_stays(api: Server, config_map: Make) -> None:
    """Name and uid are nobody's to change."""
    await created(api, config_map("c", {"a": "1"}))
    mutation = patched(
        '[JSONPatch{op: "replace", path: "/metadata/name", value: "x"},'
        ' JSONPatch{op: "add", path: "/data/b", value: "2"}]'
    )
    await put(api, policy(mutation), binding())
    answer = await api.patch(f"{MAPS}/c", {"data": {"a": "3"}})
    assert answer.status == 200, answer.json
    assert (answer.json["metadata"]["name"], answer.json["data"]) == ("c", {"a": "3", "b": "2"})


async def test_what_costs_too_much_is_stopped(api: Server, config_map: Make) -> None:
    """The budget of a policy bounds its expressions."""
    listed = "[" + ",".join(map(str, range(100))) + "]"
    loop = "variables.l.all(a, variables.l.all(b, variables.l.all(c, a + b + c >= 0)))"
    mutation = applied(f"Object{{data: {{'x': string({loop})}}}}")
    await put(api, policy(mutation, variables=[{"name": "l", "expression": listed}]), binding())
    answer = await api.post(MAPS, config_map("c", {"a": "1"}))
    assert answer.json["message"].endswith("operation cancelled: actual cost limit exceeded")


async def test_a_policy_without_a_binding_changes_nothing(api: Server, config_map: Make) -> None:
    """It is only kept."""
    await put(api, policy(applied('Object{data: {"b": "2"}}')))
    assert (await created(api, config_map("c", {"a": "1"})))["data"] == {"a": "1"}
