"""What `kubectl explain` says of Telemetry: a sentence a field, by its struct."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ondol.mesh import security_descriptions

_SHARED: Final = ("WorkloadSelector", "PolicyTargetReference")
_MODE: Final = "CLIENT: calls that the pods make; SERVER: calls that arrive at them; without one, both."

FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    **{name: security_descriptions.FIELDS[name] for name in _SHARED},
    "TelemetrySpec": {
        "selector": "The pods it is for, by their labels; without one, all of the namespace.",
        "targetRef": "The former way to name one of targetRefs.",
        "targetRefs": "What it is for instead: the pods behind Services, or of Gateways, of its namespace.",
        "tracing": "How calls are traced.",
        "metrics": "How calls are counted.",
        "accessLogging": "Which calls get a line in the proxy's log.",
    },
    "ProviderRef": {"name": "prometheus for metrics; envoy, text or json for logs; otel for traces."},
    "Metrics": {
        "providers": "Whom metrics are for; prometheus is by default.",
        "overrides": "What is otherwise than by default, the later ones before the earlier.",
    },
    "MetricsOverrides": {
        "match": "The metrics it is for; without, all.",
        "disabled": "Whether they are not counted.",
        "tagOverrides": "What of their labels is otherwise, by label.",
    },
    "MetricSelector": {
        "metric": "One of Istio's standard metrics, or ALL_METRICS.",
        "customMetric": "A standard metric by its own name, such as requests_total.",
        "mode": _MODE,
    },
    "TagOverride": {
        "operation": "UPSERT: the label has this value; REMOVE: there is no such label.",
        "value": "An expression in CEL, such as request.host, for UPSERT.",
    },
    "Tracing": {
        "match": "For which calls; spans are made where calls are made.",
        "providers": "Whom spans are for: the platform's own receiver, under any of its names.",
        "randomSamplingPercentage": "The share of requests that are traced.",
        "disableSpanReporting": "Whether no spans are made.",
        "customTags": "Further attributes of spans, by name.",
        "useRequestIdForTraceSampling": "Whether x-request-id says which are sampled; true by default.",
        "enableIstioTags": "Whether spans have Istio's attributes; true by default.",
    },
    "TracingMatch": {"mode": _MODE},
    "CustomTag": {
        "literal": "The same for all.",
        "environment": "Of the proxy's environment.",
        "header": "What a header of the request says.",
        "formatter": "A text with the proxy's variables, such as %PROTOCOL%.",
    },
    "LiteralTag": {"value": "The text."},
    "EnvironmentTag": {"name": "The variable's name.", "defaultValue": "What is told without it."},
    "HeaderTag": {"name": "The header's name.", "defaultValue": "What is told without it."},
    "FormatterTag": {"value": "The text."},
    "AccessLogging": {
        "match": "For which calls.",
        "providers": "In which form: envoy (as the platform is set), text or json.",
        "disabled": "Whether there are no lines.",
        "filter": "Which of these calls get a line.",
    },
    "LogMatch": {"mode": _MODE},
    "LogFilter": {"expression": "In CEL, such as response.code >= 400."},
}
