"""The children of Serving objects: pure makers, parent in, child out.

A Service has a Configuration and a Route of its own name; a Configuration stamps out Revisions; a
Revision has a Deployment, a Service and a PodAutoscaler; a Route has a placeholder Service, so that
its name resolves, and the VirtualService of `routing`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import names
from ondol.contracts import mesh
from ondol.contracts.serving import HTTP_PORT
from ondol.serverless.serving import defaults, wellknown

API_VERSION: Final = "serving.knative.dev/v1"
USER_PORT: Final = "user-port"
DEFAULT_PORT: Final = 8080
# As long as the proxies may take to hear that a pod is going: until then it must still answer.
LEAVING_S: Final = 2
_PROBES: Final = ("readinessProbe", "livenessProbe", "startupProbe")
# kubectl's own bookkeeping speaks of the parent and would be wrong on a child.
_NOT_COPIED: Final = {"kubectl.kubernetes.io/last-applied-configuration"}
# Routes change these in a Revision's life; in a pod template they would roll every pod each time.
_OF_ROUTING: Final = {wellknown.ROUTES_ANNOTATION, wellknown.ROUTING_STATE_MODIFIED}


def child_of(parent: Mapping[str, Any], kind: str, name: str, api_version: str = API_VERSION) -> Object:
    """The head of a child, with the parent as its controller."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": objects.namespace(parent),
            "labels": {},
            "annotations": {},
            "ownerReferences": [objects.controller_reference(parent)],
        },
    }


def _copied(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key not in _NOT_COPIED}


def configuration(service: Mapping[str, Any]) -> Object:
    """The Configuration of a Service: its template, labels and annotations."""
    child = child_of(service, "Configuration", objects.name(service))
    child["metadata"]["labels"] = {
        **_copied(objects.labels(service)),
        wellknown.SERVICE_LABEL: objects.name(service),
        wellknown.SERVICE_UID_LABEL: objects.uid(service),
    }
    child["metadata"]["annotations"] = _copied(objects.annotations(service))
    child["spec"] = {"template": copy.deepcopy(objects.spec(service).get("template") or {})}
    return child


def route(service: Mapping[str, Any]) -> Object:
    """The Route of a Service; a target without a revision follows the Service's Configuration."""
    child = child_of(service, "Route", objects.name(service))
    child["metadata"]["labels"] = {
        **_copied(objects.labels(service)),
        wellknown.SERVICE_LABEL: objects.name(service),
    }
    child["metadata"]["annotations"] = _copied(objects.annotations(service))
    traffic = objects.spec(service).get("traffic") or [{"latestRevision": True, "percent": 100}]
    child["spec"] = {"traffic": [_route_target(t, objects.name(service)) for t in traffic]}
    return child


def _route_target(target: Mapping[str, Any], configuration_name: str) -> Object:
    route_target = {k: v for k, v in target.items() if k in {"revisionName", "percent", "tag"}}
    if not route_target.get("revisionName"):
        route_target.pop("revisionName", None)
        route_target["configurationName"] = configuration_name
        route_target["latestRevision"] = True
    else:
        route_target["latestRevision"] = False
    return route_target


def revision_name(configuration_: Mapping[str, Any]) -> str:
    """The name the template asks for, or the configuration's with its generation."""
    template = objects.spec(configuration_).get("template") or {}
    name = objects.name(template)
    return name or names.child_name(
        objects.name(configuration_), f"-{objects.generation(configuration_):05d}"
    )


def revision(configuration_: Mapping[str, Any], values: defaults.Defaults = defaults.KNATIVE) -> Object:
    """The Revision a Configuration stamps out of its present template."""
    template = copy.deepcopy(dict(objects.spec(configuration_).get("template") or {}))
    child = child_of(configuration_, "Revision", revision_name(configuration_))
    inherited = {
        key: value
        for key, value in objects.labels(configuration_).items()
        if key in {wellknown.SERVICE_LABEL, wellknown.SERVICE_UID_LABEL}
    }
    child["metadata"]["labels"] = {
        **objects.labels(template),
        **inherited,
        wellknown.CONFIGURATION_LABEL: objects.name(configuration_),
        wellknown.CONFIGURATION_UID_LABEL: objects.uid(configuration_),
        wellknown.CONFIGURATION_GENERATION_LABEL: str(objects.generation(configuration_)),
        wellknown.ROUTING_STATE_LABEL: "pending",
    }
    maker = objects.annotations(configuration_).get(wellknown.LAST_MODIFIER)
    child["metadata"]["annotations"] = {
        **_copied(objects.annotations(template)),
        **({wellknown.CREATOR: maker} if maker else {}),
    }
    child["spec"] = defaults.revision_spec(
        template.get("spec") or {}, values, objects.metadata(configuration_)
    )
    return child


def serving_container(spec: Mapping[str, Any]) -> int:
    """Which container receives the requests: the one with a port, or the first."""
    containers = spec.get("containers") or []
    return next((i for i, c in enumerate(containers) if c.get("ports")), 0)


