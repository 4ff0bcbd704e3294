"""Telemetry: what it asks for, by Istio's rules of inheritance, and what the proxy is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import json_format
from tests.mesh.arrival import rule

from ondol.contracts import telemetry as names
from ondol.mesh.config import MeshConfig
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Finding
from ondol.mesh.model import istio
from ondol.mesh.policy.selection import Workload
from ondol.mesh.translate import messages as m
from ondol.mesh.translate import observing
from ondol.mesh.translate.observing import Identity, Log, Observation, SpanTag
from ondol.mesh.translate.statistics import Change, Reporter
from ondol.mesh.translate.telemetry import Observed, Telemetries
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]
ROOT: Final = "istio-system"
WORKLOAD: Final = Workload("foo", {"app": "httpbin"}, frozenset({"httpbin"}))
BASE: Final = Observation("otlp", 100.0, access_log=Path("/log"))
SELECTED: Final = {"selector": {"matchLabels": {"app": "httpbin"}}}
Layer = tuple[str, dict[str, Any]]


def telemetry(spec: dict[str, Any], namespace: str = "foo") -> Any:
    return rule("Telemetry", spec, namespace)


def observed(*layers: Layer, base: Observation = BASE, workload: Workload = WORKLOAD) -> Observed:
    listed = [telemetry(spec, namespace) for namespace, spec in layers]
    return Telemetries(listed, frozenset({ROOT, "ondol-system"}), base).of(workload)


def metrics(**override: Any) -> dict[str, Any]:
    return {"metrics": [{"overrides": [override]}]}


def tags(**values: str | None) -> dict[str, Any]:
    return {
        name: {"operation": "REMOVE"} if value is None else {"value": value} for name, value in values.items()
    }


# Metrics


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([], {}),
        (
            [("foo", metrics(match={"metric": "REQUEST_COUNT"}, disabled=True))],
            {names.REQUESTS: Change(is_disabled=True)},
        ),
        (
            [("foo", metrics(match={"customMetric": "request_bytes"}, disabled=True))],
            {names.REQUEST_BYTES: Change(is_disabled=True)},
        ),
        ([("foo", metrics(match={"metric": "REQUEST_COUNT", "mode": "SERVER"}, disabled=True))], {}),
        (
            [
                (ROOT, metrics(match={"metric": "REQUEST_COUNT"}, tagOverrides=tags(a="1", b="2", c=None))),
                ("foo", metrics(match={"metric": "REQUEST_COUNT"}, tagOverrides=tags(b=None, c="3"))),
                ("foo", {**SELECTED, **metrics(match={"metric": "REQUEST_COUNT"}, tagOverrides=tags(a="4"))}),
            ],
            {names.REQUESTS: Change(removed=("b",), added=(("a", "4"), ("c", "3")))},
        ),
        (
            [
                (ROOT, metrics(match={"metric": "REQUEST_COUNT"}, disabled=True)),
                ("foo", metrics(match={"metric": "REQUEST_COUNT"}, disabled=False)),
            ],
            {},
        ),
        (
            [("foo", {"metrics": [{"providers": [{"name": "other"}], "overrides": [{"disabled": True}]}]})],
            {},
        ),
        ([("other", metrics(disabled=True))], {}),
    ],
)
def test_metrics_add_up_from_the_root_to_the_workload(
    layers: Sequence[Layer], expected: dict[str, Change]
) -> None:
    """Label by label, the most particular last; of calls that the workload makes."""
    assert dict(observed(*layers).outbound.metrics) == expected


def test_a_match_without_a_metric_is_for_all() -> None:
    """Of the mode that it names, or of both."""
    of = observed(("foo", metrics(match={"mode": "SERVER"}, disabled=True)))
    assert of.outbound.metrics == ()
    assert len(of.inbound.metrics) == 10
    assert all(change.is_disabled for _, change in of.inbound.metrics)
    assert len(observed(("foo", metrics(disabled=True))).outbound.metrics) == 10


def test_metrics_for_others_alone_are_none_here() -> None:
    """Who names providers without Prometheus wants none of its page; the next layer may want it again."""
    others = {"metrics": [{"providers": [{"name": "stackdriver"}]}]}
    assert not observed((ROOT, others)).outbound.is_counted
    both = {"metrics": [{"providers": [{"name": "prometheus"}]}]}
    assert observed((ROOT, others), ("foo", both)).outbound.is_counted


def test_the_oldest_of_each_layer_is_heard() -> None:
    """Of two in one namespace, and of two that select the workload."""
    first, second = (metrics(match={"metric": "REQUEST_COUNT"}, tagOverrides=tags(a=x)) for x in ("1", "2"))
    of = observed(("foo", first), ("foo", second))
    assert dict(of.outbound.metrics)[names.REQUESTS].added == (("a", "1"),)
    of = observed(("foo", {**SELECTED, **first}), ("foo", {**SELECTED, **second}))
    assert dict(of.outbound.metrics)[names.REQUESTS].added == (("a", "1"),)
    assert len(of.origins) == 1


@pytest.mark.parametrize(
    ("target", "is_met"),
    [
        ({"kind": "Service", "name": "httpbin"}, True),
        ({"kind": "Service", "name": "other"}, False),
        ({"kind": "Gateway", "name": "gw", "group": "gateway.networking.k8s.io"}, True),
    ],
)
def test_targets_name_workloads_too(target: dict[str, str], is_met: bool) -> None:
    """Those behind a Service or of a Gateway."""
    workload = replace(WORKLOAD, gateways=frozenset({"gw"}))
    of = observed(("foo", {"targetRefs": [target], **metrics(disabled=True)}), workload=workload)
    assert bool(of.outbound.metrics) is is_met


# Traces


def test_fields_of_traces_are_inherited_one_by_one() -> None:
    """Tags are as the last says, all of them; what nobody says is as the platform is set."""
    root = {"tracing": [{"randomSamplingPercentage": 10, "customTags": {"a": {"literal": {"value": "1"}}}}]}
    own = {
        "tracing": [
            {
                "enableIstioTags": False,
                "useRequestIdForTraceSampling": False,
                "customTags": {
                    "h": {"header": {"name": "x-user", "defaultValue": "none"}},
                    "e": {"environment": {"name": "HOME", "defaultValue": "nowhere"}},
                    "f": {"formatter": {"value": "%PROTOCOL%"}},
                    "g": {"environment": {"name": "HOME"}},
                },
            }
        ]
    }
    of = observed((ROOT, root), ("foo", own)).outbound
    assert (of.sampling_percent, of.has_istio_tags, of.samples_by_request_id) == (10, False, False)
    assert of.span_tags == (
        SpanTag("e", observing.LITERAL, "nowhere"),
        SpanTag("f", observing.FORMATTER, "%PROTOCOL%"),
        SpanTag("h", observing.HEADER, "x-user", "none"),
    )
    traced = json_format.MessageToDict(observing.tracing(Identity("a", "b", "c"), of))
    assert traced["randomSampling"] == {"value": 10}
    custom = {tag["tag"]: tag for tag in traced["customTags"]}
    assert custom["h"]["requestHeader"] == {"name": "x-user", "defaultValue": "none"}
    assert custom["f"]["value"] == "%PROTOCOL%"
    assert "istio.namespace" not in custom


@pytest.mark.parametrize(
    ("tracing", "is_traced"),
    [
        ({"disableSpanReporting": True}, False),
        ({"disableSpanReporting": True, "match": {"mode": "SERVER"}}, True),
        ({"disableSpanReporting": False}, True),
    ],
)
def test_spans_are_switched_off(tracing: dict[str, Any], is_traced: bool) -> None:
    """Of the calls that a workload makes, where spans come from."""
    assert bool(observed(("foo", {"tracing": [tracing]})).outbound.traces) is is_traced


# Access logs


def logging(*names: str, **more: Any) -> dict[str, Any]:
    providers = {"providers": [{"name": name} for name in names]} if names else {}
    return {"accessLogging": [{**providers, **more}]}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([], ()),
        ([("foo", logging())], (Log(is_text=True),)),
        ([("foo", logging("envoy"))], (Log(is_text=True),)),
        ([("foo", logging("json"))], (Log(),)),
        ([("foo", logging("text", "json"))], (Log(is_text=True), Log())),
        ([("foo", logging("elsewhere"))], ()),
        ([("foo", logging(match={"mode": "SERVER"}))], ()),
        (
            [("foo", logging(filter={"expression": "response.code >= 400"}))],
            (Log(is_text=True, expression="response.code >= 400"),),
        ),
        ([(ROOT, logging("json")), ("foo", logging("text"))], (Log(is_text=True),)),
        ([(ROOT, logging("json")), ("foo", logging(disabled=True))], ()),
        (
            [(ROOT, logging("json")), ("foo", logging(filter={"expression": "false"}))],
            (Log(expression="false"),),
        ),
    ],
)
def test_the_last_to_name_providers_says_which_lines_there_are(
    layers: Sequence[Layer], expected: tuple[Log, ...]
) -> None:
    """Who names none goes on with those before; a filter is of its own entry."""
    assert observed(*layers, base=replace(BASE, log_is_text=True)).outbound.logs == expected


def test_the_setting_is_what_a_telemetry_changes() -> None:
    """Lines for all, of which a namespace wants none."""
    base = replace(BASE, logs=(Log(),))
    assert observed(base=base).outbound.logs == (Log(),)
    assert observed(("foo", logging(disabled=True)), base=base).outbound.logs == ()


# What the proxy is told


def loggers(listed: Sequence[m.accesslog.AccessLog]) -> list[dict[str, Any]]:
    return [json_format.MessageToDict(each) for each in listed]


def test_labels_are_taken_away_and_set() -> None:
    """What is one tag is not told apart any more; expressions are the proxy's to evaluate."""
    change = Change(removed=("response_code", "source_app"), added=(("host", "request.host"),))
    of = replace(BASE, metrics=((names.DURATION, Change(is_disabled=True)), (names.REQUESTS, change)))
    (counted, *_) = loggers(observing.of_requests(of))
    config = counted["typedConfig"]["value"]
    assert [each["stat"]["name"] for each in config["histograms"]] == [
        names.REQUEST_BYTES,
        names.RESPONSE_BYTES,
    ]
    shown = {tag["name"]: tag["value_format"] for tag in config["counters"][0]["stat"]["tags"]}
    fields = dict(zip(names.FIELDS, shown[names.CALL].split(names.FIELD_SEPARATOR), strict=True))
    assert (fields[names.CODE], fields[names.FLAGS]) == (names.ABSENT, "%RESPONSE_FLAGS%")
    assert shown[names.REMOVED] == "response_code|source_app"
    assert shown["tag_host"] == "%CEL(request.host)%"


