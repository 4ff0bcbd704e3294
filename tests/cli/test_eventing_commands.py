"""The commands for brokers, triggers, channels, subscriptions and sources, on a played client."""

from __future__ import annotations

import copy
import json
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from tests.cli.commands import one_line, run

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.cli import connection
from ondol.cli.eventing import words
from ondol.cli.knative import waiting
from ondol.cli.output import UsageError
from ondol.client.client import ObjectList
from ondol.client.transport import Response
from ondol.contracts import eventing, serving
from ondol.eventing import wiring

SERVICE = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "shown", "namespace": "default"}


class _Api:
    """Stands for a client: one namespace of objects, which are ready as soon as they are written."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.objects: dict[tuple[str, str], Object] = {}
        self.outcome = ("True", "", "")
        self.posted: list[tuple[str, Any, Any]] = []
        self.answer = (202, b"")

    async def aclose(self) -> None:
        return

    def put(self, resource: Resource, obj: Object) -> Object:
        stored = copy.deepcopy(obj)
        stored["metadata"] |= {"generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        status, reason, message = self.outcome
        stored["status"] = {
            "observedGeneration": 1,
            "address": {"url": f"http://{objects.name(obj)}.test"},
            "conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message}],
        }
        self.objects[resource.group_resource, objects.name(obj)] = stored
        return stored

    async def create(
        self, resource: Resource, obj: Object, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Object:
        if subresource == "token":
            audience = obj["spec"]["audiences"][0]
            token = f"{namespace}/{name} for {audience}"
            return {"status": {"token": token, "expirationTimestamp": "2026-01-01T01:00:00Z"}}
        return self.put(resource, obj)

    async def update(self, resource: Resource, obj: Object) -> Object:
        return self.put(resource, obj)

    async def get(self, resource: Resource, name: str, namespace: str) -> Object:
        del namespace
        if (resource.group_resource, name) not in self.objects:
            raise errors.NotFound(f'{resource.group_resource} "{name}" not found')
        return self.objects[resource.group_resource, name]

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", **_: object
    ) -> ObjectList:
        del namespace
        if resource == resources.CUSTOM_RESOURCE_DEFINITION:
            key, _sign, value = label_selector.partition("=")
            crds = [crd for crd in wiring.crds() if objects.labels(crd).get(key) == value]
            return ObjectList(crds, "1", "")
        return ObjectList(
            [o for (plural, _), o in self.objects.items() if plural == resource.group_resource], "1", ""
        )

    async def delete(self, resource: Resource, name: str, namespace: str) -> None:
        await self.get(resource, name, namespace)
        del self.objects[resource.group_resource, name]

    async def raw(self, method: str, path: str, *, query: Any, headers: Any, body: bytes) -> Response:
        asked = f"?{urlencode(query)}" if query else ""
        self.posted.append((f"{method} {path}{asked}", headers, json.loads(body)))
        return Response(self.answer[0], {}, self.answer[1])

    async def discover(self) -> tuple[Resource, ...]:
        return (Resource("toy.test", "v1", "bears", "Bear"), eventing.BROKER)

    def spec(self, resource: Resource, name: str) -> Any:
        return self.objects[resource.group_resource, name]["spec"]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> _Api:
    played = _Api()
    monkeypatch.setattr(
        connection,
        "connect",
        lambda _data_dir, _kubeconfig, namespace: connection.Connection(played, namespace or "default"),  # type: ignore[arg-type]  # all that these commands need
    )
    for resource in (serving.SERVICE, resources.SERVICE):
        played.put(resource, {"metadata": {"name": "shown", "namespace": "default"}, "spec": {}})
    return played


def succeeds(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_broker_is_made_changed_shown_and_deleted(api: _Api) -> None:
    """With kn's flags for its class, configuration and delivery."""
    output = succeeds(
        *("broker", "create", "b", "--class", "Kafka", "--broker-config", "sc:s:other", "--retry", "3"),
        *("--dl-sink", "svc:shown", "--backoff-policy", "linear"),
    )
    assert output == "Broker 'b' successfully created in namespace 'default'.\n"
    broker = api.objects["brokers.eventing.knative.dev", "b"]
    assert objects.annotations(broker) == {"eventing.knative.dev/broker.class": "Kafka"}
    dead = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown", "namespace": "default"}}
    assert broker["spec"] == {
        "delivery": {"backoffPolicy": "linear", "retry": 3, "deadLetterSink": dead},
        "config": {"apiVersion": "v1", "kind": "Secret", "name": "s", "namespace": "other"},
    }
    succeeds("broker", "update", "b", "--timeout", "PT5S")
    assert api.spec(eventing.BROKER, "b")["delivery"] == {
        "backoffPolicy": "linear",
        "retry": 3,
        "deadLetterSink": dead,
        "timeout": "PT5S",
    }
    header, row = succeeds("broker", "list").splitlines()
    assert header.split() == ["NAME", "URL", "AGE", "CONDITIONS", "READY", "REASON"]
    assert row.split()[:2] == ["b", "http://b.test"]
    described = succeeds("broker", "describe", "b")
    assert "svc:shown" in described
    assert "++ Ready" in described
    assert yaml.safe_load(succeeds("broker", "describe", "b", "-o", "yaml"))["kind"] == "Broker"
    assert "successfully deleted" in succeeds("broker", "delete", "b")
    assert run("broker", "delete", "b").exit_code != 0


