"""The words that Istio's objects are written in: which hosts, names, headers and durations are sound.

Each function returns what is wrong with a word, or nothing; the rules are those of Istio's own
validation (pkg/config/validation, 1.31).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from ondol.base import regexp
from ondol.contracts import ingress
from ondol.mesh.model import durations

_LABEL: Final = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_WILDCARD_LABEL: Final = re.compile(r"\*|(?:\*-?)?[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_LABEL_KEY: Final = re.compile(
    r"(?:[a-zA-Z0-9][-a-zA-Z0-9.]{0,252}/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PSEUDO: Final = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_VARIABLE: Final = re.compile(r"%%|%[A-Za-z0-9_]+(?:\((?:[^()\\]|\\.)*\))?(?::[0-9]+)?%")
_NAME: Final = re.compile(r"%([A-Za-z0-9_]+)")
_OF_EXCHANGE: Final = re.compile(
    r"REQ|RESP|TRAILER|(?:REQUEST|RESPONSE|DOWNSTREAM|UPSTREAM|BYTES|CONNECTION|GRPC|TLS)_?[A-Z0-9_]*"
    r"|(?:COMMON_)?DURATION|ROUNDTRIP_DURATION|START_TIME(?:_LOCAL)?|EMIT_TIME(?:_LOCAL)?"
    r"|PROTOCOL|PATH|QUERY_PARAMS?|ROUTE_NAME|VIRTUAL_CLUSTER_NAME|FILTER_CHAIN_NAME|TRACE_ID|STREAM_ID"
    r"|UNIQUE_ID|HOSTNAME|METADATA|(?:CLUSTER|DYNAMIC)_METADATA|FILTER_STATE|PER_REQUEST_STATE"
)
"""Variables that tell of the exchange. Others read the machine: `ENVIRONMENT`, `FILE_CONTENT`, `SECRET`."""
_MILLISECOND_NS: Final = 1_000_000
_HOST_MAX: Final = 255
_NAME_MAX: Final = 253
_STAT_PREFIX_MAX: Final = 63
_STAT_PREFIX: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{_STAT_PREFIX_MAX}}}")
_BACKSLASH: Final = re.compile(r"\\(.?)", re.DOTALL)
CLAIMS: Final = "@request.auth."
"""How the names begin by which rules look at a token's claims."""


def is_label(text: str) -> bool:
    """Whether it is one label of a DNS name, in either case."""
    return _LABEL.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether an object may have the name: labels of a DNS name, parted by dots."""
    return len(text) <= _NAME_MAX and all(map(is_label, text.split(".")))


def stat_prefix(text: str) -> str:
    """What requests are counted by: it stands in a statistic's name, whose parts dots would part."""
    if not text or _STAT_PREFIX.fullmatch(text):
        return ""
    return f"{text!r} is not a name of letters, digits, _ and -, of at most {_STAT_PREFIX_MAX}"


def substitution(pattern: str, replacement: str) -> str:
    r"""What is wrong with a rewrite by RE2, whose replacement names groups as \1; or nothing."""
    try:
        groups = regexp.groups(pattern)
    except ValueError as error:
        return f"{pattern!r} is no regular expression: {error}"
    for mark in _BACKSLASH.findall(replacement):
        if not (mark.isdigit() or mark == "\\"):
            return f"{replacement!r}: a backslash stands before a digit or another"
        if mark.isdigit() and int(mark) > groups:
            return f"{replacement!r} names group {mark}, and {pattern!r} has {groups}"
    return ""


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def labels(pairs: dict[str, str]) -> str:
    for key, value in pairs.items():
        if _LABEL_KEY.fullmatch(key) is None or _LABEL_VALUE.fullmatch(value) is None:
            return f"{key}: {value} is not a label"
    return ""


