"""Which pods the mesh serves, what of their traffic, and how its connections are known: one rule for all."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ondol.api import objects
from ondol.base import comma_list

T = TypeVar("T")

MODE_LABEL: Final = "istio.io/dataplane-mode"
"""Istio's label; the value `none` on a pod, or else on its namespace, opts out."""

PROGRAMMED: Final = "mesh.ondol.dev/Programmed"
"""Pod condition: the proxy accepted this pod's listeners."""

ADDRESSES: Final = "ondol.dev/AddressesProgrammed"
"""Condition of Services and pods that did not get an address or port of the machine they ask for."""

SANDBOX_READY: Final = "PodReadyToStartContainers"
"""Pod condition (Kubernetes' own): network namespace and address are in place."""


MARK: Final = 0x0D00_0000
MARK_MASK: Final = 0xDF00_0000
INSTANCE_MASK: Final = 0x00FF_FFFF
_PASSTHROUGH: Final = 0x2000_0000


def mark(instance: str, *, passthrough: bool = False) -> int:
    """What the proxy of an instance (six hexadecimal digits) puts on its connections (SO_MARK).

    They begin in the host's network namespace, where nothing else tells the kernel for whom they are;
    `passthrough` is for those whose destination a pod chose itself.
    """
    return MARK | int(instance, 16) | (_PASSTHROUGH if passthrough else 0)


INJECT: Final = "sidecar.istio.io/inject"
"""Istio's label or annotation of a pod, the label before the annotation; `false` opts out."""

INJECTION_LABEL: Final = "istio-injection"
"""Istio's label of a namespace; `disabled` opts its pods out."""

_TRAFFIC: Final = "traffic.sidecar.istio.io/"
_TRUE: Final = frozenset({"", "true", "yes", "y", "on"})
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def in_mesh(pod: Mapping[str, Any], namespace: Mapping[str, Any] | None) -> bool:
    """Whether the pod's traffic passes the mesh; the pod's label or annotation wins over its namespace's."""
    if objects.spec(pod).get("hostNetwork"):
        return False
    chosen = _pods_choice(pod)
    if chosen is None and namespace is not None:
        chosen = _namespaces_choice(objects.labels(namespace))
    return chosen is not False


def _pods_choice(pod: Mapping[str, Any]) -> bool | None:
    labels = objects.labels(pod)
    if MODE_LABEL in labels:
        return labels[MODE_LABEL] != "none"
    inject = labels.get(INJECT, objects.annotations(pod).get(INJECT))
    return None if inject is None else inject.strip().lower() in _TRUE


def _namespaces_choice(labels: Mapping[str, str]) -> bool | None:
    if MODE_LABEL in labels:
        return labels[MODE_LABEL] != "none"
    return False if labels.get(INJECTION_LABEL) == "disabled" else None


@dataclass(frozen=True, slots=True)
class Capture:
    """Which of a meshed pod's connections are redirected to the proxy, by Istio's annotations.

    What is excluded is let past; else a port of `ports` is taken wherever it leads, and other ports
    where they lead into `ranges`. Inbound connections are never taken, so what Istio's annotations
    say of them holds by itself.
    """

    ranges: tuple[ipaddress.IPv4Network, ...] | None = None
    """None is every address."""
    ports: tuple[int, ...] = ()
    excluded_ranges: tuple[ipaddress.IPv4Network, ...] = ()
    excluded_ports: tuple[int, ...] = ()
    excluded_interfaces: tuple[str, ...] = ()


EVERYTHING: Final = Capture()


def capture(annotations: Mapping[str, str]) -> Capture:
    """What the annotations of a pod ask for; `ValueError` names the one that cannot be read."""

    def parts(name: str, read: Callable[[str], T]) -> tuple[T, ...]:
        text = annotations.get(f"{_TRAFFIC}{name}", "")
        try:
            return tuple(read(item) for item in comma_list.items(text))
        except ValueError as error:
            raise ValueError(f"{_TRAFFIC}{name}: {error}") from error

    name = "includeOutboundIPRanges"
    everywhere = annotations.get(f"{_TRAFFIC}{name}", "*").strip() == "*"
    return Capture(
        None if everywhere else parts(name, _network),
        parts("includeOutboundPorts", _port),
        parts("excludeOutboundIPRanges", _network),
        parts("excludeOutboundPorts", _port),
        parts("excludeInterfaces", _interface),
    )


def _network(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text, strict=False)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _interface(text: str) -> str:
    if _INTERFACE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not the name of a network interface")
    return text