def test_a_broker_that_fails_is_waited_for_no_longer(api: _Api) -> None:
    """The reason is told."""
    api.outcome = ("False", "Broken", "it is broken")
    result = run("broker", "create", "b", "--wait-window", "0")
    assert result.exit_code == 1
    assert "error: Broker b is not ready: Broken: it is broken" in result.stderr
    assert run("broker", "create", "c", "--no-wait").exit_code == 0


def test_waiting_in_silence_says_where_to_look(api: _Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker whose data plane does not run says nothing of itself."""
    monkeypatch.setattr(waiting, "_SILENCE_S", 0.0)
    api.outcome = ("Unknown", "", "")
    result = run("broker", "create", "b", "--wait-timeout", "1")
    assert result.exit_code == 1
    where = "see `ondol status` and `kubectl describe brokers b`"
    assert result.stderr.count(f"it is not ready, and nothing says why; {where}") == 1
    assert f"error: Broker b is not ready after 1 seconds; {where}" in result.stderr


def test_a_trigger_of_no_broker_is_told(api: _Api) -> None:
    """It is made all the same, for the broker may come later."""
    api.put(eventing.BROKER, {"metadata": {"name": "default"}})
    mistaken = run("trigger", "create", "t", "--broker", "nobody", "--sink", "shown")
    assert mistaken.exit_code == 0
    assert "there is no broker nobody here yet; to make it: ondol broker create nobody" in mistaken.stderr
    assert "no broker" not in run("trigger", "create", "u", "--sink", "shown").stderr


def test_a_trigger_has_a_sink_and_a_filter(api: _Api) -> None:
    """A sink without a prefix is a Knative service, which must be there; the broker need not."""
    succeeds("trigger", "create", "t", "--sink", "shown", "--filter", "type=a,source=b")
    assert api.spec(eventing.TRIGGER, "t") == {
        "broker": "default",
        "subscriber": {"ref": SERVICE},
        "filter": {"attributes": {"type": "a", "source": "b"}},
    }
    succeeds("trigger", "update", "t", "--filter", "type-", "--filter", "x=y", "--sink", "http://a.test")
    assert api.spec(eventing.TRIGGER, "t") == {
        "broker": "default",
        "subscriber": {"uri": "http://a.test"},
        "filter": {"attributes": {"source": "b", "x": "y"}},
    }
    assert succeeds("trigger", "list").splitlines()[1].split()[:3] == ["t", "default", "http://a.test"]
    assert "source=b, x=y" in succeeds("trigger", "describe", "t")
    result = run("trigger", "create", "u", "--sink", "ksvc:nobody")
    assert one_line(result) == 'error: services.serving.knative.dev "nobody" not found'
    assert run("trigger", "update", "t").exit_code == 2


def test_channels_and_subscriptions(api: _Api) -> None:
    """Types are aliases or Group:Version:Kind."""
    succeeds("channel", "create", "plain")
    assert api.spec(eventing.CHANNEL, "plain") == {}
    succeeds("channel", "create", "typed", "--type", "imc")
    in_memory = {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel"}
    assert api.spec(eventing.CHANNEL, "typed") == {"channelTemplate": in_memory}
    assert "InMemoryChannel" in succeeds("channel", "list")
    assert "InMemoryChannel" in succeeds("channel", "list-types")
    succeeds(
        *("subscription", "create", "s", "--channel", "imc:typed", "--sink", "shown"),
        *("--sink-reply", "channel:plain", "--sink-dead-letter", "svc:shown"),
    )
    spec = api.spec(eventing.SUBSCRIPTION, "s")
    assert spec["channel"] == {**in_memory, "name": "typed"}
    assert spec["reply"]["ref"]["kind"] == "Channel"
    assert spec["delivery"]["deadLetterSink"]["ref"]["apiVersion"] == "v1"
    succeeds("subscription", "update", "s", "--sink", "https://b.test")
    assert api.spec(eventing.SUBSCRIPTION, "s")["subscriber"] == {"uri": "https://b.test"}
    row = succeeds("sub", "list").splitlines()[1].split()
    assert row[:5] == ["s", "InMemoryChannel:typed", "https://b.test", "channel:plain", "svc:shown"]
    succeeds("subscription", "delete", "s")


def test_sources_of_kafka(api: _Api) -> None:
    """In the words of kn's plug-in: servers and topics as often as there are, or with commas."""
    succeeds(
        *("source", "kafka", "create", "k", "--sink", "shown", "--servers", "a:9092,b:9092"),
        *("--topics", "orders", "--topics", "payments", "--consumergroup", "shop"),
    )
    succeeds("source", "kafka", "update", "k", "--consumers", "2", "--ce-override", "shop=a")
    source = api.spec(eventing.KAFKA_SOURCE, "k")
    assert (source["bootstrapServers"], source["topics"]) == (["a:9092", "b:9092"], ["orders", "payments"])
    assert (source["consumerGroup"], source["consumers"]) == ("shop", 2)
    assert "orders,payments" in succeeds("source", "kafka", "list")


def test_sources_of_every_kind(api: _Api) -> None:
    """Each has its own flags; a list has them all."""
    succeeds(
        *("source", "ping", "create", "p", "--sink", "shown", "--schedule", "*/2 * * * *"),
        *("--data", '{"a": 1}', "--ce-override", "x=y"),
    )
    assert api.spec(eventing.PING_SOURCE, "p") == {
        "sink": {"ref": SERVICE},
        "schedule": "*/2 * * * *",
        "data": '{"a": 1}',
        "ceOverrides": {"extensions": {"x": "y"}},
    }
    succeeds("source", "ping", "update", "p", "--data", "aGVsbG8=", "--ce-override", "x-")
    assert api.spec(eventing.PING_SOURCE, "p")["dataBase64"] == "aGVsbG8="
    assert "data" not in api.spec(eventing.PING_SOURCE, "p")
    succeeds(
        *("source", "apiserver", "create", "a", "--sink", "shown", "--resource", "Event:v1"),
        *("--resource", "Deployment:apps/v1:app=web", "--mode", "Resource"),
    )
    assert api.spec(eventing.API_SERVER_SOURCE, "a")["resources"] == [
        {"apiVersion": "v1", "kind": "Event"},
        {"apiVersion": "apps/v1", "kind": "Deployment", "selector": {"matchLabels": {"app": "web"}}},
    ]
    succeeds("source", "apiserver", "update", "a", "--resource", "Event:v1-")
    assert len(api.spec(eventing.API_SERVER_SOURCE, "a")["resources"]) == 1
    succeeds("source", "binding", "create", "b", "--sink", "shown", "--subject", "Job:batch/v1:app=x")
    assert api.spec(eventing.SINK_BINDING, "b")["subject"] == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "namespace": "default",
        "selector": {"matchLabels": {"app": "x"}},
    }
    succeeds("source", "container", "create", "c", "--sink", "shown", "--image", "i:1", "--env", "A=1")
    succeeds("source", "container", "update", "c", "--env", "A-", "--env", "B=2", "--arg", "run")
    assert api.spec(eventing.CONTAINER_SOURCE, "c")["template"]["spec"]["containers"] == [
        {
            "name": "user-container",
            "image": "i:1",
            "env": [{"name": "B", "value": "2"}],
            "args": ["run"],
        }
    ]
    lines = [line.split() for line in succeeds("source", "list").splitlines()]
    assert sorted(line[1] for line in lines[1:]) == [
        "ApiServerSource",
        "ContainerSource",
        "PingSource",
        "SinkBinding",
    ]
    only = succeeds("source", "list", "--type", "pingsource").splitlines()
    assert [line.split()[0] for line in only[1:]] == ["p"]
    assert "*/2 * * * *" in succeeds("source", "ping", "list")
    assert {"KafkaSource", "PingSource"} <= set(succeeds("source", "list-types").split())
    assert "ksvc:shown" in succeeds("source", "binding", "describe", "b")
    succeeds("source", "ping", "delete", "p")


