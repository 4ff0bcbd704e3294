"""What Eventing's kinds are filled in with, refused for and warned of, in Knative's words and field paths."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.contracts import eventing
from ondol.eventing import iso8601
from ondol.eventing.configuration import defaults, features, maps
from ondol.eventing.kinds.rules import CONFIG_MAPS, rules
from ondol.eventing.kinds.writes import Configuration

SERVICE = {"apiVersion": "v1", "kind": "Service", "name": "s"}
TO = {"ref": SERVICE}
IMC = {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel"}
CHANNEL = {**IMC, "name": "c"}
CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "name": "config-br-default-channel",
    "namespace": "knative-eventing",
}
CLASS = {eventing.BROKER_CLASS: "MTChannelBasedBroker"}


def configured(**config_maps: Mapping[str, str]) -> Configuration:
    """ConfigMaps as they stand, `config_features` for `config-features`."""
    by_name = {name.replace("_", "-"): {"data": dict(data)} for name, data in config_maps.items()}
    return Configuration(lambda _resource, _namespace, name: by_name.get(name))


def document(resource: Resource, spec: Object, annotations: Mapping[str, str] | None = None) -> Object:
    metadata: Object = {"name": "x", "namespace": "default"}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "spec": copy.deepcopy(spec),
    }


def filled(
    resource: Resource,
    spec: Object,
    configuration: Configuration | None = None,
    *,
    annotations: Mapping[str, str] | None = None,
    old: Object | None = None,
) -> Object:
    obj = document(resource, spec, annotations)
    rules(configuration or Configuration())[resource.group_resource].default(obj, old, "kim")
    return obj


def refused(
    resource: Resource,
    spec: Object,
    annotations: Mapping[str, str] | None = None,
    *,
    configuration: Configuration | None = None,
    old: Object | None = None,
) -> list[tuple[str, str]]:
    """Path and message of everything that is wrong."""
    obj = document(resource, spec, annotations)
    before = document(resource, old, annotations) if old is not None else None
    judged = rules(configuration or Configuration())[resource.group_resource].judge(obj, before)
    return [(cause.field, cause.message) for cause in judged[0]]


MISSING = "missing field(s)"
NAME = "Attribute name must start with a letter and can only contain lowercase alphanumeric"
ELSEWHERE = (
    "only name, apiVersion and kind are supported fields when feature.CrossNamespaceEventLinks is disabled"
)
SCOPE = "metadata.annotations[eventing.knative.dev/scope]"
INJECTION = "metadata.annotations[eventing.knative.dev/injection]"
TRIGGER = {"broker": "default", "subscriber": TO}
SUBSCRIPTION = {"channel": CHANNEL, "subscriber": TO}


@pytest.mark.parametrize(
    ("resource", "spec", "path", "message"),
    [
        (eventing.TRIGGER, {"subscriber": TO}, "spec.broker", MISSING),
        (
            eventing.TRIGGER,
            {**TRIGGER, "brokerRef": {"name": "b"}},
            "spec.brokerRef",
            "expected exactly one, got both",
        ),
        (eventing.TRIGGER, {"broker": "b"}, "spec.subscriber.ref", "expected at least one, got none"),
        (
            eventing.TRIGGER,
            {"broker": "b", "subscriber": {"uri": "/a"}},
            "spec.subscriber.uri",
            "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent",
        ),
        (
            eventing.TRIGGER,
            {"broker": "b", "subscriber": {"uri": "http://[::1/"}},
            "spec.subscriber.uri",
            "invalid value: http://[::1/: Invalid IPv6 URL",
        ),
        (
            eventing.TRIGGER,
            {"broker": "b", "subscriber": {"uri": "http://a.test/\r\nx: y"}},
            "spec.subscriber.uri",
            "invalid value: invalid control character in URL",
        ),
        (
            eventing.TRIGGER,
            {"broker": "b", "subscriber": {**TO, "uri": "http://a.test"}},
            "spec.subscriber.ref",
            "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present",
        ),
        (
            eventing.TRIGGER,
            {"broker": "b", "subscriber": {"ref": {"name": "s"}}},
            "spec.subscriber.ref.kind",
            MISSING,
        ),
        (
            eventing.TRIGGER,
            {"broker": "b", "subscriber": {"ref": {**SERVICE, "group": "g"}}},
            "spec.subscriber.ref.group",
            "must not set the field(s)",
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "filter": {"attributes": {"No": "x"}}},
            "spec.filter.attributes[No]",
            f'invalid key name "No": {NAME}',
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "filters": [{"exact": {"type": "a"}, "cesql": "TRUE"}]},
            "spec.filters[0]",
            "multiple dialects found, filters can have only one dialect set",
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "delivery": {"backoffPolicy": "sometimes"}},
            "spec.delivery.backoffPolicy",
            "invalid value: sometimes",
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "delivery": {"retry": -1}},
            "spec.delivery.retry",
            "invalid value: -1",
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "delivery": {"backoffDelay": "5s"}},
            "spec.delivery.backoffDelay",
            "invalid value: 5s: '5s' is not an ISO 8601 duration such as PT0.2S or PT1M30S",
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "delivery": {"timeout": "PT0S"}},
            "spec.delivery.timeout",
            "invalid value: PT0S",
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "delivery": {"retryAfterMax": "PT5S"}},
            "spec.delivery.retryAfterMax",
            "must not set the field(s)",
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "delivery": {"format": "xml"}},
            "spec.delivery.format",
            "invalid value: xml",
        ),
        (
            eventing.TRIGGER,
            {**TRIGGER, "delivery": {"deadLetterSink": {}}},
            "spec.delivery.deadLetterSink.uri",
            "expected at least one, got none",
        ),
        (
            eventing.TRIGGER,
            {"broker": "b", "subscriber": {"uri": "https://a.test", "CACerts": "x"}},
            "spec.subscriber.CACerts",
            "invalid value: CA Cert provided is invalid",
        ),
        (
            eventing.TRIGGER,
            {"broker": "b", "subscriber": {"uri": "http://["}},
            "spec.subscriber.uri",
            "invalid value: http://[: Invalid IPv6 URL",
        ),
        (eventing.CHANNEL, {}, "spec.channelTemplate", MISSING),
        (
            eventing.CHANNEL,
            {"channelTemplate": {"kind": "K"}},
            "spec.channelTemplate.apiVersion",
            MISSING,
        ),
        (
            eventing.SUBSCRIPTION,
            {"subscriber": TO},
            "spec.channel",
            f"{MISSING}: the Subscription must reference a channel",
        ),
        (
            eventing.SUBSCRIPTION,
            {"channel": CHANNEL},
            "spec.subscriber",
            f"{MISSING}: the Subscription must reference a subscriber",
        ),
        (
            eventing.SUBSCRIPTION,
            {**SUBSCRIPTION, "channel": {**CHANNEL, "namespace": "default"}},
            "spec.channel.namespace",
            f"must not set the field(s): {ELSEWHERE}",
        ),
        (
            eventing.IN_MEMORY_CHANNEL,
            {"subscribers": [{"uid": "1"}]},
            "spec.subscribable.subscriber[0].replyURI",
            f"{MISSING}: expected at least one of, got none",
        ),
        (eventing.SEQUENCE, {"channelTemplate": IMC}, "spec.steps", MISSING),
        (
            eventing.SEQUENCE,
            {"channelTemplate": IMC, "steps": [{}]},
            "spec.steps[0].ref",
            "expected at least one, got none",
        ),
        (eventing.PARALLEL, {"channelTemplate": IMC}, "spec.branches", MISSING),
        (
            eventing.PARALLEL,
            {"channelTemplate": IMC, "branches": [{"subscriber": TO, "delivery": {"retry": -2}}]},
            "spec.branches[0].delivery.retry",
            "invalid value: -2",
        ),
        (
            eventing.REQUEST_REPLY,
            {"brokerRef": {**SERVICE}, "timeout": "PT1S"},
            "spec.brokerRef.kind",
            "invalid value: Service: brokerRef kind must be Broker",
        ),
        (eventing.EVENT_TYPE, {}, "spec.type", MISSING),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(
    resource: Resource, spec: Object, path: str, message: str
) -> None:
    """Each has its field's path, and Knative's words for it."""
    assert (path, message) in refused(resource, spec)


@pytest.mark.parametrize(
    ("resource", "spec"),
    [
        (eventing.TRIGGER, TRIGGER),
        (eventing.TRIGGER, {"brokerRef": {"name": "b"}, "subscriber": {"uri": "http://a.test/x"}}),
        (eventing.TRIGGER, {**TRIGGER, "delivery": {"retry": 0, "timeout": "PT1M", "format": "json"}}),
        (eventing.CHANNEL, {"channelTemplate": IMC}),
        (eventing.SUBSCRIPTION, {**SUBSCRIPTION, "reply": {}}),
        (eventing.SEQUENCE, {"channelTemplate": IMC, "steps": [TO], "reply": TO}),
        (eventing.PARALLEL, {"channelTemplate": IMC, "branches": [{"subscriber": TO}]}),
        (eventing.EVENT_TYPE, {"type": "a"}),
    ],
)
def test_what_is_right_is_let_through(resource: Resource, spec: Object) -> None:
    """Fields that may be absent are."""
    assert refused(resource, spec) == []


@pytest.mark.parametrize(
    ("resource", "old", "new", "path"),
    [
        (eventing.TRIGGER, TRIGGER, {**TRIGGER, "broker": "other"}, "spec.broker"),
        (
            eventing.SUBSCRIPTION,
            SUBSCRIPTION,
            {**SUBSCRIPTION, "channel": {**CHANNEL, "name": "d"}},
            "spec.channel",
        ),
        (
            eventing.CHANNEL,
            {"channelTemplate": IMC},
            {"channelTemplate": {**IMC, "kind": "Other"}},
            "spec.channelTemplate",
        ),
        (
            eventing.CHANNEL,
            {"channelTemplate": IMC},
            {"channelTemplate": IMC, "delivery": {"retry": 1}},
            "spec.delivery",
        ),
    ],
)
def test_what_never_changes(resource: Resource, old: Object, new: Object, path: str) -> None:
    """It is refused at the field that differs."""
    ((field, message),) = refused(resource, new, old=old)
    assert field == path
    names = ", ".join(reversed(path.split(".")))
    assert message.startswith(f"Immutable fields changed (-old +new): {names}")


def test_a_broker_keeps_its_class_and_config() -> None:
    """How it delivers may change."""
    kept = rules(Configuration())[eventing.BROKER.group_resource]
    old = document(eventing.BROKER, {"config": CONFIG}, CLASS)
    new = document(eventing.BROKER, {"config": {**CONFIG, "name": "x"}}, {eventing.BROKER_CLASS: "Kafka"})
    fields = {cause.field for cause in kept.judge(new, old)[0]}
    assert fields == {"spec.config", f"metadata.annotations[{eventing.BROKER_CLASS}]"}
    delivers = document(eventing.BROKER, {"config": CONFIG, "delivery": {"retry": 1}}, CLASS)
    assert kept.judge(delivers, old) == ((), [])
    assert [c.field for c in kept.judge(document(eventing.BROKER, {}), None)[0]] == [
        f"metadata.annotations[{eventing.BROKER_CLASS}]"
    ]


@pytest.mark.parametrize(
    ("annotations", "field"),
    [
        ({"knative.dev/dependency": "x"}, "metadata.annotations[knative.dev/dependency]"),
        ({"knative.dev/dependency": "{}"}, "metadata.annotations[knative.dev/dependency].kind"),
        (
            {"knative.dev/dependency": '{"kind":"K","name":"n","apiVersion":"v1","namespace":"other"}'},
            "metadata.annotations[knative.dev/dependency].namespace",
        ),
        (
            {"eventing.knative.dev/injection": "yes"},
            "metadata.annotations[eventing.knative.dev/injection]",
        ),
        (
            {"eventing.ondol.dev/delivery-order": "sorted"},
            "metadata.annotations[eventing.ondol.dev/delivery-order]",
        ),
    ],
)
def test_annotations_of_a_trigger_are_looked_at(annotations: dict[str, str], field: str) -> None:
    """One that cannot be meant is refused."""
    assert field in [path for path, _ in refused(eventing.TRIGGER, TRIGGER, annotations)]


def test_flags_decide_about_fields() -> None:
    """They are read as they stand when something is written."""
    on = configured(config_features={"delivery-retryafter": "Enabled", "kreference-group": "enabled"})
    spec = {**TRIGGER, "delivery": {"retryAfterMax": "PT5S"}}
    assert refused(eventing.TRIGGER, spec, configuration=on) == []
    grouped = {"ref": {"group": "g", "kind": "K", "name": "n"}}
    assert refused(eventing.TRIGGER, {"broker": "b", "subscriber": grouped}, configuration=on) == []
    off = configured(config_features={"delivery-timeout": "disabled"})
    timed = {**TRIGGER, "delivery": {"timeout": "PT5S"}}
    assert refused(eventing.TRIGGER, timed, configuration=off) == [
        ("spec.delivery.timeout", "must not set the field(s)")
    ]


BROKERS = """
clusterDefault:
  brokerClass: MTChannelBasedBroker
  apiVersion: v1
  kind: ConfigMap
  name: everywhere
  delivery: {retry: 3, timeout: PT9S}
  brokerClasses:
    Kafka: {apiVersion: v1, kind: ConfigMap, name: kafka, namespace: k}