def user_port(spec: Mapping[str, Any]) -> tuple[int, str]:
    """The port requests go to and its protocol name (`http1` or `h2c`)."""
    containers = spec.get("containers") or [{}]
    ports = containers[serving_container(spec)].get("ports") or [{}]
    name = ports[0].get("name") or "http1"
    return int(ports[0].get("containerPort") or DEFAULT_PORT), "h2c" if name == "h2c" else "http1"


def canonical_name(revision_: Mapping[str, Any]) -> str:
    """What traces and statistics call all revisions of a service."""
    own = objects.labels(revision_)
    return (
        own.get(wellknown.SERVICE_LABEL) or own.get(wellknown.CONFIGURATION_LABEL) or objects.name(revision_)
    )


def _revision_labels(revision_: Mapping[str, Any]) -> dict[str, str]:
    own = objects.labels(revision_)
    passed = {
        key: value for key, value in own.items() if not key.startswith(wellknown.SERVING + "routingState")
    }
    return {
        "app": objects.name(revision_),  # unless the author says which application this is
        **passed,
        mesh.CANONICAL_NAME: canonical_name(revision_),
        mesh.CANONICAL_REVISION: objects.name(revision_),
        wellknown.REVISION_LABEL: objects.name(revision_),
        wellknown.REVISION_UID_LABEL: objects.uid(revision_),
    }


def _pod_annotations(revision_: Mapping[str, Any]) -> dict[str, str]:
    """The revision's, without those that say who routes to it."""
    own = _copied(objects.annotations(revision_))
    return {key: value for key, value in own.items() if key not in _OF_ROUTING}


def deployment_name(revision_name_: str) -> str:
    return names.child_name(revision_name_, "-deployment")


def deployment(
    revision_: Mapping[str, Any], *, progress_deadline_s: float, runtime_class: str = ""
) -> Object:
    """The Deployment of a Revision. It names no replicas: the autoscaler owns their number.

    `runtime_class` is for a Revision that names none.
    """
    child = child_of(revision_, "Deployment", deployment_name(objects.name(revision_)), "apps/v1")
    labels = _revision_labels(revision_)
    annotations = _pod_annotations(revision_)
    child["metadata"]["labels"] = labels
    child["metadata"]["annotations"] = annotations
    child["spec"] = {
        "selector": {"matchLabels": {wellknown.REVISION_UID_LABEL: objects.uid(revision_)}},
        "progressDeadlineSeconds": max(1, round(progress_deadline_s)),
        "revisionHistoryLimit": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": _pod_spec(revision_),
        },
    }
    if runtime_class:
        child["spec"]["template"]["spec"].setdefault("runtimeClassName", runtime_class)
    return child


def _pod_spec(revision_: Mapping[str, Any]) -> Object:
    spec = copy.deepcopy(dict(objects.spec(revision_)))
    timeout_s = int(spec.get("timeoutSeconds") or defaults.TIMEOUT_S)
    for own in (
        "containerConcurrency",
        "timeoutSeconds",
        "responseStartTimeoutSeconds",
        "idleTimeoutSeconds",
    ):
        spec.pop(own, None)
    port, protocol = user_port(spec)
    spec.setdefault("terminationGracePeriodSeconds", timeout_s + LEAVING_S)
    chosen = serving_container(spec)
    for number, container in enumerate(spec.get("containers") or []):
        own_env = [{"name": "PORT", "value": str(port)}] if number == chosen else []
        container["env"] = [*(container.get("env") or []), *own_env, *_knative_env(revision_)]
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": LEAVING_S}}}
        # The last words of a program that fails are the cause a Revision names.
        container["terminationMessagePolicy"] = (
            container.get("terminationMessagePolicy") or "FallbackToLogsOnError"
        )
        if number == chosen:
            container["ports"] = [{"name": USER_PORT, "containerPort": port, "protocol": "TCP"}]
        for probe in _PROBES:
            if container.get(probe):
                container[probe] = _probe(container[probe], (port, protocol) if number == chosen else None)
        if number == chosen and container.get("readinessProbe"):
            container["readinessProbe"].setdefault("periodSeconds", 10)
    for container in spec.get("initContainers") or ():
        container["env"] = [*(container.get("env") or []), *_knative_env(revision_)]
    return spec


def _probe(probe: Mapping[str, Any], own: tuple[int, str] | None) -> Object:
    """A probe with the port filled in where it was left open (0); `own` is the serving container's."""
    filled = {key: value for key, value in copy.deepcopy(dict(probe)).items() if value is not None}
    if not filled.get("periodSeconds"):
        filled.pop("periodSeconds", None)
    action = filled.get("httpGet") or {}
    if action.get("scheme"):
        action["scheme"] = str(action["scheme"]).upper()
    if own is None:
        return filled
    port, protocol = own
    for kind in ("httpGet", "tcpSocket", "grpc"):
        named = filled.get(kind, {}).get("port")
        if kind in filled and (not named or isinstance(named, str)):  # a name is the container's own port
            filled[kind]["port"] = port
    if "httpGet" in filled and protocol == "h2c":  # an HTTP/1 probe of an HTTP/2-only server cannot succeed
        filled = {k: v for k, v in filled.items() if k != "httpGet"} | {"tcpSocket": {"port": port}}
    return filled


