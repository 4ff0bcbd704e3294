"""Defaults of pods, alone and in the templates of what makes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from ondol.base import quantity

_FILE_MODE: Final = 0o644
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_DEFAULTS: Final = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_TAG: Final = re.compile(r":(?P<tag>[\w][\w.-]*)$")
_FINE: Final = re.compile(r".*[nu]$")


def pod(document: Any) -> None:
    """The defaults of a pod, and those that apply to pods but not to templates."""
    spec = document["spec"]
    for container in _containers(spec):
        _requests_from_limits(container)
        if spec.get("hostNetwork"):
            for port in container.get("ports") or ():
                port.setdefault("hostPort", port.get("containerPort", 0))
    if (spec.get("resources") or {}).get("limits"):
        _pod_requests(spec)
    spec.setdefault("enableServiceLinks", True)
    pod_spec(spec)


def _containers(spec: Mapping[str, Any]) -> Iterator[Any]:
    yield from spec.get("containers") or ()
    yield from spec.get("initContainers") or ()


def _requests_from_limits(container: Any) -> None:
    resources = container["resources"]
    limits = resources.get("limits")
    if limits:
        resources["requests"] = {**limits, **(resources.get("requests") or {})}


def _pod_requests(spec: Any) -> None:
    """Fill the whole pod's requests: what its containers request together, else the pod's limit."""
    resources = spec["resources"]
    requests = dict(resources.get("requests") or {})
    for name, limit in resources["limits"].items():
        amount = _containers_request(spec, name)
        requests.setdefault(name, limit if amount is None else amount)
    for name in ("cpu", "memory"):
        amount = _containers_request(spec, name)
        if amount is not None:
            requests.setdefault(name, amount)
    resources["requests"] = requests


def _containers_request(spec: Any, name: str) -> str | None:
    """What the containers ask for at most at any time: init containers in turn, the rest together."""
    amounts = [c["resources"].get("requests", {}).get(name) for c in _containers(spec)]
    if name not in ("cpu", "memory") or not any(amounts):
        return None
    sidecars = peak = Fraction(0)
    for container in spec.get("initContainers") or ():
        amount = quantity.parse(container["resources"].get("requests", {}).get(name, "0"))
        if container.get("restartPolicy") == "Always":
            sidecars += amount
        peak = max(peak, sidecars if container.get("restartPolicy") == "Always" else sidecars + amount)
    together = sidecars + sum(
        quantity.parse(c["resources"].get("requests", {}).get(name, "0"))
        for c in spec.get("containers") or ()
    )
    whole = max(peak, together)
    binary = all(str(amount).endswith("i") for amount in amounts if amount)
    return _spelled(whole, binary=binary)


def _spelled(value: Fraction, *, binary: bool) -> str:
    """A sum in the family of suffixes its parts were written in."""
    if binary and (value / 1024).denominator == 1:
        return quantity.canonical(f"{value / 1024}Ki")
    return quantity.canonical(f"{-int(-value * 1000 // 1)}m")


def pod_spec(spec: Any) -> None:
    """Those of every pod, also where it is a template."""
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    # The older of the two names is only a mirror of the other, but alone it counts.
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for volume in spec.get("volumes") or ():
        _volume(volume)
    for container in _containers(spec):
        _container(container)
    for container in spec.get("ephemeralContainers") or ():
        _container(container)


def _container(container: Any) -> None:
    container.setdefault("imagePullPolicy", pull_policy(container.get("image", "")))
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    for variable in container.get("env") or ():
        _field_ref(variable.get("valueFrom"))
    for name in _PROBES:
        if name in container:
            _probe(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _http_get(hook)
    for amounts in container["resources"].values():
        if isinstance(amounts, dict):
            _round_up(amounts)


def pull_policy(image: str) -> str:
    """`Always` for the tag latest, written or implied; a digest without a tag never moves."""
    name, at, _ = image.partition("@")
    match = _TAG.search(name)
    tag = match["tag"] if match else ("" if at else "latest")
    return "Always" if tag == "latest" else "IfNotPresent"


def _probe(probe: Any) -> None:
    for name, value in _PROBE_DEFAULTS.items():
        if not probe.get(name):
            probe[name] = value
    _http_get(probe)


def _http_get(handler: Any) -> None:
    action = handler.get("httpGet")
    if action is not None:
        action.setdefault("path", "/")
        action.setdefault("scheme", "HTTP")


def _field_ref(holder: Any) -> None:
    ref = (holder or {}).get("fieldRef")
    if ref is not None:
        ref.setdefault("apiVersion", "v1")


def _round_up(amounts: dict[str, str]) -> None:
    """Amounts finer than a thousandth are rounded up to one."""
    for name, amount in amounts.items():
        if _FINE.fullmatch(amount):
            thousandths = -int(-quantity.parse(amount) * 1000 // 1)
            amounts[name] = quantity.canonical(f"{Fraction(thousandths)}m")


def _volume(volume: Any) -> None:
    if len(volume) == 1:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if source in volume:
            volume[source].setdefault("defaultMode", _FILE_MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    if "image" in volume:
        volume["image"].setdefault("pullPolicy", pull_policy(volume["image"].get("reference", "")))
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim is not None:
        claim_spec(claim["spec"])
    _downward(volume.get("downwardAPI"))
    for source in (volume.get("projected") or {}).get("sources") or ():
        _downward(source.get("downwardAPI"))
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)


def claim_spec(spec: Any) -> None:
    """Of a PersistentVolumeClaim, or of a template for them."""
    spec.setdefault("volumeMode", "Filesystem")


def _downward(source: Any) -> None:
    for item in (source or {}).get("items") or ():
        _field_ref(item)