def test_what_is_wholly_disabled_has_no_logger() -> None:
    """And nothing has where nothing is counted."""
    disabled = tuple((name, Change(is_disabled=True)) for name in (names.TCP_OPENED, names.TCP_CLOSED))
    of = replace(BASE, metrics=disabled, reporter=Reporter.PLAIN)
    assert observing.of_connections(of) == []
    (ended,) = loggers(list(observing.of_listener(of)))
    assert {each["stat"]["name"] for each in ended["typedConfig"]["value"]["counters"]} == {
        names.TCP_SENT,
        names.TCP_RECEIVED,
    }
    assert observing.of_requests(replace(BASE, is_counted=False)) == []


def test_lines_are_filtered() -> None:
    """Of connections one line each, when they end."""
    of = replace(BASE, logs=(Log(is_text=True, expression="x"),), is_counted=False)
    (request,), (connection,) = loggers(observing.of_requests(of)), loggers(observing.of_connections(of))
    assert request["filter"]["extensionFilter"]["typedConfig"]["expression"] == "x"
    assert len(connection["filter"]["andFilter"]["filters"]) == 2


def test_only_who_is_observed_otherwise_is_told_otherwise(objs: Any, mesh_config: MeshConfig) -> None:
    """Pods of a namespace, a workload or the ingress gateway; its Telemetry is on what is made of it."""
    translate = Translator(replace(mesh_config, access_log=Path("/log"), access_log_is_on=False)).translate
    objs.service("web")
    objs.gateway()
    for name, namespace in (("a", "default"), ("b", "default"), ("c", "other")):
        objs.pod(name, namespace)

    def logged() -> dict[str, list[str]]:
        listeners = translate(objs.world()).snapshot.of(types.LISTENER).values()
        return {
            each.name.split("|")[1]: [origin.name for origin in each.origins if origin.kind == "Telemetry"]
            for each in listeners
            if b"envoy.access_loggers.file" in each.body and not each.name.startswith("inspect")
        }

    assert logged() == {}
    objs.put("Telemetry", "lines", "default", logging())
    assert logged() == {"default/a": ["lines"], "default/b": ["lines"]}
    objs.put(
        "Telemetry", "none", "default", {**logging(disabled=True), "selector": {"matchLabels": {"app": "b"}}}
    )
    assert logged() == {"default/a": ["lines"]}
    selector = {"selector": {"matchLabels": {"istio": "ingressgateway"}}}
    objs.drop("Telemetry", "lines")
    objs.put("Telemetry", "gateway", ROOT, {**logging(), **selector})
    assert logged() == {"80": ["gateway"]}
    objs.drop("Telemetry", "gateway", ROOT)
    objs.put("Telemetry", "all", ROOT, logging("json"))
    assert set(logged()) == {"default/a", "other/c", "80"}


