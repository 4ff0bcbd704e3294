"""The CustomResourceDefinitions of Serving. A pod's fields come from the table of built-in kinds.

What Knative's default feature flags allow has its schema; the other fields of a pod are kept as they
come, so that validation can refuse them where they stand: the API server would only drop them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ondol.api import facts
from ondol.api.objects import Object, Resource
from ondol.contracts import serving
from ondol.serverless.serving import podspec

_CORE: Final = "io.k8s.api.core.v1."
_ONLY: Final = {
    _CORE + "PodSpec": podspec.POD_FIELDS,
    _CORE + "Container": podspec.CONTAINER_FIELDS,
    _CORE + "Volume": podspec.VOLUME_FIELDS,
}
_LOOKED_INTO: Final = ("initContainers", "securityContext", "persistentVolumeClaim")
"""Refused unless a feature is on, and read before that is known: so their form is checked at any rate."""
_FILLED_IN: Final = {
    _CORE + "Container": ("name",),
    _CORE + "ContainerPort": ("containerPort",),
    _CORE + "HTTPGetAction": ("port",),
    _CORE + "TCPSocketAction": ("port",),
    _CORE + "GRPCAction": ("port",),
}
"""Required of a pod, but given by Serving to whoever leaves it out."""
_SCALARS: Final[Mapping[str, Object]] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number"},
    "bool": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "micro-time": {"type": "string", "format": "date-time"},
    "quantity": {"x-kubernetes-int-or-string": True},
    "int-or-string": {"x-kubernetes-int-or-string": True},
}
_STRING: Final[Object] = {"type": "string"}
_INTEGER: Final[Object] = {"type": "integer"}
_BOOLEAN: Final[Object] = {"type": "boolean"}
_CLOSED: Final[Object] = {"description": "Refused unless its feature is on."}
_OTHER: Final[Object] = {"x-kubernetes-preserve-unknown-fields": True, **_CLOSED}
_ANYTHING: Final[Object] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_STATUS: Final[Object] = {
    **_ANYTHING,
    "description": "What became of it; the condition Ready sums it up.",
    "properties": {
        "conditions": {
            "type": "array",
            "description": "One for each of its parts, by type; others may add theirs.",
            "items": {**_ANYTHING, "required": ["type"], "properties": {"type": {"type": "string"}}},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        }
    },
}
_POD_FIELDS: Final[Mapping[str, str]] = {
    "containers": "What runs. The one with a port, or the only one, is sent the requests.",
    "volumes": "Files for the containers: config maps, secrets, empty directories.",
    "serviceAccountName": "Whom the pods are to the API.",
    "imagePullSecrets": "Credentials for registries.",
    "automountServiceAccountToken": "Whether a token of the account is mounted; true by default.",
    "enableServiceLinks": "Whether the namespace's services are told in environment variables.",
}


def structural(type_name: str) -> Object:
    """The structural schema of a built-in type, written out in full where it is allowed."""
    fields = facts.type_named(type_name).fields
    allowed = _ONLY.get(type_name, fields)
    schema: Object = {
        "type": "object",
        "properties": {
            name: _field(field) if name in allowed else _other(name, field) for name, field in fields.items()
        },
    }
    filled = _FILLED_IN.get(type_name, ())
    required = [
        name
        for name, field in fields.items()
        if name in allowed and name not in filled and field.required and field.default is None
    ]
    if required:
        schema["required"] = required
    return schema


def _other(name: str, field: facts.Field) -> Object:
    return _CLOSED | _field(field) if name in _LOOKED_INTO else _OTHER


def _field(field: facts.Field) -> Object:
    marks, word = facts.split(field.type)
    schema = dict(_SCALARS[word]) if word in _SCALARS else structural(word)
    while marks:
        outer, marks = marks[-2:], marks[:-2]
        if outer == "[]":
            schema = {"type": "array", "items": schema}
        else:
            schema = {"type": "object", "additionalProperties": schema}
    return schema


def _description(text: str) -> Object:
    return {"description": text}


def _object(properties: Mapping[str, Object], *required: str) -> Object:
    schema: Object = {"type": "object", "properties": dict(properties)}
    return schema | ({"required": list(required)} if required else {})


def _template() -> Object:
    strings: Object = {"type": "object", "additionalProperties": _STRING}
    metadata = _object(
        {
            "name": _STRING
            | _description("The revision's name, which begins with the service's; else made up."),
            "labels": strings | _description("Labels of the revision and its pods."),
            "annotations": strings
            | _description("Of the revision; autoscaling.knative.dev/* say how it scales."),
        }
    )
    template = _object({"metadata": metadata, "spec": _revision_spec() | _description("The pods.")})
    return template | _description("What the next revision is like; a change makes a new one.")


def _revision_spec() -> Object:
    schema = structural(_CORE + "PodSpec")
    properties = schema["properties"]
    for name, text in _POD_FIELDS.items():
        properties[name] |= _description(text)
    concurrency: Object = {"type": "integer", "format": "int64", "minimum": 0}
    timeout: Object = {"type": "integer", "format": "int64", "minimum": 0}
    properties["containerConcurrency"] = concurrency | _description(
        "How many requests a pod is sent at a time; 0, the usual default, means no limit."
    )
    properties["timeoutSeconds"] = timeout | _description(
        "How long it may take until an answer begins, the wait for a pod included; 0 or nothing means 300."
    )
    properties["responseStartTimeoutSeconds"] = timeout | _description(
        "How long a pod may take to begin its answer; 0 means no such limit."
    )
    properties["idleTimeoutSeconds"] = timeout | _description(
        "How long a pod may send nothing while it answers; 0, the default, means no such limit."
    )
    properties["containers"] |= {"minItems": 1}
    return schema


def _traffic(*, of_service: bool) -> Object:
    percent: Object = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 100}
    tag: Object = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
    properties: dict[str, Object] = {
        "revisionName": _STRING | _description("The revision."),
        "latestRevision": _BOOLEAN | _description("Whether the newest revision that is ready is meant."),
        "percent": percent | _description("Its share of the requests; the shares make 100."),
        "tag": tag | _description("Gives it a host name of its own, with this in front."),
    }
    whose = "Refused here: it is the Service's own." if of_service else "Whose newest revision is meant."
    properties["configurationName"] = _STRING | _description(whose)
    properties["url"] = _STRING | _description("Refused: the status says it.")
    listed: Object = {"type": "array", "items": _object(properties)}
    return listed | _description("Who gets the requests; all to the newest revision by default.")


def _definition(
    resource: Resource,
    spec: Object,
    *,
    description: str,
    short_names: tuple[str, ...],
    columns: list[Object],
    category: str = "serving",
) -> Object:
    properties = {"spec": spec | _description("What is wanted."), "status": _STATUS}
    categories = ["all", "knative", category] if resource.namespaced else ["knative", category]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.group_resource, "labels": {"app.kubernetes.io/part-of": "ondol"}},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "shortNames": list(short_names),
                "categories": categories,
            },
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": _object(properties, "spec") | _description(description)},
                }
            ],
        },
    }


def _column(name: str, path: str) -> Object:
    return {"name": name, "type": "string", "jsonPath": path}


_READY_COLUMNS: Final = [
    _column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    _column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
]
_LATEST_COLUMNS: Final = [
    _column("LatestCreated", ".status.latestCreatedRevisionName"),
    _column("LatestReady", ".status.latestReadyRevisionName"),
]


def definitions() -> list[Object]:
    """Every CustomResourceDefinition of Serving, ready to be applied."""
    return [
        _service(),
        _configuration(),
        _revision(),
        _route(),
        _domain_mapping(),
        _domain_claim(),
        _pod_autoscaler(),
    ]


def _service() -> Object:
    return _definition(
        serving.SERVICE,
        _object({"template": _template(), "traffic": _traffic(of_service=True)}, "template"),
        description="Runs an image as a service that grows and shrinks with its requests, down to none.",
        short_names=("kservice", "ksvc"),
        columns=[_column("URL", ".status.url"), *_LATEST_COLUMNS, *_READY_COLUMNS],
    )


def _configuration() -> Object:
    return _definition(
        serving.CONFIGURATION,
        _object({"template": _template()}, "template"),
        description="The wanted state of a service's pods; makes a Revision of each change.",
        short_names=("config", "cfg"),
        columns=[*_LATEST_COLUMNS, *_READY_COLUMNS],
    )


def _revision() -> Object:
    return _definition(
        serving.REVISION,
        _revision_spec(),
        description="One state of a service's pods, which is never changed.",
        short_names=("rev",),
        columns=[
            _column("Config Name", r".metadata.labels['serving\.knative\.dev/configuration']"),
            _column("Generation", r".metadata.labels['serving\.knative\.dev/configurationGeneration']"),
            *_READY_COLUMNS,
            {**_column("Actual Replicas", ".status.actualReplicas"), "type": "integer"},
            {**_column("Desired Replicas", ".status.desiredReplicas"), "type": "integer"},
        ],
    )


def _route() -> Object:
    return _definition(
        serving.ROUTE,
        _object({"traffic": _traffic(of_service=False)}),
        description="Gives revisions a host name, and divides its requests among them.",
        short_names=("rt",),
        columns=[_column("URL", ".status.url"), *_READY_COLUMNS],
    )


def _domain_mapping() -> Object:
    reference = _object(
        {
            "kind": _STRING | _description("Service or Route of Knative, or a Service of Kubernetes."),
            "namespace": _STRING | _description("The mapping's own; no other is allowed."),
            "name": _STRING | _description("Its name."),
            "apiVersion": _STRING | _description("Of the kind: serving.knative.dev/v1, or v1."),
        },
        "kind",
        "name",
    )
    tls = _object({"secretName": {**_STRING, "minLength": 1}}, "secretName")
    return _definition(
        serving.DOMAIN_MAPPING,
        _object(
            {
                "ref": reference | _description("What is served under the name."),
                "tls": tls | _description("A Secret of type kubernetes.io/tls with its certificate."),
            },
            "ref",
        ),
        description="A host name of one's own, which is the object's name, for a service.",
        short_names=("dm",),
        columns=[_column("URL", ".status.url"), *_READY_COLUMNS],
    )


def _domain_claim() -> Object:
    return _definition(
        serving.DOMAIN_CLAIM,
        _object({"namespace": _STRING | _description("The one that may map the name.")}, "namespace"),
        description="Reserves a host name, which is the object's name, for the mappings of one namespace.",
        short_names=("cdc",),
        columns=[_column("Namespace", ".spec.namespace")],
        category="networking",
    )


def _pod_autoscaler() -> Object:
    reachability: Object = {"type": "string", "enum": ["Reachable", "Unreachable", "Unknown"]}
    target = _object({"apiVersion": _STRING, "kind": _STRING, "name": {**_STRING, "minLength": 1}}, "name")
    spec = _object(
        {
            "containerConcurrency": _INTEGER | _description("As in the revision."),
            "timeoutSeconds": _INTEGER | _description("As in the revision."),
            "responseStartTimeoutSeconds": _INTEGER | _description("As in the revision."),
            "idleTimeoutSeconds": _INTEGER | _description("As in the revision."),
            "containerPort": _INTEGER | _description("The port that requests are sent to."),
            "protocolType": {"type": "string", "enum": ["http1", "h2c"]}
            | _description("What is spoken there."),
            "reachability": reachability | _description("Whether a route leads to the revision."),
            "scaleTargetRef": target | _description("The Deployment to scale."),
        },
        "scaleTargetRef",
    )
    return _definition(
        serving.POD_AUTOSCALER,
        spec,
        description="How many pods a revision should have; the platform's own, made for each revision.",
        short_names=("kpa", "pa"),
        columns=[
            {**_column("DesiredScale", ".status.desiredScale"), "type": "integer"},
            {**_column("ActualScale", ".status.actualScale"), "type": "integer"},
            _column("Mode", ".status.mode"),
            *_READY_COLUMNS,
        ],
        category="knative-internal",
    )
