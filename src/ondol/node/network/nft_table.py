"""A table of nftables as a value: sets, maps, chains. Pure.

A table is put in place whole, or by what differs from the one before: both lead to the same, but for what
packets themselves have put into timed sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ondol.node.network import rules

Elements = Mapping[str, str]
"""By key; the value is a map's verdict, empty in a set."""
_TIMED_MAX: Final = 65535
"""How many elements a timed set has at the most; beyond, packets add none."""


@dataclass(frozen=True, slots=True)
class Table:
    """What may differ between tables of one name; the chains of the kernel's hooks are always the same."""

    name: str
    """With its family: `ip ondol-a1b2c3-services`."""
    sets: Mapping[str, str]
    """The types of the sets and maps by name: `ipv4_addr`, `ipv4_addr : verdict`."""
    elements: Mapping[str, Elements]
    """By the name of the set or map."""
    chains: Mapping[str, tuple[str, ...]]
    """The rules in each chain; a chain stands behind those that it leads to."""
    hooks: str
    """The chains of the kernel's hooks, as they are written."""
    timed: Mapping[str, int] = field(default_factory=dict)
    """Sets of addresses that packets fill, with the seconds that one stays; a whole table has them empty."""


def whole(table: Table) -> str:
    """The batch that puts the table in place, whatever was there before."""
    body = [
        *(_set(table, name) for name in table.sets),
        *(f"  set {name} {{ {_timed(seconds)} }}\n" for name, seconds in table.timed.items()),
        *(_chain(chain, lines) for chain, lines in table.chains.items()),
        table.hooks,
    ]
    return rules.replaced(table.name, "".join(body))


def _set(table: Table, name: str) -> str:
    elements = table.elements[name]
    inside = f"    elements = {{ {_listed(elements)} }}\n" if elements else ""
    return f"  {_noun(table, name)} {name} {{\n    type {table.sets[name]}\n{inside}  }}\n"


def _timed(seconds: int) -> str:
    return f"type ipv4_addr; size {_TIMED_MAX}; flags dynamic,timeout; timeout {seconds}s;"


def _noun(table: Table, name: str) -> str:
    return "map" if table.sets[name].endswith("verdict") else "set"


def _chain(name: str, lines: tuple[str, ...]) -> str:
    return f"  chain {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def _listed(elements: Elements) -> str:
    return ", ".join(f"{key} : {verdict}" if verdict else key for key, verdict in elements.items())


def difference(old: Table, new: Table) -> str:
    """The batch that makes the old table of that name the new one; empty when they are the same.

    nftables refuses an element or rule that leads to no chain, and the end of a chain or set that is used:
    they come before what uses them and go after it. An element whose verdict changes is deleted and added.
    """
    gone = [chain for chain in reversed(list(old.chains)) if chain not in new.chains]
    return "".join(
        [
            *(
                f"add {_noun(new, name)} {new.name} {name} {{ type {new.sets[name]}; }}\n"
                for name in new.sets
                if name not in old.sets
            ),
            *(
                f"add set {new.name} {name} {{ {_timed(seconds)} }}\n"
                for name, seconds in new.timed.items()
                if name not in old.timed
            ),
            *(f"add chain {new.name} {chain}\n" for chain in new.chains if chain not in old.chains),
            *_filled(old, new),
            *_deleted(old, new),
            *_added(old, new),
            *(f"flush chain {new.name} {chain}\n" for chain in gone),
            *(f"delete chain {new.name} {chain}\n" for chain in gone),
            *(f"delete {_noun(old, name)} {new.name} {name}\n" for name in old.sets if name not in new.sets),
            *(f"delete set {new.name} {name}\n" for name in old.timed if name not in new.timed),
        ]
    )


def _filled(old: Table, new: Table) -> Iterator[str]:
    for chain, lines in new.chains.items():
        before = old.chains.get(chain)
        if before == lines:
            continue
        if before is not None:
            yield f"flush chain {new.name} {chain}\n"
        yield from (f"add rule {new.name} {chain} {line}\n" for line in lines)


def _deleted(old: Table, new: Table) -> Iterator[str]:
    for name in old.sets:
        if (after := new.elements.get(name)) is None:
            continue
        if keys := [key for key, verdict in old.elements[name].items() if after.get(key) != verdict]:
            yield f"delete element {new.name} {name} {{ {', '.join(keys)} }}\n"


def _added(old: Table, new: Table) -> Iterator[str]:
    for name in new.sets:
        before = old.elements.get(name, {})
        elements = {key: verdict for key, verdict in new.elements[name].items() if before.get(key) != verdict}
        if elements:
            yield f"add element {new.name} {name} {{ {_listed(elements)} }}\n"
