"""Annotations, labels and words of Knative Eventing that only this room uses."""

from __future__ import annotations

from typing import Final

from ondol.contracts import eventing

FIELD_MANAGER: Final = "ondol-eventing"
RETRY_S: Final = 30.0
"""When to try again what only a person, or the end of something else, can mend."""

CREATOR: Final = f"{eventing.EVENTING}/creator"
LAST_MODIFIER: Final = f"{eventing.EVENTING}/lastModifier"
SCOPE: Final = f"{eventing.EVENTING}/scope"
DEPENDENCY: Final = "knative.dev/dependency"
"""Annotation of a Trigger: an object (as JSON) that must be ready before it is."""
INJECTION: Final = f"{eventing.EVENTING}/injection"
SUBSCRIBABLE: Final = f"{eventing.MESSAGING}/subscribable"
"""Annotation of a channel: the version of the shape of its subscribers."""
SUBSCRIBABLE_VERSION: Final = "v1"
CHANNEL_ROLE: Final = f"{eventing.MESSAGING}/role"
OIDC_LABEL: Final = f"{eventing.EVENTING}/oidc"
SUBSCRIPTION_FINALIZER: Final = f"subscriptions.{eventing.MESSAGING}"

ADDRESSABLE: Final = "Addressable"
DEAD_LETTER_SINK_RESOLVED: Final = "DeadLetterSinkResolved"
EVENT_POLICIES_READY: Final = "EventPoliciesReady"
OIDC_IDENTITY_CREATED: Final = "OIDCIdentityCreated"