# What is refused, and what is told


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (metrics(tagOverrides={"a": {}}), "value must be set when operation is UPSERT"),
        (metrics(tagOverrides={"a": {"operation": "REMOVE", "value": "x"}}), "may only be set when"),
        (metrics(tagOverrides={"a-b": {"value": "x"}}), "no name of a label"),
        (metrics(tagOverrides={"a": {"value": "x)% %ENVIRONMENT(HOME)%"}}), "cannot be in an expression"),
        (metrics(match={"customMetric": "mine"}), "no metrics but Istio's standard ones"),
        (metrics(match={"metric": "REQUEST_COUNT", "customMetric": "x"}), "only one of metric"),
        ({"metrics": [{"reportingInterval": "5s"}]}, "reportingInterval"),
        ({"tracing": [{"providers": [{"name": "a"}, {"name": "b"}]}]}, "multiple providers"),
        ({"tracing": [{"randomSamplingPercentage": 101}]}, "<= 100"),
        ({"tracing": [{"customTags": {"a": {}}}]}, "must be one of"),
        ({"tracing": [{"customTags": {"a": {"literal": {"value": ""}}}}]}, "cannot be empty"),
        ({"tracing": [{"customTags": {"a": {"header": {"name": ""}}}}]}, "not a header name"),
        ({"tracing": [{"customTags": {"a": {"formatter": {"value": "%ENVIRONMENT(A)%"}}}}]}, "ENVIRONMENT"),
        (logging(filter={"expression": " "}), "must not be empty"),
        (
            {**SELECTED, "targetRefs": [{"kind": "Service", "name": "a"}]},
            "only one of targetRefs",
        ),
    ],
)
def test_what_cannot_be_is_refused(spec: dict[str, Any], words: str) -> None:
    """In Istio's words where it refuses it, too; what would read the machine is refused as well."""
    with pytest.raises(istio.Refused, match=words):
        telemetry(spec)


