"""The columns of built-in kinds, as Kubernetes prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.tables import age, columns, pods, workloads
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, integer, string, wide

_LISTED_MAX: Final = 3
_ROLE_PREFIX: Final = "node-role.kubernetes.io/"
_ROLE_LABEL: Final = "kubernetes.io/role"


def _created(obj: Document, _now: float) -> Sequence[Cell]:
    return objects.name(obj), objects.metadata(obj).get("creationTimestamp")


DEFAULT: Final = Layout((NAME, columns.Column("Created At", "date")), _created)
"""For kinds without columns of their own: roles, definitions and whatever comes."""


def _service(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    cluster_ips = spec.get("clusterIPs") or [spec.get("clusterIP") or "<none>"]
    selector = ",".join(f"{k}={v}" for k, v in sorted((spec.get("selector") or {}).items()))
    return (
        objects.name(obj),
        spec.get("type") or "ClusterIP",
        cluster_ips[0],
        _external_ip(obj),
        ",".join(_service_port(port) for port in spec.get("ports") or ()) or "<none>",
        columns.age_of(obj, now),
        selector or "<none>",
    )


def _service_port(port: Mapping[str, Any]) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node_port}/{port.get('protocol') or 'TCP'}"


def _external_ip(service: Document) -> str:
    spec = objects.spec(service)
    external = list(spec.get("externalIPs") or ())
    match spec.get("type") or "ClusterIP":
        case "ClusterIP" | "NodePort":
            return ",".join(external) or "<none>"
        case "LoadBalancer":
            ingress = (objects.status(service).get("loadBalancer") or {}).get("ingress") or ()
            balanced = sorted({str(i.get("ip") or i.get("hostname") or "") for i in ingress} - {""})
            return ",".join([*balanced, *external]) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName") or "")
        case _:
            return age.UNKNOWN


def _node(obj: Document, now: float) -> Sequence[Cell]:
    info = objects.status(obj).get("nodeInfo") or {}
    kernel = info.get("kernelVersion") or age.UNKNOWN
    if info.get("architecture"):
        kernel += f" ({info['architecture']})"
    return (
        objects.name(obj),
        _node_status(obj),
        ",".join(_node_roles(obj)) or "<none>",
        columns.age_of(obj, now),
        info.get("kubeletVersion") or "",
        _node_address(obj, "InternalIP"),
        _node_address(obj, "ExternalIP"),
        info.get("osImage") or age.UNKNOWN,
        kernel,
        info.get("containerRuntimeVersion") or age.UNKNOWN,
    )


def _node_status(node: Document) -> str:
    ready = conditions.get(node, "Ready")
    words = ["Unknown"] if ready is None else ["Ready" if ready.get("status") == "True" else "NotReady"]
    if objects.spec(node).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: Document) -> list[str]:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in objects.labels(node) if key.startswith(_ROLE_PREFIX)}
    return sorted((roles | {objects.labels(node).get(_ROLE_LABEL, "")}) - {""})


def _node_address(node: Document, type: str) -> str:
    addresses = objects.status(node).get("addresses") or ()
    return next((str(a.get("address")) for a in addresses if a.get("type") == type), "<none>")


def _namespace(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), objects.status(obj).get("phase") or "", columns.age_of(obj, now)


def _config_map(obj: Document, now: float) -> Sequence[Cell]:
    keys = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return objects.name(obj), keys, columns.age_of(obj, now)


def _secret(obj: Document, now: float) -> Sequence[Cell]:
    keys = len(obj.get("data") or ())
    return objects.name(obj), obj.get("type") or "Opaque", keys, columns.age_of(obj, now)


def _named(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), columns.age_of(obj, now)


def _lease(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), objects.spec(obj).get("holderIdentity") or "", columns.age_of(obj, now)


def _endpoint_slice(obj: Document, now: float) -> Sequence[Cell]:
    ports = [str(port.get("port") or port.get("name") or "*") for port in obj.get("ports") or ()]
    addresses = [address for e in obj.get("endpoints") or () for address in e.get("addresses") or ()]
    return (
        objects.name(obj),
        obj.get("addressType") or "",
        _shortened(ports, "<unset>"),
        _shortened(addresses, "<unset>"),
        columns.age_of(obj, now),
    )


def _endpoints(obj: Document, now: float) -> Sequence[Cell]:
    addresses = [text for subset in obj.get("subsets") or () for text in _subset(subset)]
    return objects.name(obj), _shortened(addresses, "<none>"), columns.age_of(obj, now)


def _subset(subset: Mapping[str, Any]) -> Iterable[str]:
    addresses = [str(a.get("ip")) for a in subset.get("addresses") or ()]
    ports = subset.get("ports") or ()
    return [_host_port(ip, p.get("port")) for p in ports for ip in addresses] if ports else addresses


def _host_port(ip: str, port: Any) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _shortened(items: Sequence[str], empty: str) -> str:
    first = ",".join(items[:_LISTED_MAX])
    more = len(items) - _LISTED_MAX
    return f"{first} + {more} more..." if more > 0 else first or empty


def _binding(obj: Document, now: float) -> Sequence[Cell]:
    role = obj.get("roleRef") or {}
    return (
        objects.name(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        columns.age_of(obj, now),
        *(_subjects(obj, kind) for kind in ("User", "Group", "ServiceAccount")),
    )


def _subjects(binding: Document, kind: str) -> str:
    subjects = [s for s in binding.get("subjects") or () if s.get("kind") == kind]
    if kind == "ServiceAccount":
        return ", ".join(f"{s.get('namespace', '')}/{s.get('name', '')}" for s in subjects)
    return ", ".join(str(s.get("name", "")) for s in subjects)


def _event(obj: Document, now: float) -> Sequence[Cell]:
    regarding = obj.get("involvedObject") or obj.get("regarding") or {}
    series = obj.get("series") or {}
    first = age.since(
        obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime"), now
    )
    last_time = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    last = age.since(series.get("lastObservedTime"), now) if series else None
    kind = str(regarding.get("kind") or "").lower()
    return (
        last or (age.since(last_time, now) if last_time else first),
        obj.get("type") or "",
        obj.get("reason") or "",
        f"{kind}/{regarding['name']}" if regarding.get("name") else kind,
        regarding.get("fieldPath") or "",
        _event_source(obj),
        str(obj.get("message") or obj.get("note") or "").strip(),
        first,
        series.get("count") or obj.get("count") or obj.get("deprecatedCount") or 1,
        objects.name(obj),
    )


def _event_source(event: Document) -> str:
    source = event.get("source") or event.get("deprecatedSource") or {}
    component = source.get("component") or event.get("reportingComponent") or event.get("reportingController")
    instance = source.get("host") or event.get("reportingInstance")
    return f"{component or ''}, {instance}" if instance else str(component or "")


def _priority_class(obj: Document, now: float) -> Sequence[Cell]:
    return (
        objects.name(obj),
        obj.get("value") or 0,
        bool(obj.get("globalDefault")),
        columns.age_of(obj, now),
        obj.get("preemptionPolicy") or "",
    )


def _runtime_class(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), obj.get("handler") or "", columns.age_of(obj, now)


_BINDING: Final = Layout(
    (NAME, string("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")), _binding
)
_EVENT: Final = Layout(
    (
        string("Last Seen"),
        string("Type"),
        string("Reason"),
        string("Object"),
        wide("Subobject"),
        wide("Source"),
        string("Message"),
        wide("First Seen"),
        wide("Count"),
        columns.Column("Name", format="name", priority=1),
    ),
    _event,
)
_RBAC: Final = "rbac.authorization.k8s.io"

LAYOUTS: Final[Mapping[tuple[str, str], Layout]] = {
    **workloads.LAYOUTS,
    ("", "Pod"): pods.LAYOUT,
    ("", "Service"): Layout(
        (
            NAME,
            string("Type"),
            string("Cluster-IP"),
            string("External-IP"),
            string("Port(s)"),
            AGE,
            wide("Selector"),
        ),
        _service,
    ),
    ("", "Node"): Layout(
        (
            NAME,
            string("Status"),
            string("Roles"),
            AGE,
            string("Version"),
            wide("Internal-IP"),
            wide("External-IP"),
            wide("OS-Image"),
            wide("Kernel-Version"),
            wide("Container-Runtime"),
        ),
        _node,
    ),
    ("", "Namespace"): Layout((NAME, string("Status"), AGE), _namespace),
    ("", "ConfigMap"): Layout((NAME, string("Data"), AGE), _config_map),
    ("", "Secret"): Layout((NAME, string("Type"), string("Data"), AGE), _secret),
    ("", "ServiceAccount"): Layout((NAME, AGE), _named),
    ("", "Endpoints"): Layout((NAME, string("Endpoints"), AGE), _endpoints),
    ("", "Event"): _EVENT,
    ("events.k8s.io", "Event"): _EVENT,
    ("coordination.k8s.io", "Lease"): Layout((NAME, string("Holder"), AGE), _lease),
    ("discovery.k8s.io", "EndpointSlice"): Layout(
        (NAME, string("AddressType"), string("Ports"), string("Endpoints"), AGE), _endpoint_slice
    ),
    ("node.k8s.io", "RuntimeClass"): Layout((NAME, string("Handler"), AGE), _runtime_class),
    ("scheduling.k8s.io", "PriorityClass"): Layout(
        (
            NAME,
            integer("Value"),
            columns.Column("Global-Default", "boolean"),
            AGE,
            wide("PreemptionPolicy"),
        ),
        _priority_class,
    ),
    (_RBAC, "RoleBinding"): _BINDING,
    (_RBAC, "ClusterRoleBinding"): _BINDING,
}


def layout(group: str, kind: str) -> Layout:
    """The columns of a kind of `LAYOUTS`; `ValueError` for any other."""
    if (group, kind) not in LAYOUTS:
        raise ValueError(f"LAYOUTS has no columns for {kind} of {group!r}; without them a kind has DEFAULT")
    return LAYOUTS[group, kind]
