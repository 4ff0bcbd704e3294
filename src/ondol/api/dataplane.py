"""Which connections of a pod are turned to the proxy: Istio's annotations, validated and obeyed alike."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from ondol.base import comma_list

T = TypeVar("T")

_TRAFFIC: Final = "traffic.sidecar.istio.io/"
_OUTBOUND: Final = "includeOutboundIPRanges"
_INBOUND: Final = "includeInboundPorts"
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True, slots=True)
class Capture:
    """Which of a meshed pod's connections are redirected to the proxy, by Istio's annotations.

    What is excluded is let past; else a port of `ports` is taken wherever it leads, and other ports
    where they lead into `ranges`. What arrives is taken at `inbound_ports`, where the pod is guarded.
    """

    ranges: tuple[ipaddress.IPv4Network, ...] | None = None
    """None is every address."""
    ports: tuple[int, ...] = ()
    excluded_ranges: tuple[ipaddress.IPv4Network, ...] = ()
    excluded_ports: tuple[int, ...] = ()
    excluded_interfaces: tuple[str, ...] = ()
    inbound_ports: tuple[int, ...] | None = None
    """None is every port."""
    excluded_inbound_ports: tuple[int, ...] = ()


EVERYTHING: Final = Capture()


def capture(annotations: Mapping[str, str]) -> Capture:
    """What the annotations of a pod ask for; `ValueError` names the one that cannot be read."""

    def parts(name: str, read: Callable[[str], T]) -> tuple[T, ...]:
        text = annotations.get(f"{_TRAFFIC}{name}", "")
        try:
            return tuple(read(item) for item in comma_list.items(text))
        except ValueError as error:
            raise ValueError(f"{_TRAFFIC}{name}: {error}") from error

    def is_any(name: str) -> bool:
        return annotations.get(f"{_TRAFFIC}{name}", "*").strip() == "*"

    return Capture(
        None if is_any(_OUTBOUND) else parts(_OUTBOUND, _network),
        parts("includeOutboundPorts", _port),
        parts("excludeOutboundIPRanges", _network),
        parts("excludeOutboundPorts", _port),
        parts("excludeInterfaces", _interface),
        None if is_any(_INBOUND) else parts(_INBOUND, _port),
        parts("excludeInboundPorts", _port),
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