namespaceDefaults:
  default:
    brokerClass: Own
    apiVersion: v1
    kind: ConfigMap
    name: here
  other:
    brokerClass: Kafka
"""


@pytest.mark.parametrize(
    ("namespace", "broker_class", "expected"),
    [
        ("default", "", "here"),
        ("default", "Own", "here"),
        ("default", "MTChannelBasedBroker", "everywhere"),
        ("default", "Kafka", "kafka"),
        ("other", "", "kafka"),
        ("elsewhere", "", "everywhere"),
        ("elsewhere", "Unheard", "everywhere"),
    ],
)
def test_a_brokers_config_is_the_nearest(namespace: str, broker_class: str, expected: str) -> None:
    """Of the namespace and class before the cluster's; only delivery fields that Knative copies are."""
    brokers = defaults.brokers({"data": {"default-br-config": BROKERS}})
    config = brokers.config_for(namespace, broker_class)
    assert config.reference is not None
    assert config.reference["name"] == expected
    if expected == "everywhere":
        assert config.delivery == {"retry": 3}


def test_a_broker_is_filled_in_once() -> None:
    """What it says itself stays; who made it is noted, and who changed it."""
    configuration = configured(config_br_defaults={"default-br-config": BROKERS})
    own = filled(eventing.BROKER, {"delivery": {}}, configuration)
    assert objects.spec(own)["delivery"] == {}
    assert objects.spec(own)["config"] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "here",
        "namespace": "default",
    }
    assert objects.annotations(own) == {
        eventing.BROKER_CLASS: "Own",
        "eventing.knative.dev/creator": "kim",
        "eventing.knative.dev/lastModifier": "kim",
    }
    again = copy.deepcopy(own)
    again["metadata"]["annotations"] = {eventing.BROKER_CLASS: "Own"}
    rules(configuration)[eventing.BROKER.group_resource].default(again, own, "lee")
    assert objects.annotations(again) == objects.annotations(own)
    again["spec"]["delivery"] = {"retry": 1}
    rules(configuration)[eventing.BROKER.group_resource].default(again, own, "lee")
    assert objects.annotations(again)["eventing.knative.dev/lastModifier"] == "lee"
    assert objects.annotations(again)["eventing.knative.dev/creator"] == "kim"