@pytest.mark.parametrize("text", ["nope:x", "ksvc:", "a:b:c:d", ":x"])
def test_what_is_no_sink(text: str) -> None:
    """It is refused before anybody is asked."""
    with pytest.raises(UsageError):
        words.sink(text, "default")


def test_a_sink_of_any_kind_is_named_by_its_resource(api: _Api) -> None:
    """As kn has it: group, version and plural."""
    api.put(Resource("toy.test", "v1", "bears", "Bear"), {"metadata": {"name": "b"}, "spec": {}})
    succeeds("trigger", "create", "t", "--sink", "toy.test/v1/bears:b")
    ref = api.spec(eventing.TRIGGER, "t")["subscriber"]["ref"]
    assert (ref["apiVersion"], ref["kind"]) == ("toy.test/v1", "Bear")
    assert run("trigger", "create", "u", "--sink", "toy.test/v1/cats:b").exit_code == 2


@pytest.mark.parametrize(
    "typed", ["toy.test/v1/bears:b", "Bear:toy.test/v1:b", "toy.test/v1:Bear:b", "bear:toy.test/v1:b:default"]
)
def test_a_sink_of_any_kind_is_typed_as_it_is_shown(api: _Api, typed: str) -> None:
    """By the plural, as kn has it, or by the kind, as kn's plugin has it and `describe` shows it."""
    bear = Resource("toy.test", "v1", "bears", "Bear")
    api.put(bear, {"metadata": {"name": "b"}, "spec": {}})
    succeeds("trigger", "create", "t", "--sink", typed)
    subscriber = api.spec(eventing.TRIGGER, "t")["subscriber"]
    assert words.sink(words.shown(subscriber), "default").kind == "toy.test/v1/Bear"
    assert subscriber["ref"]["kind"] == "Bear"