def _knative_env(revision_: Mapping[str, Any]) -> list[Object]:
    own = objects.labels(revision_)
    return [
        {"name": "K_REVISION", "value": objects.name(revision_)},
        {"name": "K_CONFIGURATION", "value": own.get(wellknown.CONFIGURATION_LABEL, "")},
        {"name": "K_SERVICE", "value": own.get(wellknown.SERVICE_LABEL, "")},
    ]


def revision_service(revision_: Mapping[str, Any], *, is_counted: bool = False) -> Object:
    """The Service of a Revision: no selector, for its endpoints are chosen by the autoscaler.

    `is_counted`: the activator may stand before pods that are there, and is to count what it cannot read.
    """
    child = child_of(revision_, "Service", objects.name(revision_), "v1")
    _, protocol = user_port(objects.spec(revision_))
    child["metadata"]["labels"] = {
        wellknown.REVISION_LABEL: objects.name(revision_),
        wellknown.REVISION_UID_LABEL: objects.uid(revision_),
        **{k: v for k, v in objects.labels(revision_).items() if k == wellknown.SERVICE_LABEL},
        mesh.CANONICAL_NAME: canonical_name(revision_),
    }
    child["metadata"]["annotations"][mesh.PODS_TO_COME] = _pods_to_come(revision_, is_counted=is_counted)
    port_name, app_protocol = ("http2", "kubernetes.io/h2c") if protocol == "h2c" else ("http", "http")
    child["spec"] = {
        "type": "ClusterIP",
        "ports": [{"name": port_name, "port": HTTP_PORT, "appProtocol": app_protocol, "protocol": "TCP"}],
    }
    return child


def _pods_to_come(revision_: Mapping[str, Any], *, is_counted: bool) -> str:
    """For the mesh, which is to know while there are none who will let whom in."""
    spec = objects.spec(revision_)
    own = objects.annotations(revision_)
    described = {
        "labels": _revision_labels(revision_),
        "annotations": {key: own[key] for key in (mesh.INJECT,) if key in own},
        "port": user_port(spec)[0],
        "holdSeconds": int(spec.get("timeoutSeconds") or defaults.TIMEOUT_S),
        "perConnection": int(is_counted),
    }
    return json.dumps(described, sort_keys=True)


def pod_autoscaler(revision_: Mapping[str, Any]) -> Object:
    """The PodAutoscaler of a Revision; reachability follows whether a route points at it."""
    child = child_of(
        revision_, "PodAutoscaler", objects.name(revision_), "autoscaling.internal.knative.dev/v1alpha1"
    )
    state = objects.labels(revision_).get(wellknown.ROUTING_STATE_LABEL, "pending")
    port, protocol = user_port(objects.spec(revision_))
    child["metadata"]["labels"] = {wellknown.REVISION_LABEL: objects.name(revision_)}
    child["metadata"]["annotations"] = {
        k: v
        for k, v in objects.annotations(revision_).items()
        if k.startswith(wellknown.AUTOSCALING) or k == wellknown.PROGRESS_DEADLINE
    }
    child["spec"] = {
        "containerConcurrency": int(objects.spec(revision_).get("containerConcurrency") or 0),
        "timeoutSeconds": int(objects.spec(revision_).get("timeoutSeconds") or defaults.TIMEOUT_S),
        "responseStartTimeoutSeconds": int(objects.spec(revision_).get("responseStartTimeoutSeconds") or 0),
        "idleTimeoutSeconds": int(objects.spec(revision_).get("idleTimeoutSeconds") or 0),
        "protocolType": protocol,
        "containerPort": port,
        "reachability": {"active": "Reachable", "reserve": "Unreachable"}.get(state, "Unknown"),
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": deployment_name(objects.name(revision_)),
        },
    }
    return child


def placeholder_service(
    route_: Mapping[str, Any], name: str, live: Mapping[str, Any] | None = None
) -> Object:
    """A Service so that the Route's name (or a tag's) resolves; the mesh routes by that name.

    Labels and annotations of the `live` one stay: Knative's conformance suite asks for that.
    """
    child = child_of(route_, "Service", name, "v1")
    live = live or {}
    labels = {**objects.labels(live), **objects.labels(route_)}
    # Visibility is not passed on: who wants one tag's name inside only labels that Service.
    passed = {k: v for k, v in _copied(labels).items() if k != wellknown.VISIBILITY}
    child["metadata"]["labels"] = {**passed, wellknown.ROUTE_LABEL: objects.name(route_)}
    notes = {**objects.annotations(live), **objects.annotations(route_)}
    child["metadata"]["annotations"] = _copied(notes)
    child["spec"] = {
        "type": "ClusterIP",
        "ports": [{"name": "http", "port": HTTP_PORT, "appProtocol": "http", "protocol": "TCP"}],
    }
    return child
