"""What Eventing promises: its kinds, its namespace and services, who writes which condition.

The control plane (process `control`) and the data plane (process `events`) meet only in these objects:

- control resolves destinations into a status (`subscriberUri`, `deadLetterSinkUri`, `sinkUri`, ...), and for
  InMemoryChannels into `spec.subscribers`; the data plane reads them there;
- the data plane says that it serves: the conditions of `PLANE_CONDITIONS`, and `status.subscribers` of a
  channel; control owns every other condition, and `Ready`, which it computes from all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ondol.api.objects import Resource
from ondol.base import names
from ondol.contracts import cluster

EVENTING: Final = "eventing.knative.dev"
MESSAGING: Final = "messaging.knative.dev"
FLOWS: Final = "flows.knative.dev"
SOURCES: Final = "sources.knative.dev"
SINKS: Final = "sinks.knative.dev"
OWN_SOURCES: Final = "sources.ondol.dev"
"""Sources that Knative has elsewhere, or not at all."""
JOURNAL: Final = "eventing.ondol.dev"
"""What is kept of events: dead letters and replays, which Knative has not."""
GROUPS: Final = (EVENTING, MESSAGING, FLOWS, SOURCES, SINKS, OWN_SOURCES, JOURNAL)

BROKER: Final = Resource(EVENTING, "v1", "brokers", "Broker")
TRIGGER: Final = Resource(EVENTING, "v1", "triggers", "Trigger")
EVENT_TYPE: Final = Resource(EVENTING, "v1beta2", "eventtypes", "EventType")
EVENT_TYPE_V1BETA3: Final = Resource(EVENTING, "v1beta3", "eventtypes", "EventType")
EVENT_POLICY: Final = Resource(EVENTING, "v1alpha1", "eventpolicies", "EventPolicy")
EVENT_TRANSFORM: Final = Resource(EVENTING, "v1alpha1", "eventtransforms", "EventTransform")
REQUEST_REPLY: Final = Resource(EVENTING, "v1alpha1", "requestreplies", "RequestReply")

CHANNEL: Final = Resource(MESSAGING, "v1", "channels", "Channel")
SUBSCRIPTION: Final = Resource(MESSAGING, "v1", "subscriptions", "Subscription")
IN_MEMORY_CHANNEL: Final = Resource(MESSAGING, "v1", "inmemorychannels", "InMemoryChannel")

SEQUENCE: Final = Resource(FLOWS, "v1", "sequences", "Sequence")
PARALLEL: Final = Resource(FLOWS, "v1", "parallels", "Parallel")

PING_SOURCE: Final = Resource(SOURCES, "v1", "pingsources", "PingSource")
API_SERVER_SOURCE: Final = Resource(SOURCES, "v1", "apiserversources", "ApiServerSource")
CONTAINER_SOURCE: Final = Resource(SOURCES, "v1", "containersources", "ContainerSource")
SINK_BINDING: Final = Resource(SOURCES, "v1", "sinkbindings", "SinkBinding")
INTEGRATION_SOURCE: Final = Resource(SOURCES, "v1alpha1", "integrationsources", "IntegrationSource")
KAFKA_SOURCE: Final = Resource(SOURCES, "v1", "kafkasources", "KafkaSource")
WEBHOOK_SOURCE: Final = Resource(OWN_SOURCES, "v1alpha1", "webhooksources", "WebhookSource")

JOB_SINK: Final = Resource(SINKS, "v1alpha1", "jobsinks", "JobSink")
INTEGRATION_SINK: Final = Resource(SINKS, "v1alpha1", "integrationsinks", "IntegrationSink")
KAFKA_SINK: Final = Resource(EVENTING, "v1alpha1", "kafkasinks", "KafkaSink")

DEAD_LETTER: Final = Resource(JOURNAL, "v1alpha1", "deadletters", "DeadLetter")
REPLAY: Final = Resource(JOURNAL, "v1alpha1", "replays", "Replay")

# Where the data plane is reached

NAMESPACE: Final = "knative-eventing"
"""Where Eventing's ConfigMaps and services stand."""
SENDER_HEADER: Final = "x-event-authorization"
"""Its token counts where there is no `Authorization`, which proxies such as the API server's keep back."""
BROKER_INGRESS: Final = "broker-ingress"
"""The service of all brokers; a path `/<namespace>/<name>` says which."""
JOB_SINK_SERVICE: Final = "job-sink"
INTEGRATION_SINK_SERVICE: Final = "integration-sink"
KAFKA_SINK_SERVICE: Final = "kafka-sink-ingress"
REQUEST_REPLY_SERVICE: Final = "request-reply"
WEBHOOK_SERVICE: Final = "webhook-source"
"""The service of all WebhookSources; a path `/<namespace>/<name>` says which."""
CHANNEL_DISPATCHER: Final = "imc-dispatcher"
"""The service of all InMemoryChannels by TLS; a path `/<namespace>/<name>` says which."""
TRANSFORM_SERVICE: Final = "event-transform"
"""The service of all EventTransforms by TLS; a path `/<namespace>/<name>` says which."""
SERVICES: Final = (
    BROKER_INGRESS,
    JOB_SINK_SERVICE,
    INTEGRATION_SINK_SERVICE,
    KAFKA_SINK_SERVICE,
    REQUEST_REPLY_SERVICE,
    WEBHOOK_SERVICE,
    CHANNEL_DISPATCHER,
    TRANSFORM_SERVICE,
)
"""Services of the data plane in `NAMESPACE`, on port 80, and by TLS on port 443."""
_CHANNEL_SUFFIX: Final = "-kn-channel"
_TRANSFORM_SUFFIX: Final = "-jsonata"


