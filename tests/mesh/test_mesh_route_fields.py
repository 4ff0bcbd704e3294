"""Fields of HTTP routes, each as the proxy gets it; what cannot be meant is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format

from ondol.api.objects import Key
from ondol.mesh.evaluate import Call, from_pod
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio, syntax
from ondol.mesh.translate.world import Translation

Translate = Callable[[Any], Translation]
WEB = {"destination": {"host": "web"}}
FAULT = "envoy.filters.http.fault"
CORS = "envoy.filters.http.cors"


def route(objs: Any, translate: Translate, **fields: Any) -> dict[str, Any]:
    """The one route of a rule, in JSON's form with the proxy's field names."""
    objs.pod("client")
    objs.service("web")
    action = {} if "redirect" in fields or "directResponse" in fields else {"route": [WEB]}
    objs.virtual_service("web", {"hosts": ["WEB"], "http": [{**action, **fields}]})
    translation = translate(objs)
    call = Call(host="web", path="/old/x")
    verdict = from_pod(translation.snapshot, translation.pods[Key("default", "client")], call)
    return json_format.MessageToDict(verdict.message, preserving_proto_field_name=True)


def of(document: Any, *path: str) -> Any:
    for name in path:
        document = document[name] if isinstance(document, dict) else document[int(name)]
    return document


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"match": [{"uri": {"prefix": "/old"}, "statPrefix": "old"}]}, ("stat_prefix",), "old"),
        (
            {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"prefixRewrite": "/new"}},
            ("redirect", "prefix_rewrite"),
            "/new",
        ),
        (
            {"retries": {"attempts": 1, "retryRemoteLocalities": True}},
            ("route", "retry_policy", "retry_priority", "typed_config", "update_frequency"),
            2,
        ),
        (
            {"retries": {"attempts": 1, "backoff": "40ms"}},
            ("route", "retry_policy", "retry_back_off", "base_interval"),
            "0.040s",
        ),
        (
            {"fault": {"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 1}}}},
            ("typed_per_filter_config", FAULT, "abort"),
            {"grpc_status": 14, "percentage": {"numerator": 10_000, "denominator": "MILLION"}},
        ),
        (
            {"fault": {"delay": {"fixedDelay": "1s", "percent": 7}}},
            ("typed_per_filter_config", FAULT, "delay", "percentage", "numerator"),
            70_000,
        ),
        (
            {"fault": {"delay": {"fixedDelay": "1s", "percent": 7, "percentage": {"value": 0.1}}}},
            ("typed_per_filter_config", FAULT, "delay", "percentage", "numerator"),
            1_000,
        ),
        (
            {"mirror": {"host": "web"}, "mirrorPercent": 3},
            ("route", "request_mirror_policies", "0", "runtime_fraction", "default_value", "numerator"),
            30_000,
        ),
        (
            {"mirror": {"host": "web"}, "mirrorPercent": 3, "mirrorPercentage": {"value": 4.5}},
            ("route", "request_mirror_policies", "0", "runtime_fraction", "default_value", "numerator"),
            45_000,
        ),
        (
            {"corsPolicy": {"allowOrigin": ["a.example"]}},
            ("typed_per_filter_config", CORS, "allow_origin_string_match"),
            [{"exact": "a.example"}],
        ),
        (
            {"corsPolicy": {"allowOrigin": ["a.example"], "allowOrigins": [{"prefix": "b"}]}},
            ("typed_per_filter_config", CORS, "allow_origin_string_match"),
            [{"prefix": "b"}],
        ),
        (
            {"corsPolicy": {"unmatchedPreflights": "IGNORE"}},
            ("typed_per_filter_config", CORS, "forward_not_matching_preflights"),
            False,
        ),
        (
            {"headers": {"request": {"set": {":authority": "b.example"}}}},
            ("route", "host_rewrite_literal"),
            "b.example",
        ),
        (
            {"rewrite": {"uriRegexRewrite": {"match": "/old/(.*)", "rewrite": r"/\1"}}},
            ("route", "regex_rewrite", "substitution"),
            r"/\1",
        ),
        ({"directResponse": {"status": 503, "body": {"bytes": "aGk="}}}, ("direct_response", "body"), None),
    ],
)
def test_a_field_reaches_the_proxy(
    objs: Any, translate: Translate, fields: dict[str, Any], path: tuple[str, ...], expected: Any
) -> None:
    """A host in capitals governs the service all the same."""
    written = of(route(objs, translate, **fields), *path)
    assert written == (expected if expected is not None else {"inline_bytes": "aGk="})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fault": {"abort": {}}}, "exactly one of httpStatus and grpcStatus"),
        ({"fault": {"abort": {"httpStatus": 500, "grpcStatus": "OK"}}}, "exactly one of"),
        ({"fault": {"abort": {"grpcStatus": "14"}}}, "is none of OK"),
        ({"fault": {"abort": {"http2Error": "PROTOCOL_ERROR"}}}, "http2Error is not supported"),
        ({"match": [{"statPrefix": "a.b"}]}, "letters, digits"),
        ({"rewrite": {"uriRegexRewrite": {"match": "(", "rewrite": "/"}}}, "no regular expression"),
        ({"rewrite": {"uriRegexRewrite": {"match": "(a)", "rewrite": r"\2"}}}, "names group 2"),
        ({"rewrite": {"uriRegexRewrite": {"match": "(a)", "rewrite": "\\n"}}}, "backslash"),
        ({"corsPolicy": {"allowOrigin": [""]}}, "an origin says nothing"),
        ({"route": [], "redirect": {"uri": "/a", "prefixRewrite": "/b"}}, "cannot stand together"),
        (
            {
                "route": [],
                "redirect": {"prefixRewrite": "/b"},
                "match": [{"uri": {"regex": ".*a"}}],
            },
            "needs a path that is matched by prefix",
        ),
        (
            {"route": [], "directResponse": {"status": 200, "body": {"string": "a", "bytes": "aGk="}}},
            "one of string and bytes",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], words: str) -> None:
    """With the field's name."""
    kind = KINDS["VirtualService"]
    spec = {"hosts": ["web"], "http": [{"route": [WEB], **fields}]}
    with pytest.raises(istio.Refused, match=words):
        kind.check(istio.read(kind.spec, {"spec": spec}))


@pytest.mark.parametrize(
    ("pattern", "replacement", "sound"),
    [("(a)(?:b)(c)", r"\2\\", True), ("(a)(?:b)(c)", r"\3", False), ("[(]", r"\0", True), ("a", "\\", False)],
)
def test_a_substitution_names_groups_that_there_are(pattern: str, replacement: str, *, sound: bool) -> None:
    """Groups that capture nothing and parentheses in classes do not count."""
    assert (not syntax.substitution(pattern, replacement)) is sound