def test_references_are_given_their_namespace() -> None:
    """Also in flows, and those of dead letter sinks."""
    here = {"ref": {**SERVICE, "namespace": "default"}}
    trigger = filled(eventing.TRIGGER, {**TRIGGER, "delivery": {"deadLetterSink": TO}})
    assert objects.spec(trigger) == {
        "broker": "default",
        "filter": {},
        "subscriber": here,
        "delivery": {"deadLetterSink": here},
    }
    assert objects.labels(trigger) == {eventing.BROKER_LABEL: "default"}
    sequence = filled(eventing.SEQUENCE, {"steps": [TO], "reply": TO})
    assert objects.spec(sequence) == {"steps": [here], "reply": here, "channelTemplate": IMC}
    parallel = filled(eventing.PARALLEL, {"branches": [{"filter": TO, "subscriber": TO}]})
    assert objects.spec(parallel)["branches"] == [{"filter": here, "subscriber": here}]


def test_a_channel_is_of_the_namespaces_kind() -> None:
    """Of the ConfigMap's defaults the namespace's goes first."""
    cluster = "clusterDefault: {apiVersion: a/v1, kind: A}"
    text = f"{cluster}\nnamespaceDefaults: {{default: {{apiVersion: b/v1, kind: B}}}}"
    configuration = configured(default_ch_webhook={"default-ch-config": text})
    template = objects.spec(filled(eventing.CHANNEL, {}, configuration))["channelTemplate"]
    assert template == {"apiVersion": "b/v1", "kind": "B"}
    own = {"channelTemplate": IMC}
    assert objects.spec(filled(eventing.CHANNEL, own, configuration))["channelTemplate"] == IMC