def channel_service(name: str) -> str:
    """The service of an InMemoryChannel, in its own namespace; a long name is cut, as in Knative."""
    return names.child_name(name, _CHANNEL_SUFFIX)


def is_channel_service(service: str) -> bool:
    """Whether a service of this name is a channel's."""
    return service.endswith(_CHANNEL_SUFFIX) and service != _CHANNEL_SUFFIX


def transform_service(name: str) -> str:
    """The service of an EventTransform, in its own namespace."""
    return names.child_name(name, _TRANSFORM_SUFFIX)


def service_url(service: str, *path: str, namespace: str = NAMESPACE) -> str:
    """The address of something that the data plane serves."""
    host = cluster.service_host(service, namespace)
    return f"http://{host}" + "".join(f"/{part}" for part in path)


def service_urls(service: str, *path: str) -> tuple[str, str]:
    """The same, plain and by TLS: what the certificate of the data plane is for stands in `NAMESPACE`."""
    plain = service_url(service, *path)
    return plain, plain.replace("http:", "https:", 1)


def certified_names() -> tuple[str, ...]:
    """The hosts for which the data plane shows a certificate."""
    hosts = [cluster.service_host(service, NAMESPACE) for service in SERVICES]
    return (*hosts, *(host.removesuffix(f".{cluster.DOMAIN}") for host in hosts))


# ConfigMaps in the namespace, read live

CONFIG_FEATURES: Final = "config-features"
CONFIG_BROKER_DEFAULTS: Final = "config-br-defaults"
CONFIG_BROKER_CHANNEL: Final = "config-br-default-channel"
CONFIG_CHANNEL_DEFAULTS: Final = "default-ch-webhook"
CONFIG_PING_DEFAULTS: Final = "config-ping-defaults"
CONFIG_SUGAR: Final = "config-sugar"

# Brokers and triggers

BROKER_CLASS: Final = f"{EVENTING}/broker.class"
"""Annotation of a Broker: who implements it. It never changes."""
MT_BROKER_CLASS: Final = "MTChannelBasedBroker"
OWN_BROKER_CLASS: Final = "Ondol"
CLASSES: Final = (MT_BROKER_CLASS, OWN_BROKER_CLASS)
"""The classes whose brokers are served here; those of other classes are left alone."""
BROKER_LABEL: Final = f"{EVENTING}/broker"
"""On a Trigger: the name of its broker."""
DELIVERY_ORDERS: Final = ("kafka.eventing.knative.dev/delivery.order", "eventing.ondol.dev/delivery-order")
"""Annotations of a Trigger or Subscription: `ordered` or `unordered` (the default)."""

# What the data plane writes of a status

READY: Final = "Ready"
INGRESS_READY: Final = "IngressReady"
FILTER_READY: Final = "FilterReady"
TRIGGER_CHANNEL_READY: Final = "TriggerChannelReady"
SUBSCRIPTION_READY: Final = "SubscriptionReady"
DISPATCHER_READY: Final = "DispatcherReady"
TRIGGERS_READY: Final = "TriggersReady"
DEAD_LETTERS_KEPT: Final = "DeadLettersKept"
"""Only there, and False, after dead letters of a Broker or channel had to be dropped; no part of `Ready`."""
DEPLOYED: Final = "Deployed"
CONNECTION_ESTABLISHED: Final = "ConnectionEstablished"
INITIAL_OFFSETS_COMMITTED: Final = "InitialOffsetsCommitted"
TOPIC_READY: Final = "TopicReady"
JSONATA_DEPLOYMENT_READY: Final = "JsonataDeploymentReady"

PLANE_CONDITIONS: Final[Mapping[Resource, tuple[str, ...]]] = {
    BROKER: (INGRESS_READY, FILTER_READY, TRIGGER_CHANNEL_READY),
    TRIGGER: (SUBSCRIPTION_READY,),
    IN_MEMORY_CHANNEL: (DISPATCHER_READY,),
    REQUEST_REPLY: (TRIGGERS_READY,),
    PING_SOURCE: (DEPLOYED,),
    API_SERVER_SOURCE: (DEPLOYED,),
    INTEGRATION_SOURCE: (DEPLOYED,),
    WEBHOOK_SOURCE: (DEPLOYED,),
    KAFKA_SOURCE: (DEPLOYED, CONNECTION_ESTABLISHED, INITIAL_OFFSETS_COMMITTED),
    KAFKA_SINK: (TOPIC_READY,),
    EVENT_TRANSFORM: (JSONATA_DEPLOYMENT_READY,),
}
"""The conditions of each kind that are the data plane's alone.

Besides these it writes `status.subscribers` of an InMemoryChannel, one entry for each of `spec.subscribers`
whose consumer exists: `{uid, observedGeneration: <its generation>, ready: "True"|"False", message}`.
"""
