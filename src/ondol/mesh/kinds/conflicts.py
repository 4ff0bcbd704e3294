"""VirtualServices that have a host in common between pods (IST0109).

Istio leaves open which of them holds. Here one does for each caller: its own namespace's, else that of the
host's owner, the oldest first; so the finding says that another mesh may choose otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ondol.mesh.kinds.kind import Finding
from ondol.mesh.translate import hosts, matches
from ondol.mesh.translate.registry import Registry, VirtualService
from ondol.mesh.translate.rules import SPEECHES

_EVERYBODY = "*"
_Scoped: TypeAlias = tuple[str, str, str]
"""Whose calls, what they speak, and to which host."""


def findings(listed: Sequence[VirtualService], registry: Registry) -> Iterator[Finding]:
    heard: dict[_Scoped, list[VirtualService]] = {}
    for rule in sorted(listed, key=lambda rule: rule.age):
        if matches.MESH not in matches.gateway_names(rule.spec.gateways, rule.namespace):
            continue
        names = dict.fromkeys(registry.qualified(host, rule.namespace) for host in rule.spec.hosts)
        for scope in _scopes(rule):
            for of in SPEECHES:
                if getattr(rule.spec, of):
                    for name in names:
                        heard.setdefault((scope, of, name), []).append(rule)
    yield from dict.fromkeys(
        finding for scoped, members in heard.items() for finding in _together(scoped, members, heard)
    )


def _scopes(rule: VirtualService) -> tuple[str, ...]:
    """The namespaces whose callers hear it."""
    names = {rule.namespace if name == "." else name for name in rule.spec.export_to} - {"~"}
    is_for_all = not rule.spec.export_to or _EVERYBODY in names
    return (_EVERYBODY,) if is_for_all else tuple(sorted(names))


def _together(
    scoped: _Scoped, members: list[VirtualService], heard: dict[_Scoped, list[VirtualService]]
) -> Iterator[Finding]:
    """Those of one host and scope; in that of one namespace those of everybody are heard, too."""
    scope, of, host = scoped
    if scope != _EVERYBODY:
        patterns = hosts.patterns(host, wildcards=True)
        others = (heard.get((_EVERYBODY, of, name), ()) for name in patterns)
        members = members + [rule for rules in others for rule in rules]
    if len(members) > 1:
        names = ", ".join(f"{rule.namespace}/{rule.origin.name}" for rule in members)
        text = (
            f"the VirtualServices {names} have host {host} between pods: Istio leaves open which holds; here "
            "callers hear that of their own namespace, else that of the host's, the oldest first"
        )
        yield from (Finding(rule.origin, "IST0109", text) for rule in members)