def domain(text: str) -> str:
    """A DNS name without a wildcard, of one label or more."""
    if not 0 < len(text) <= _HOST_MAX:
        return f"{text!r} is not a domain name"
    parts = text.split(".")
    if parts[-1].isdigit():
        return f"{text!r} is not a domain name: its last label is a number"
    if parts[-1] == "" and len(parts) > 1:
        parts.pop()
    bad = next((part for part in parts if not is_label(part)), None)
    return "" if bad is None else f"{text!r} is not a domain name: {bad!r} is not a label of one"


def host(text: str) -> str:
    """A DNS name whose first label may be or begin with `*`, or an address."""
    if is_address(text):
        return ""
    first, dot, rest = text.partition(".")
    if len(text) > _HOST_MAX or _WILDCARD_LABEL.fullmatch(first) is None:
        return f"{text!r} is not a host: {first!r} is not a label of a domain name"
    return domain(rest) if dot and rest else ""


def gateway_host(text: str) -> str:
    """`host` or `namespace/host` as a Gateway has them: in full, with `*` as the whole first label only."""
    namespace, slash, name = text.rpartition("/")
    if slash and namespace not in ("*", ".") and not is_label(namespace):
        return f"{text!r}: {namespace!r} is no namespace"
    if problem := host(name):
        return problem
    if name != "*" and "." not in name and not is_address(name):
        return f"{text!r}: a Gateway's hosts are names in full, or *"
    if "*" in name and name != "*" and not name.startswith("*."):
        return f"{text!r} may have * only as its first label"
    return ""


def gateway_name(text: str) -> str:
    """`namespace/name`, or a name of the rule's own namespace; or the one where TLS of Ingresses ends."""
    namespace, slash, name = text.partition("/")
    if text == ingress.HTTPS:
        return ""
    if not slash:
        return domain(text)
    return "" if is_label(namespace) and is_label(name) else f"{text!r} is no namespace/name of a Gateway"


def covers(first: str, second: str) -> bool:
    """Whether two hosts overlap: equal, or one inside the wildcard of the other."""
    first, second = first.lower(), second.lower()
    wildcards = [name.startswith("*") for name in (first, second)]
    if all(wildcards):
        return first.endswith(second[1:]) or second.endswith(first[1:])
    if any(wildcards):
        pattern, name = (first, second) if wildcards[0] else (second, first)
        return name.endswith(pattern[1:])
    return first == second


def matched_header(name: str) -> str:
    """A header, or a pseudo-header, that a match looks at."""
    return "" if name in _PSEUDO or _TOKEN.fullmatch(name) else f"{name!r} is not a header name"


def changed_header(name: str, *, of_request: bool) -> str:
    """A header that is set or added; of a request, that may be the one that names its host."""
    if name.lower() in ("host", ":authority"):
        return "" if of_request else f"{name!r} cannot be changed here"
    return "" if _TOKEN.fullmatch(name) else f"{name!r} is not a header name"


def header_value(text: str) -> str:
    """A value in which a per cent sign is doubled, or begins and ends a variable of the proxy's.

    The proxy is everybody's and runs as root, so its variables may tell of nothing but the exchange.
    """
    if _CONTROL.search(text) is not None:
        return f"{text!r} is not a header value"
    if "%" in _VARIABLE.sub("", text):
        return f"{text!r}: % begins a variable such as %PROTOCOL%; for the sign itself write %%"
    strange = strange_variable(text)
    return f"{text!r}: %{strange}% is no variable of a request or its answer" if strange else ""


def strange_variable(text: str) -> str:
    """The first variable in a text that tells of more than the exchange, or nothing."""
    names = (name[1] for match in _VARIABLE.finditer(text) if (name := _NAME.match(match[0])))
    return next((name for name in names if _OF_EXCHANGE.fullmatch(name) is None), "")


def duration(text: str) -> str:
    """At least a millisecond, in whole milliseconds."""
    try:
        nanoseconds = durations.nanoseconds(text)
    except ValueError as error:
        return str(error)
    if nanoseconds < _MILLISECOND_NS or nanoseconds % _MILLISECOND_NS:
        return f"{text} is not a time of whole milliseconds, of 1ms or more"
    return ""
