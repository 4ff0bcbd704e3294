"""Which connections are handed to the application at all: decided before it is dialled.

Envoy's RBAC looks at a connection with its first bytes, and what a server says before its client does would
be heard by whoever it then refuses. So the same rules stand once more before what dials, as expressions (CEL)
that choose the address to dial: where the connection was going, or one at which nobody listens. They are
asked once the caller's certificate is known. What only the bytes tell is left to RBAC. Pure.
"""

from __future__ import annotations

import ipaddress
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.mesh.translate import messages as m

NAME: Final = "envoy.filters.network.set_filter_state"
NOBODY: Final = "0.0.0.0:0"
"""An address at which every connection is refused."""
ONWARDS: Final = "destination.address"
"""Where the connection was going, as expressions have it."""
_DIALLED: Final = "envoy.network.transport_socket.original_dst_address"
"""Filter state: what a cluster dials in place of the original destination. Envoy's own name for it."""
_KIND: Final = "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config"
_LENGTH_MAX: Final = 50_000
"""Envoy reads expressions of up to 100 000 characters."""
_OF_REQUESTS: Final = "envoy.filters.http."
_YES: Final = "true"
_NO: Final = "false"
_PEER: Final = "connection.uri_san_peer_certificate"
_NAME_ASKED: Final = "connection.requested_server_name"
_FROM: Final = "source.address"
_TO: Final = "destination.address"
_PLAIN: Final = frozenset(f"{string.ascii_letters}{string.digits} /:._-+*?^$()[]|@,=&<>#;~!")
_OCTET_BITS: Final = 8
_OCTET_MAX: Final = 255


def chooser(
    decides: Sequence[m.listener_components.Filter], *, has_identity: bool, onwards: str = ONWARDS
) -> m.listener_components.Filter | None:
    """What goes before the filters that decide about connections; None where they refuse none for sure.

    `has_identity`: the connections have certificates of their callers. `onwards`: an expression.
    """
    allowing: list[str] | None = None
    denying: list[str] = []
    for rules in _enforced(decides):
        policies = [rules.policies[name] for name in sorted(rules.policies)]
        if rules.action == m.rbac.RBAC.ALLOW:
            reader = _Reader(has_identity, unsure=True)
            allowing = [*(allowing or ()), *map(reader.policy, policies)]
        elif rules.action == m.rbac.RBAC.DENY:
            denying += map(_Reader(has_identity, unsure=False).policy, policies)
    denying = [each for each in denying if each != _NO]
    if allowing is None or _YES in allowing:
        if not denying:
            return None
        allowing = [_YES]
    # Each choice is made over the one before; what cannot be read chooses nothing, and the first is nobody.
    chosen = [_choice(each, onwards) for each in allowing if each != _NO]
    chosen += [_choice(each, _quoted(NOBODY)) for each in denying]
    return _filter([_state(NOBODY)], chosen, after_handshake=has_identity)


def after_the_handshake(proxy: m.tcp_proxy.TcpProxy) -> None:
    """Have what dials wait for the handshake, and read nothing meanwhile."""
    proxy.upstream_connect_mode = m.tcp_proxy.ON_DOWNSTREAM_TLS_HANDSHAKE
    proxy.max_early_data_bytes.value = 0


def _enforced(decides: Iterable[m.listener_components.Filter]) -> Iterator[m.rbac.RBAC]:
    for each in decides:
        config = m.network_rbac.RBAC()
        if each.typed_config.Unpack(config) and config.HasField("rules"):
            yield config.rules


def _filter(
    first: list[Mapping[str, Any]], chosen: list[Mapping[str, Any]], *, after_handshake: bool
) -> m.listener_components.Filter:
    config = m.typed_struct.TypedStruct(type_url=_KIND)
    if after_handshake:
        config.value.update({"on_new_connection": first, "on_downstream_tls_handshake": chosen})
    else:
        config.value.update({"on_new_connection": first + chosen})
    return m.listener_components.Filter(name=NAME, typed_config=m.any_of(config))


def _state(text: str) -> Mapping[str, Any]:
    return {
        "object_key": _DIALLED,
        "skip_if_empty": True,
        "format_string": {"text_format_source": {"inline_string": text}},
    }


def _choice(expression: str, address: str) -> Mapping[str, Any]:
    return _state(f"%CEL({expression} ? {address} : '')%")