@pytest.mark.parametrize(("typed", "namespace"), [("ksvc:v1:n", "n"), ("Ksvc:v2", "default")])
def test_a_service_may_be_called_like_a_version(typed: str, namespace: str) -> None:
    """What stands behind a word that names a kind is a name."""
    sink = words.sink(typed, "default")
    assert (sink.kind, sink.name[0], sink.namespace) == ("ksvc", "v", namespace)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c", ("v1", "ConfigMap", "c", "default")),
        ("cm:c", ("v1", "ConfigMap", "c", "default")),
        ("sc:c:n", ("v1", "Secret", "c", "n")),
        ("a/v1:Kind:c", ("a/v1", "Kind", "c", "default")),
        ("rabbitmq.com/v1beta1:RabbitmqCluster:c:n", ("rabbitmq.com/v1beta1", "RabbitmqCluster", "c", "n")),
    ],
)
def test_the_configuration_of_a_broker(text: str, expected: tuple[str, str, str, str]) -> None:
    """From a mere name to all four parts."""
    config = words.broker_config(text, "default")
    assert tuple(config[field] for field in ("apiVersion", "kind", "name", "namespace")) == expected


@pytest.mark.parametrize("text", ["v1:Event", "Event", ":v1", "Deployment:apps:x=y"])
def test_a_resource_that_is_written_the_other_way_round(text: str) -> None:
    """It would be watched for in vain: there is no kind v1."""
    with pytest.raises(UsageError, match=r"such as Event:v1"):
        words.api_resource(text)


INGRESS = "POST /api/v1/namespaces/knative-eventing/services/http:broker-ingress:80/proxy/default/b"


@pytest.mark.parametrize(
    "to", ["broker:b", "Broker:b", "broker:b:default", "Broker:eventing.knative.dev/v1:b"]
)
def test_an_event_is_sent_through_the_api_server(api: _Api, to: str) -> None:
    """By the address that a broker states, which is one of the cluster."""
    broker = api.put(eventing.BROKER, {"metadata": {"name": "b", "namespace": "default"}, "spec": {}})
    broker["status"]["address"]["url"] = "http://broker-ingress.knative-eventing.svc.cluster.local/default/b"
    words_ = ("--type", "order.made", "--id", "7", "--field", "order.amount=2.5", "--field", "is_paid=true")
    output = succeeds("event", "send", "--to", to, *words_, "--raw-field", "order.number=12", "-f", "a=b=c")
    assert output.startswith("Event '7' of type order.made sent to http://broker-ingress.")
    [(request, headers, event)] = api.posted
    assert (request, headers) == (INGRESS, {"content-type": "application/cloudevents+json"})
    assert event.pop("time").endswith("Z")
    assert event == {
        "specversion": "1.0",
        "id": "7",
        "source": "ondol-event",
        "type": "order.made",
        "datacontenttype": "application/json",
        "data": {"order": {"amount": 2.5, "number": "12"}, "is_paid": True, "a": "b=c"},
    }


