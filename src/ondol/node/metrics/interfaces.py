"""Network counters: of the machine's own interfaces, and of pods by the host's ends of their cables.

One file tells of all: `/proc/net/dev`. What a pod's `eth0` sends, its port on the bridge receives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FILE: Final = Path("/proc/net/dev")
_OWN: Final = ("lo", "veth", "docker")
"""How interfaces begin that cAdvisor passes over."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What went one way."""

    bytes: int = 0
    packets: int = 0
    errors: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Interface:
    received: Flow
    transmitted: Flow

    @property
    def other_end(self) -> Interface:
        """The interface at the other end of the cable."""
        return Interface(self.transmitted, self.received)


def read(file: Path = _FILE) -> Mapping[str, Interface]:
    """All interfaces of the machine by name."""
    return parsed(file.read_text())


def parsed(text: str) -> Mapping[str, Interface]:
    """The content of `/proc/net/dev`: two lines of headings, then a line an interface."""
    interfaces = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        columns = [int(number) for number in numbers.split()]
        interfaces[name.strip()] = Interface(Flow(*columns[:4]), Flow(*columns[8:12]))
    return interfaces


def of_machine(interfaces: Mapping[str, Interface], instance: str) -> Mapping[str, Interface]:
    """The machine's own: without loopback and the ends of cables, this instance's among them."""
    hidden = (*_OWN, f"v{instance}")
    return {name: each for name, each in interfaces.items() if not name.startswith(hidden)}
