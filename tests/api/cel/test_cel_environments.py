"""What expressions of policies, match conditions and patches can name, and whom they can ask."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ondol.api import cel
from ondol.api.cel import types as t
from ondol.api.cel.library import authz

REQUEST: dict[str, Any] = {
    "operation": "UPDATE",
    "name": "web",
    "namespace": "shop",
    "userInfo": {"username": "kim", "groups": ["devs"], "extra": {"scopes": ["a", "b"]}},
    "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
    "dryRun": False,
    "options": {"fieldManager": "kubectl"},
}
POD: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "web"}},
    "spec": {"containers": [{"name": "c", "image": "example.com/c:1"}], "replicas": 3},
}


class Allowing:
    """An authorizer that allows one thing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[authz.Question] = []

    def decide(self, question: authz.Question) -> authz.Decision:
        self.asked.append(question)
        if question.verb == "fail":
            return authz.Decision(allowed=False, error="no answer")
        return authz.Decision(allowed=question.verb == "create", reason="as told")


def activation(port: Allowing) -> dict[str, Any]:
    question = authz.Question("", group="apps", resource="deployments", namespace="shop", name="web")
    return {
        "object": POD,
        "oldObject": None,
        "request": REQUEST,
        "params": {"max": 5},
        "namespaceObject": {"metadata": {"labels": {"team": "a"}}},
        "variables": {"images": ["example.com/c:1"]},
        "authorizer": authz.authorizer(port),
        "authorizer.requestResource": authz.resource_check(port, question),
    }


@pytest.mark.parametrize(
    "source",
    [
        "object.spec.replicas <= params.max && oldObject == null",
        "object.spec.containers.all(c, c.image.startsWith('example.com/'))",
        "object.metadata.labels['app.kubernetes.io/name'] == 'web' && !has(object.metadata.annotations)",
        (
            "request.operation == 'UPDATE' && request.userInfo.username == 'kim'"
            " && 'devs' in request.userInfo.groups"
        ),
        "request.kind.kind == 'Deployment' && request.userInfo.extra['scopes'][1] == 'b' && !request.dryRun",
        "namespaceObject.metadata.labels.team == 'a' && request.options.fieldManager == 'kubectl'",
        "variables.images.exists(i, i.endsWith(':1')) && variables.images.size() == 1",
        "authorizer.group('apps').resource('deployments').namespace('shop').check('create').allowed()",
        (
            "authorizer.requestResource.check('create').allowed()"
            " && !authorizer.requestResource.check('get').allowed()"
        ),
        "authorizer.path('/healthz').check('get').reason() == 'as told'",
        (
            "authorizer.serviceAccount('shop',"
            " 'robot').group('').resource('pods').subresource('exec').name('web')"
            ".fieldSelector('a=b').labelSelector('c=d').check('create').allowed()"
        ),
        (
            "authorizer.path('/x').check('fail').errored()"
            " && authorizer.path('/x').check('fail').error() == 'no answer'"
        ),
    ],
)
def test_what_a_policy_knows(source: str) -> None:
    """The object as it is and was, the request, the parameters, the namespace, and who may do what."""
    environment = cel.policy(params=True, variables={"images": t.list_of(t.STRING)})
    outcome = cel.compile(source, environment).evaluate(activation(Allowing()))
    assert (outcome.value, outcome.error) == (True, None)


def test_what_the_authorizer_is_asked() -> None:
    """Everything the expression said, and nothing else."""
    port = Allowing()
    source = (
        "authorizer.serviceAccount('shop', 'robot').group('').resource('pods').subresource('log')"
        ".namespace('n').name('web').fieldSelector('a=b').labelSelector('c=d').check('get').allowed()"
    )
    outcome = cel.compile(source, cel.policy()).evaluate(activation(port))
    assert outcome.cost > 350_000
    assert port.asked == [
        authz.Question(
            "get",
            resource="pods",
            subresource="log",
            namespace="n",
            name="web",
            field_selector="a=b",
            label_selector="c=d",
            service_account=("shop", "robot"),
        )
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("authorizer.path(' ').check('get').allowed()", "path must not be empty"),
        ("authorizer.group('').resource('').check('get').allowed()", "resource must not be empty"),
        (
            "authorizer.serviceAccount('n', 'A_').path('/x').check('get').allowed()",
            "Invalid service account name",
        ),
        (
            "authorizer.serviceAccount('N', 'a').path('/x').check('get').allowed()",
            "Invalid service account namespace",
        ),
        (
            (
                "authorizer.path('/a').check('get').allowed() || authorizer.path('/b').check('get').allowed()"
                " || authorizer.path('/c').check('get').allowed()"
            ),
            "operation cancelled: actual cost limit exceeded",
        ),
    ],
)
def test_what_cannot_be_asked(source: str, message: str) -> None:
    """An empty question, and more than two of them in one expression."""
    outcome = cel.compile(source, cel.policy()).evaluate(activation(Allowing()))
    assert str(outcome.error) == message


