"""Lines of the proxy's access log, in JSON or in Istio's text, as values. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

_TEXT: Final = re.compile(
    r"\[(?P<time>[^\]]+)\] "
    r'"(?P<request>[^"]*)" (?P<code>\S+) (?P<flags>\S+) (?P<details>.*?) (?P<termination>\S+) '
    r'"(?P<failure>[^"]*)" (?P<received>\S+) (?P<sent>\S+) (?P<duration>\S+) (?P<service_time>\S+) '
    r'"(?P<forwarded>[^"]*)" "(?P<agent>[^"]*)" "(?P<id>[^"]*)" "(?P<authority>[^"]*)" "(?P<host>[^"]*)" '
    r"(?P<cluster>\S+) (?P<upstream_local>\S+) (?P<local>\S+) (?P<remote>\S+) (?P<sni>\S+) (?P<route>.*)"
)
_ABSENT: Final = ("-", "")
_INGRESS: Final = "/istio-ingressgateway"


@dataclass(frozen=True, slots=True)
class Line:
    """One call as the proxy saw it; what it did not know is empty."""

    text: str
    time: str = ""
    method: str = ""
    path: str = ""
    authority: str = ""
    code: int = 0
    """0 for connections, and where there was no answer."""
    flags: tuple[str, ...] = ()
    details: str = ""
    termination: str = ""
    failure: str = ""
    """Why the connection upstream failed."""
    duration_ms: str = ""
    upstream: str = ""
    """The address that was reached."""
    cluster: str = ""
    caller: str = ""
    """The address that called."""
    route: str = ""
    workload: str = ""
    """Whose line it is, as `namespace/name`; text lines do not say."""
    reporter: str = ""
    """`source` or `destination`, likewise."""


def parsed(text: str) -> Line | None:
    """None for what is no line of either form, such as one that was cut."""
    text = text.rstrip("\n")
    return _of_json(text) if text.startswith("{") else _of_text(text)


def is_of_ingress(line: Line) -> bool:
    """Whether the ingress gateway called."""
    return line.workload.endswith(_INGRESS)


def _of_json(text: str) -> Line | None:
    try:
        fields: dict[str, Any] = json.loads(text)
    except ValueError:
        return None

    def word(name: str) -> str:
        value = fields.get(name)
        return "" if value in (None, *_ABSENT) else str(value)

    return Line(
        text,
        time=word("start_time"),
        method=word("method"),
        path=word("path"),
        authority=word("authority"),
        code=_number(word("response_code")),
        flags=_flags(word("response_flags")),
        details=word("response_code_details"),
        termination=word("connection_termination_details"),
        failure=word("upstream_transport_failure_reason"),
        duration_ms=word("duration_ms"),
        upstream=word("upstream_host"),
        cluster=word("upstream_cluster"),
        caller=_host(word("downstream_remote_address")),
        route=word("route_name"),
        workload=word("workload"),
        reporter=word("reporter"),
    )


def _of_text(text: str) -> Line | None:
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    words = {name: "" if value in _ABSENT else value for name, value in match.groupdict().items()}
    method, _, rest = words["request"].partition(" ")
    path = rest.rpartition(" ")[0]
    return Line(
        text,
        time=words["time"],
        method="" if method == "-" else method,
        path="" if path == "-" else path,
        authority=words["authority"],
        code=_number(words["code"]),
        flags=_flags(words["flags"]),
        details=words["details"],
        termination=words["termination"],
        failure=words["failure"],
        duration_ms=words["duration"],
        upstream=words["host"],
        cluster=words["cluster"],
        caller=_host(words["remote"]),
        route=words["route"],
    )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _flags(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]") or address