@pytest.mark.parametrize(
    ("resource", "spec", "annotations", "expected"),
    [
        (eventing.BROKER, {"config": CONFIG}, CLASS, []),
        (
            eventing.BROKER,
            {"config": {**CONFIG, "name": "other"}},
            CLASS,
            ["spec.config has no effect: a broker of this class keeps its events itself"],
        ),
        (
            eventing.BROKER,
            {"config": {**CONFIG, "name": "other"}},
            {eventing.BROKER_CLASS: "Kafka"},
            [],
        ),
        (
            eventing.IN_MEMORY_CHANNEL,
            {},
            {"eventing.knative.dev/scope": "namespace"},
            [f"{SCOPE} has no effect: one process serves the channels of all namespaces"],
        ),
        (
            eventing.TRIGGER,
            TRIGGER,
            {"eventing.knative.dev/injection": "enabled"},
            [f"{INJECTION} has no effect: no broker is made by itself"],
        ),
    ],
)
def test_what_does_nothing_is_told(
    resource: Resource, spec: Object, annotations: dict[str, str], expected: list[str]
) -> None:
    """Once: a change that leaves it is not warned of again."""
    kept = rules(Configuration())[resource.group_resource]
    obj = document(resource, spec, annotations)
    causes, advice = kept.judge(obj, None)
    assert (list(causes), list(advice)) == ([], expected)
    changed = copy.deepcopy(obj)
    changed["metadata"]["labels"] = {"a": "b"}
    assert list(kept.judge(changed, obj)[1]) == []


