"""Services whose pods come when they are called: what stands before them is dialled as the pods will be."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from ondol.api import conditions
from ondol.contracts import mesh
from ondol.mesh.model import coming
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.clusters import HTTP_OPTIONS
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]
STRICT = {"selector": {"matchLabels": {"app": "hello"}}, "mtls": {"mode": "STRICT"}}
CLUSTER = "outbound|80||hello.default.svc.cluster.local"


@pytest.fixture
def asleep(objs: Any) -> Any:
    """A Service at zero, with what stands before it."""
    objs.service("hello", endpoints=[("10.0.0.9", 40000)])
    (slice_,) = objs.of("EndpointSlice")
    slice_["metadata"]["labels"][mesh.CARRIES_TLS] = "true"
    return objs


def describe(objs: Any, **more: Any) -> None:
    """Say anew what its pods will be like."""
    service = copy.deepcopy(objs.objects["Service"]["default", "hello"])
    described = {"labels": {"app": "hello"}, "port": 8080, "holdSeconds": 60, **more}
    service["metadata"]["annotations"] = {mesh.PODS_TO_COME: json.dumps(described)}
    service["metadata"]["resourceVersion"] += "0"
    objs.objects["Service"]["default", "hello"] = service


def is_mutual(translation: Translation) -> bool:
    body = translation.snapshot.of(types.ENDPOINTS)[CLUSTER].body
    (endpoint,) = m.endpoint.ClusterLoadAssignment.FromString(body).endpoints[0].lb_endpoints
    return "envoy.transport_socket_match" in endpoint.metadata.filter_metadata


def cluster(translation: Translation) -> Any:
    return m.cluster.Cluster.FromString(translation.snapshot.of(types.CLUSTER)[CLUSTER].body)


@pytest.mark.parametrize(
    ("described", "spec", "expected"),
    [
        ({}, STRICT, True),
        ({"labels": {"app": "other"}}, STRICT, False),
        ({"labels": {"app": "hello", "sidecar.istio.io/inject": "false"}}, STRICT, False),
        ({"annotations": {"sidecar.istio.io/inject": "false"}}, STRICT, False),
        ({}, {**STRICT, "portLevelMtls": {"8080": {"mode": "DISABLE"}}}, False),
        ({}, {**STRICT, "mtls": {"mode": "PERMISSIVE"}}, False),
    ],
)
def test_who_stands_before_guarded_pods_is_dialled_as_they_are(
    asleep: Any, translate: Translate, described: dict[str, Any], spec: dict[str, Any], *, expected: bool
) -> None:
    """By what selects the pods to come, if these are of the mesh."""
    describe(asleep, **described)
    asleep.put("PeerAuthentication", "strict", "default", spec)
    translation = translate(asleep)
    assert is_mutual(translation) is expected
    assert cluster(translation).connect_timeout.seconds == (60 if expected else 10)


def test_policies_of_a_service_are_for_pods_to_come_behind_it(asleep: Any, translate: Translate) -> None:
    """A rule that denies a caller would not know him by a plain connection."""
    describe(asleep)
    asleep.service("behind")
    asleep.objects["Service"]["default", "behind"]["spec"]["selector"] = {"app": "hello"}
    source = {"source": {"principals": ["cluster.local/ns/default/sa/front"]}}
    target = {"kind": "Service", "name": "behind"}
    deny = {"action": "DENY", "targetRefs": [target], "rules": [{"from": [source]}]}
    asleep.put("AuthorizationPolicy", "deny", "default", deny)
    assert is_mutual(translate(asleep))


def test_without_a_policy_nothing_is_other(asleep: Any, translate: Translate) -> None:
    """Nor where the pods are not described."""
    before = translate(asleep).snapshot.of(types.CLUSTER)[CLUSTER]
    describe(asleep, perConnection=1)
    after = translate(asleep)
    assert not is_mutual(after)
    assert after.snapshot.of(types.CLUSTER)[CLUSTER].body == before.body
    asleep.put("PeerAuthentication", "strict", "default", STRICT)
    del asleep.objects["Service"]["default", "hello"]["metadata"]["annotations"]
    assert not is_mutual(translate(copy.deepcopy(asleep)))


def test_where_requests_are_counted_each_has_its_connection(asleep: Any, translate: Translate) -> None:
    """Who stands before the pods looks into none."""
    asleep.put("PeerAuthentication", "strict", "default", STRICT)
    for number in (0, 1):
        describe(asleep, perConnection=number)
        options = m.http_options.HttpProtocolOptions()
        cluster(translate(asleep)).typed_extension_protocol_options[HTTP_OPTIONS].Unpack(options)
        assert options.common_http_protocol_options.max_requests_per_connection.value == number


def test_pods_that_run_unguarded_are_not_handed_certificates(asleep: Any, translate: Translate) -> None:
    """Until they are turned: what stands before all hands on to these, too."""
    describe(asleep)
    asleep.put("PeerAuthentication", "strict", "default", STRICT)
    for listed, expected in (
        ((mesh.SANDBOX_READY,), True),
        ((mesh.SANDBOX_READY, mesh.POD_PROGRAMMED), False),
        ((mesh.SANDBOX_READY, mesh.POD_PROGRAMMED, mesh.POD_ARRIVALS_TURNED), True),
    ):
        pod = asleep.pod("hello")
        for each in listed:
            pod["status"]["conditions"] = conditions.set(pod["status"]["conditions"], each, "True", now=1.0)
        assert is_mutual(translate(asleep)) is expected, listed


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"port": "x"}', '{"labels": 3}', '{"port": [1]}', '{"port": 1e999}', "[" * 99_999],
)
def test_what_nobody_can_read_describes_nothing(text: str) -> None:
    """Anybody may write the annotation."""
    assert coming.read({"metadata": {"annotations": {mesh.PODS_TO_COME: text}}}) is None
