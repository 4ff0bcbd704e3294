"""Defaults of Services, of the endpoints behind them, and of what is said of the network."""

from __future__ import annotations

from typing import Any, Final

_AFFINITY_TIMEOUT_S: Final = 10800
_ROUTED: Final = ("ClusterIP", "NodePort", "LoadBalancer")
_EXTERNAL: Final = ("NodePort", "LoadBalancer")


def service(document: Any) -> None:
    spec = document["spec"]
    kind = spec.setdefault("type", "ClusterIP")
    _affinity(spec)
    for port in spec.get("ports") or ():
        if not port.get("targetPort"):
            port["targetPort"] = port["port"]
    if kind in _EXTERNAL or (kind == "ClusterIP" and spec.get("externalIPs")):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind in _ROUTED:
        spec.setdefault("internalTrafficPolicy", "Cluster")
        _addresses(spec)
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in document["status"]["loadBalancer"].get("ingress") or ():
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _affinity(spec: Any) -> None:
    if spec.setdefault("sessionAffinity", "None") == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {})
        config.setdefault("clientIP", {}).setdefault("timeoutSeconds", _AFFINITY_TIMEOUT_S)


def _addresses(spec: Any) -> None:
    """The family fields of a cluster with one family; a headless service without selector claims both."""
    if spec.get("clusterIP"):
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
    elif spec.get("clusterIPs"):
        spec["clusterIP"] = spec["clusterIPs"][0]
    both = spec.get("clusterIP") == "None" and not spec.get("selector") and "ipFamilies" not in spec
    if both and "ipFamilyPolicy" not in spec:
        spec["ipFamilies"], spec["ipFamilyPolicy"] = ["IPv4", "IPv6"], "RequireDualStack"
        return
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def endpoints(document: Any) -> None:
    for subset in document.get("subsets") or ():
        for port in subset.get("ports") or ():
            port.setdefault("protocol", "TCP")


def endpoint_slice(document: Any) -> None:
    document.setdefault("endpoints", [])
    for port in document.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def network_policy(document: Any) -> None:
    """Of a policy that names no types: the first always, the second if it says something of it."""
    spec = document["spec"]
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        for port in rule.get("ports") or ():
            port.setdefault("protocol", "TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def ingress_class(document: Any) -> None:
    parameters = document["spec"].get("parameters")
    if parameters is not None:
        parameters.setdefault("scope", "Cluster")
