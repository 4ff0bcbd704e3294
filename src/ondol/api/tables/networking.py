"""The columns of ingresses, network policies, and of networks and addresses of Services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.tables import columns, workloads
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, string

_HOSTS_MAX: Final = 3


def _ingress(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    balanced = (objects.status(obj).get("loadBalancer") or {}).get("ingress") or ()
    places = sorted({str(each.get("ip") or each.get("hostname") or "") for each in balanced} - {""})
    return (
        objects.name(obj),
        "<none>" if spec.get("ingressClassName") is None else spec["ingressClassName"],
        _hosts(spec.get("rules") or ()),
        ",".join(places),
        "80, 443" if spec.get("tls") else "80",
        columns.age_of(obj, now),
    )


def _hosts(rules: Sequence[Mapping[str, Any]]) -> str:
    """The first hosts. What is left out is counted as Kubernetes does: the rules, also those without one."""
    hosts: list[str] = []
    for rule in rules:
        if len(hosts) == _HOSTS_MAX:
            return f"{','.join(hosts)} + {len(rules) - _HOSTS_MAX} more..."
        if rule.get("host"):
            hosts.append(rule["host"])
    return ",".join(hosts) or "*"


def _ingress_class(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    reference = spec.get("parameters")
    return (
        objects.name(obj),
        spec.get("controller") or "",
        "<none>" if reference is None else _reference(reference),
        columns.age_of(obj, now),
    )


def _reference(reference: Mapping[str, Any]) -> str:
    group = reference.get("apiGroup")
    kind = reference.get("kind") or ""
    return f"{kind if group is None else f'{kind}.{group}'}/{reference.get('name') or ''}"


def _policy(obj: Document, now: float) -> Sequence[Cell]:
    selector = workloads.selector_text(objects.spec(obj).get("podSelector") or {}, "<none>")
    return objects.name(obj), selector, columns.age_of(obj, now)


def _service_cidr(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), ",".join(objects.spec(obj).get("cidrs") or ()), columns.age_of(obj, now)


def _address(obj: Document, _now: float) -> Sequence[Cell]:
    parent = objects.spec(obj).get("parentRef")
    return objects.name(obj), "<none>" if parent is None else _parent(parent)


def _parent(parent: Mapping[str, Any]) -> str:
    group, resource = parent.get("group"), parent.get("resource") or ""
    of_group = f"{resource}.{group}" if group else resource
    return "/".join(
        part for part in (of_group.lower(), parent.get("namespace"), parent.get("name") or "") if part
    )


INGRESS: Final = Layout(
    (NAME, string("Class"), string("Hosts"), string("Address"), string("Ports"), AGE), _ingress
)
INGRESS_CLASS: Final = Layout((NAME, string("Controller"), string("Parameters"), AGE), _ingress_class)
POLICY: Final = Layout((NAME, string("Pod-Selector"), AGE), _policy)
SERVICE_CIDR: Final = Layout((NAME, string("CIDRs"), AGE), _service_cidr)
ADDRESS: Final = Layout((NAME, string("ParentRef")), _address)