@pytest.mark.parametrize(
    ("name", "data", "wrong", "advice"),
    [
        ("config-features", {"delivery-timeout": "Disabled", "_example": "x"}, 0, []),
        (
            "config-features",
            {"transport-encryption": "strict"},
            0,
            [],
        ),
        ("config-features", {"no-such-flag": "enabled"}, 0, ["data[no-such-flag]: this flag is not known"]),
        (
            "config-features",
            {"authentication-oidc": "perhaps"},
            0,
            ['data[authentication-oidc]: "perhaps" is none of enabled, disabled, allowed; the default holds'],
        ),
        (
            "config-features",
            {"authentication-oidc": "enabled"},
            0,
            [],
        ),
        ("config-br-defaults", {"default-br-config": "["}, 1, []),
        ("config-br-defaults", {}, 1, []),
        ("default-ch-webhook", {"default-ch-config": "clusterDefault: 1"}, 1, []),
        ("default-ch-webhook", {"default-ch-config": "clusterDefault: {}"}, 0, []),
        ("somebody-elses", {"a": "["}, 0, []),
    ],
)
def test_config_maps_are_looked_at(name: str, data: dict[str, str], wrong: int, advice: list[str]) -> None:
    """One that cannot be read is refused; a flag that does nothing is told."""
    config_map = {"metadata": {"name": name, "namespace": eventing.NAMESPACE}, "data": data}
    causes, sentences = rules(Configuration())[CONFIG_MAPS].judge(config_map, None)
    assert len(causes) == wrong
    assert list(sentences) == advice
    elsewhere: Any = {**config_map, "metadata": {"name": name, "namespace": "default"}}
    assert rules(Configuration())[CONFIG_MAPS].judge(elsewhere, None) == ((), ())


def test_the_config_maps_it_begins_with_are_sound() -> None:
    """They say what holds without them."""
    for name in maps.NAMES:
        assert maps.problems(name, maps.config_map(name)["data"]) == ([], [])
    assert features.of(maps.config_map(eventing.CONFIG_FEATURES)) == features.of(None)
    written = maps.config_map(eventing.CONFIG_BROKER_DEFAULTS)
    assert defaults.brokers(written) == defaults.brokers(None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.2S", 0.2),
        ("PT1M30S", 90),
        ("P1DT1H", 90_000),
        ("PT0S", 0),
        ("-PT5S", -5),
        ("P2W", 1_209_600),
        ("PT0,5S", 0.5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """As ISO 8601 has them."""
    assert iso8601.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "5s", "PT5", "P1DT", "1M", "PT-5S", "PT1S ", "P1S", "PT1S1M"]
)
def test_what_is_no_duration(text: str) -> None:
    """It is refused with an example."""
    with pytest.raises(ValueError, match=r"PT0\.2S"):
        iso8601.seconds(text)


def test_who_subscribes_to_a_channel_is_for_the_controller_to_say() -> None:
    """Others change all else of it; where the controller is not known, nobody is refused."""
    subscriber = {"uid": "1", "subscriberUri": "http://a"}
    old = document(eventing.IN_MEMORY_CHANNEL, {"subscribers": [subscriber]})
    delivers = document(eventing.IN_MEMORY_CHANNEL, {"subscribers": [subscriber], "delivery": {"retry": 1}})
    new = document(eventing.IN_MEMORY_CHANNEL, {"subscribers": [subscriber, {**subscriber, "uid": "2"}]})
    kind = eventing.IN_MEMORY_CHANNEL.group_resource
    guarded = rules(Configuration(controller="control"))[kind]
    ((cause,), _) = guarded.judge(new, old, "alice")
    assert cause.field == "spec.subscribers"
    assert "changed by user alice" in cause.message
    for allowed, user in ((new, "control"), (delivers, "alice")):
        assert guarded.judge(allowed, old, user) == ((), [])
    assert guarded.judge(new, None, "alice") == ((), [])
    assert rules(Configuration())[kind].judge(new, old, "alice") == ((), [])
