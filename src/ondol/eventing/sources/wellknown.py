"""Types of events, conditions, labels and variables of the sources, as Knative has them."""

from __future__ import annotations

from typing import Final

from ondol.contracts import eventing

SINK_PROVIDED: Final = "SinkProvided"
OIDC_IDENTITY_CREATED: Final = "OIDCIdentityCreated"
SUFFICIENT_PERMISSIONS: Final = "SufficientPermissions"
AVAILABLE: Final = "Available"
OIDC_TOKEN_SECRET_CREATED: Final = "OIDCTokenSecretCreated"  # noqa: S105 - a condition
TRUST_BUNDLE_PROPAGATED: Final = "TrustBundlePropagated"
SINK_BINDING_READY: Final = "SinkBindingReady"
DEAD_LETTER_SINK_RESOLVED: Final = "DeadLetterSinkResolved"
RECEIVE_ADAPTER_READY: Final = "ReceiveAdapterReady"

PING_TYPE: Final = "dev.knative.sources.ping"
TIMER_TYPE: Final = "dev.knative.eventing.timer"
_RESOURCE: Final = "dev.knative.apiserver.resource"
_REFERENCE: Final = "dev.knative.apiserver.ref"
_CHANGES: Final = ("add", "update", "delete")
RESOURCE_TYPES: Final = {change: f"{_RESOURCE}.{change}" for change in _CHANGES}
REFERENCE_TYPES: Final = {change: f"{_REFERENCE}.{change}" for change in _CHANGES}
API_SERVER_TYPES: Final = {
    **{
        type_: f"CloudEvent type used for {change} operations when in Resource mode"
        for change, type_ in RESOURCE_TYPES.items()
    },
    **{
        type_: f"CloudEvent type used for {change} operations when in Reference mode"
        for change, type_ in REFERENCE_TYPES.items()
    },
}
REFERENCE_MODE: Final = "Reference"
RESOURCE_MODE: Final = "Resource"
SKIP_PERMISSIONS: Final = "features.knative.dev/apiserversource-skip-permissions-check"

SINK_VARIABLE: Final = "K_SINK"
OVERRIDES_VARIABLE: Final = "K_CE_OVERRIDES"
CERTIFICATES_VARIABLE: Final = "K_CA_CERTS"
VARIABLES: Final = (SINK_VARIABLE, CERTIFICATES_VARIABLE, OVERRIDES_VARIABLE)
TOKEN_AGAIN_S: Final = 10.0
"""When to ask anew for a token that could not be had."""
BINDING_FINALIZER: Final = f"sinkbindings.{eventing.SOURCES}"

SOURCE_LABEL: Final = f"{eventing.SOURCES}/source"
CONTAINER_SOURCE_LABEL: Final = f"{eventing.SOURCES}/containerSource"
KAFKA_SOURCE_LABEL: Final = f"{eventing.SOURCES}/kafkaSource"
CONTAINER_SOURCE_CONTROLLER: Final = "container-source-controller"