def test_an_address_keeps_what_it_asks_for(api: _Api) -> None:
    """Its query is a part of it."""
    succeeds("event", "send", "--to", "http://sink.shop.svc/a?b=c&d=")
    assert api.posted[0][0] == "POST /api/v1/namespaces/shop/services/http:sink:80/proxy/a?b=c&d="


def test_an_event_that_is_not_taken_in_is_told(api: _Api) -> None:
    """With what was answered; and one that has nowhere to go."""
    broker = api.put(eventing.BROKER, {"metadata": {"name": "b"}, "spec": {}})
    broker["status"]["address"]["url"] = "http://broker-ingress.knative-eventing.svc.cluster.local/default/b"
    api.answer = (503, b"the disk has no room for events: free some\n")
    result = run("event", "send", "--to", "broker:b")
    assert result.exit_code == 1
    assert one_line(result).endswith("/default/b answered 503: the disk has no room for events: free some")
    assert one_line(run("event", "send", "--to", "broker:none")).endswith('"none" not found')
    del broker["status"]["address"]
    assert one_line(run("event", "send", "--to", "broker:b")) == "error: Broker b has no address"


_AUDIENCE = "eventing.knative.dev/broker/default/b"


@pytest.mark.parametrize(("account", "key"), [("app", "default/app"), ("app:shop", "shop/app")])
def test_an_event_is_sent_as_a_service_account(api: _Api, account: str, key: str) -> None:
    """With a token for the sink's audience, in a header that the API server's proxy passes on."""
    broker = api.put(eventing.BROKER, {"metadata": {"name": "b"}, "spec": {}})
    url = "https://broker-ingress.knative-eventing.svc.cluster.local/default/b"
    broker["status"]["address"] = {"url": url, "audience": _AUDIENCE}
    succeeds("event", "send", "--to", "broker:b", "--as-service-account", account)
    [(request, headers, _)] = api.posted
    assert "/services/https:broker-ingress:443/proxy/default/b" in request
    assert headers["x-event-authorization"] == f"Bearer {key} for {_AUDIENCE}"


def test_who_states_no_audience_is_sent_no_token(api: _Api) -> None:
    """So the same command works with and without `authentication-oidc`; a mistyped account sends nothing."""
    broker = api.put(eventing.BROKER, {"metadata": {"name": "b"}, "spec": {}})
    broker["status"]["address"]["url"] = "http://broker-ingress.knative-eventing.svc.cluster.local/default/b"
    succeeds("event", "send", "--to", "broker:b", "--as-service-account", "app")
    [(_, headers, _)] = api.posted
    assert headers == {"content-type": "application/cloudevents+json"}
    for account in (":shop", "app:", "a:b:c"):
        assert run("event", "send", "--to", "broker:b", "--as-service-account", account).exit_code == 2
    assert len(api.posted) == 1


@pytest.mark.parametrize(
    ("answer", "flags", "line"),
    [
        ((401, b"a token is asked for"), [], "say as whom: --as-service-account NAME"),
        ((403, b"no EventPolicy allows it"), ["--as-service-account", "app"], "kubectl get eventpolicies"),
        ((404, b'{"kind":"Status","message":"no such service"}'), [], "answered 404: no such service"),
        ((401, b'{"kind":"Status","message":"Unauthorized"}'), [], "answered 401: Unauthorized"),
    ],
)
def test_a_refusal_says_what_helps(api: _Api, answer: tuple[int, bytes], flags: list[str], line: str) -> None:
    """Where it is about who sends; what the API server itself answers is told in its words alone."""
    broker = api.put(eventing.BROKER, {"metadata": {"name": "b"}, "spec": {}})
    url = "http://broker-ingress.knative-eventing.svc.cluster.local/default/b"
    broker["status"]["address"] = {"url": url, "audience": _AUDIENCE}
    api.answer = answer
    result = run("event", "send", "--to", "broker:b", *flags)
    assert result.exit_code == 1
    assert line in result.stderr
    assert ("--as-service-account NAME" in result.stderr) == ("say as whom" in line)


@pytest.mark.parametrize("words_", [["a"], ["=1"], ["a.=1"], ["a=1", "a.b=2"], ["a.b=2", "a=1"]])
def test_fields_that_are_none_are_refused(api: _Api, words_: list[str]) -> None:
    """Nothing is sent of a mistyped event."""
    flags = [flag for word in words_ for flag in ("--field", word)]
    assert run("event", "send", "--to", "broker:b", *flags).exit_code == 2
    assert not api.posted