class _Reader:
    """Writes what RBAC asks of connections as expressions."""

    def __init__(self, has_identity: bool, *, unsure: bool) -> None:
        """`unsure`: what is written for a policy of which something is not known yet."""
        self._has_identity = has_identity
        self._unsure = unsure

    def policy(self, policy: m.rbac.Policy) -> str:
        permissions = _any(self._permission(each, self._unsure) for each in policy.permissions)
        principals = _any(self._principal(each, self._unsure) for each in policy.principals)
        written = _all((permissions, principals))
        return written if len(written) <= _LENGTH_MAX else _constant(self._unsure)

    def _permission(self, asked: m.rbac.Permission, unsure: bool) -> str:
        kind = asked.WhichOneof("rule")
        match kind:
            case "any":
                return _YES
            case "and_rules":
                return _all(self._permission(each, unsure) for each in asked.and_rules.rules)
            case "or_rules":
                return _any(self._permission(each, unsure) for each in asked.or_rules.rules)
            case "not_rule":
                return _not(self._permission(asked.not_rule, not unsure))
            case "destination_ip":
                return _within(_TO, asked.destination_ip)
            case "destination_port":
                return f"destination.port == {asked.destination_port}"
            case "requested_server_name":
                return _text(_NAME_ASKED, asked.requested_server_name)
            case "sourced_metadata" if _is_of_requests(asked.sourced_metadata):
                return _NO
        return _constant(unsure)

    def _principal(self, asked: m.rbac.Principal, unsure: bool) -> str:
        kind = asked.WhichOneof("identifier")
        match kind:
            case "any":
                return _YES
            case "and_ids":
                return _all(self._principal(each, unsure) for each in asked.and_ids.ids)
            case "or_ids":
                return _any(self._principal(each, unsure) for each in asked.or_ids.ids)
            case "not_id":
                return _not(self._principal(asked.not_id, not unsure))
            case "direct_remote_ip" | "remote_ip":
                return _within(_FROM, getattr(asked, kind))
            case "authenticated":
                return _text(_PEER, asked.authenticated.principal_name) if self._has_identity else _NO
            case "sourced_metadata" if _is_of_requests(asked.sourced_metadata):
                return _NO
        return _constant(unsure)


def _is_of_requests(noted: m.rbac.SourcedMetadata) -> bool:
    """Whether it is noted of requests alone."""
    return noted.metadata_matcher.filter.startswith(_OF_REQUESTS)


# Expressions


def _constant(value: bool) -> str:
    return _YES if value else _NO


def _all(parts: Iterable[str]) -> str:
    listed = list(dict.fromkeys(each for each in parts if each != _YES))
    if _NO in listed:
        return _NO
    return f"({' && '.join(listed)})" if len(listed) > 1 else "".join(listed) or _YES


def _any(parts: Iterable[str]) -> str:
    listed = list(dict.fromkeys(each for each in parts if each != _NO))
    if _YES in listed:
        return _YES
    return f"({' || '.join(listed)})" if len(listed) > 1 else "".join(listed) or _NO


def _not(part: str) -> str:
    return {_YES: _NO, _NO: _YES}.get(part) or f"!({part})"


def _quoted(text: str) -> str:
    """A literal; `%` would end the variable that the expression stands in."""
    return "'" + "".join(each if each in _PLAIN else _escaped(each) for each in text) + "'"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\U{code:08x}"


def _text(attribute: str, matcher: m.strings.StringMatcher) -> str:
    kind = matcher.WhichOneof("match_pattern") or "exact"
    if kind == "safe_regex":
        return _matches(attribute, f"^(?:{matcher.safe_regex.regex})$")
    value = _quoted(getattr(matcher, kind))
    return _OF_TEXT[kind](attribute, value)


_OF_TEXT: Final[Mapping[str, Callable[[str, str], str]]] = {
    "exact": lambda attribute, value: f"{attribute} == {value}",
    "prefix": lambda attribute, value: f"{attribute}.startsWith({value})",
    "suffix": lambda attribute, value: f"{attribute}.endsWith({value})",
    "contains": lambda attribute, value: f"{attribute}.contains({value})",
}


def _matches(attribute: str, pattern: str) -> str:
    return f"{attribute}.matches({_quoted(pattern)})"


def _within(attribute: str, block: m.address.CidrRange) -> str:
    """An address with its port is of a network; listeners of pods have IPv4 alone."""
    network = ipaddress.ip_network(f"{block.address_prefix}/{block.prefix_len.value}", strict=False)
    if not isinstance(network, ipaddress.IPv4Network):
        return _NO
    whole, rest = divmod(network.prefixlen, _OCTET_BITS)
    octets = list(network.network_address.packed)
    if not network.prefixlen:
        return _YES
    start = "".join(f"{octet}." for octet in octets[:whole])
    if whole == len(octets):
        return f"{attribute}.startsWith({_quoted(f'{start[:-1]}:')})"
    if not rest:
        return f"{attribute}.startsWith({_quoted(start)})"
    least = octets[whole]
    most = least | (_OCTET_MAX >> rest)
    between = "|".join(map(str, range(least, most + 1)))
    return _matches(attribute, f"^{start.replace('.', '[.]')}(?:{between})[.:]")