def test_what_has_no_effect_is_told(objs: Any, translate: Translate) -> None:
    """Providers that are not there, environments, spans of servers, and selectors of nobody."""
    from ondol.mesh.dependencies import Dependencies  # noqa: PLC0415 - for this test alone

    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": "nobody"}},
        **logging("collector"),
        "metrics": [{"providers": [{"name": "stackdriver"}]}],
        "tracing": [
            {
                "match": {"mode": "SERVER"},
                "providers": [{"name": "lightstep"}],
                "customTags": {"a": {"environment": {"name": "HOME"}}},
            }
        ],
    }
    objs.put("Telemetry", "odd", "default", spec)
    objs.put("Telemetry", "gateway", ROOT, {"selector": {"matchLabels": {"istio": "ingressgateway"}}})
    world = objs.world()
    listed: list[Finding] = list(KINDS["Telemetry"].survey(Dependencies(world, translate(objs))))
    texts = " / ".join(each.message for each in listed if each.code == "OND0012")
    for words in (
        "no provider collector",
        "no provider stackdriver",
        "no provider lightstep",
        "environment",
        "SERVER",
    ):
        assert words in texts
    assert {each.code for each in listed} == {"OND0012", "KIA0004", "IST0101"}
    assert {each.origin.name for each in listed} == {"odd"}