@pytest.mark.parametrize(
    ("source", "environment"),
    [
        ("params.max > 1", cel.policy()),
        ("variables.nope", cel.policy()),
        ("request.nope", cel.policy()),
        ("self.a", cel.policy()),
        ("params.max", cel.match_condition()),
        ("variables.a", cel.match_condition()),
        ("namespaceObject.metadata", cel.match_condition()),
        ("authorizer.path('/').check('get').allowed()", cel.match_condition(authorizer=False)),
        ("Object{}", cel.policy()),
        ("jsonpatch.escapeKey('a')", cel.policy()),
    ],
)
def test_what_is_not_known(source: str, environment: cel.Environment) -> None:
    """An expression names only what there is in its place."""
    with pytest.raises(cel.Refused):
        cel.compile(source, environment)


def test_what_a_match_condition_knows() -> None:
    """The object, the request, and the authorizer."""
    source = (
        "object.spec.replicas == 3 && request.name == 'web'"
        " && authorizer.requestResource.check('create').allowed()"
    )
    assert cel.compile(source, cel.match_condition()).evaluate(activation(Allowing())).value is True


class Lazy(Mapping[str, Any]):
    """Variables of a policy that are worked out when they are asked for."""

    def __init__(self) -> None:
        self.worked_out: list[str] = []

    def __getitem__(self, key: str) -> Any:
        self.worked_out.append(key)
        return 7

    def __iter__(self) -> Iterator[str]:
        return iter(("used", "unused"))

    def __len__(self) -> int:
        return 2


def test_variables_may_be_lazy() -> None:
    """Only what an expression names is worked out."""
    environment = cel.policy(variables={"used": t.INT, "unused": t.INT})
    lazy = Lazy()
    outcome = cel.compile("variables.used == 7", environment).evaluate({"variables": lazy})
    assert (outcome.value, lazy.worked_out) == (True, ["used"])


def test_a_mutation_builds_objects() -> None:
    """`Object{}` for server-side apply, whatever is in it."""
    source = (
        "Object{metadata: Object.metadata{labels: {'a': 'b'}},"
        " spec: Object.spec{replicas: object.spec.replicas + 1}}"
    )
    outcome = cel.compile(source, cel.policy(patches=True)).evaluate(activation(Allowing()))
    assert outcome.value == {"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 4}}


def test_a_mutation_builds_patches() -> None:
    """`JSONPatch{}`, with keys escaped for a pointer."""
    source = (
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/a~b'),"
        " value: 'x'}]"
        " + (has(object.spec.nope) ? [JSONPatch{op: 'remove', path: '/spec/nope'}] : [])"
    )
    program = cel.compile(source, cel.policy(patches=True))
    assert str(program.result) == "list(JSONPatch)"
    outcome = program.evaluate(activation(Allowing()))
    assert outcome.value == [{"op": "add", "path": "/metadata/labels/example.com~1a~0b", "value": "x"}]
    with pytest.raises(
        cel.Refused, match="expected type of field 'op' is 'string' but provided type is 'int'"
    ):
        cel.compile("JSONPatch{op: 1}", cel.policy(patches=True))
    with pytest.raises(cel.Refused, match="undefined field 'nope'"):
        cel.compile("JSONPatch{nope: 1}", cel.policy(patches=True))


def test_whoever_has_no_rules_does_not_pay() -> None:
    """A server of kinds without rules never imports the language."""
    program = (
        "import sys, ondol.apiserver.app, ondol.apiserver.crds.serving as serving\n"
        "schema = serving.CustomSchema({'schema': {'openAPIV3Schema': {'type': 'object'}}})\n"
        "schema.problems({'apiVersion': 'a/v1', 'kind': 'K', 'metadata': {'name': 'x'}}, None)\n"
        "sys.exit('ondol.api.cel' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
