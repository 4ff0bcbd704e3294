"""One trace as a waterfall: a tree of spans, the time in each service, the waits between them.

Pure. A proxy's spans come in pairs: the request as the proxy took it, and inside it each attempt
to a service. The time between the two is a wait (a queue, a connection, a retry); the time inside
an attempt that no further span explains was spent in the service that was called.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ondol.observe.traces.spans import Span

_FULL, _HALF = "█", "▌"
_BAR_MIN: Final = 10


@dataclass(slots=True, eq=False)
class Node:
    """A span in its place; `self_ns` is what no child explains, `where` is who spent it."""

    span: Span
    children: list[Node] = field(default_factory=list)
    depth: int = 0
    self_ns: int = 0
    where: str = ""
    waiting: bool = False
    critical: bool = False
    orphan: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """How long one service worked, or how long was waited for it; nanoseconds."""

    service: str
    self_ns: int
    wait_ns: int
    calls: int


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Rows in the order to draw them, and the sums."""

    rows: Sequence[Node]
    shares: Sequence[Share]
    start_ns: int
    duration_ns: int


def waterfall(spans: Iterable[Span]) -> Waterfall:
    """Arrange the spans of one trace; `ValueError` if there are none.

    A span whose parent is missing becomes a root and is marked as an orphan.
    """
    nodes = {span.span_id: Node(span) for span in spans}
    if not nodes:
        raise ValueError("a trace has at least one span")
    roots = []
    for node in nodes.values():
        parent = nodes.get(node.span.parent_id)
        if parent is None or parent is node:
            node.orphan = bool(node.span.parent_id)
            roots.append(node)
        else:
            parent.children.append(node)
    rows: list[Node] = []
    placed: set[str] = set()
    # Those no root leads to form a ring: drawn from its earliest span, as orphans.
    for root in [*sorted(roots, key=_by_start), *sorted(nodes.values(), key=_by_start)]:
        if root.span.span_id not in placed:
            root.orphan = root.orphan or root not in roots
            _place(root, rows, placed)
    start_ns = min(node.span.start_ns for node in rows)
    end_ns = max(node.span.end_ns for node in rows)
    _mark_critical(max(roots or rows, key=lambda node: node.span.duration_ns))
    return Waterfall(rows, _shares(rows), start_ns, end_ns - start_ns)


def _by_start(node: Node) -> tuple[int, str]:
    return node.span.start_ns, node.span.span_id


def _place(root: Node, rows: list[Node], placed: set[str]) -> None:
    """Put a subtree into drawing order, without recursion: a trace may be deep, and even a ring."""
    waiting = [(root, 0)]
    while waiting:
        node, at = waiting.pop()
        if node.span.span_id in placed:
            continue
        placed.add(node.span.span_id)
        node.depth = at
        node.children.sort(key=_by_start)
        node.self_ns = node.span.duration_ns - _covered_ns(node)
        node.where, node.waiting = _where(node)
        rows.append(node)
        waiting += [(child, at + 1) for child in reversed(node.children)]


def _covered_ns(node: Node) -> int:
    """How much of a span its children cover; overlapping children count once, skew is clipped."""
    covered, upto = 0, node.span.start_ns
    for child in node.children:
        start = max(child.span.start_ns, upto)
        end = min(child.span.end_ns, node.span.end_ns)
        if end > start:
            covered += end - start
            upto = end
    return covered


def _where(node: Node) -> tuple[str, bool]:
    """Who spent a span's own time, and whether it was spent waiting for them."""
    attempts = [
        child for child in node.children if child.span.callee and child.span.service == node.span.service
    ]
    if node.span.callee:
        return node.span.callee, bool(attempts)
    if attempts:  # the proxy's outer span of a call
        return attempts[-1].span.callee, True
    return node.span.service, False


def _shares(rows: Sequence[Node]) -> list[Share]:
    self_ns: dict[str, int] = defaultdict(int)
    wait_ns: dict[str, int] = defaultdict(int)
    calls: dict[str, int] = defaultdict(int)
    for node in rows:
        if node.waiting:
            wait_ns[node.where] += node.self_ns
        else:
            self_ns[node.where] += node.self_ns
            calls[node.where] += 1
    services = set(self_ns) | set(wait_ns)
    shares = [Share(s, self_ns[s], wait_ns[s], calls[s]) for s in services]
    return sorted(shares, key=lambda share: (-share.self_ns - share.wait_ns, share.service))


def _mark_critical(root: Node) -> None:
    """Mark the spans that determined when the root ended: from its end, always the last to finish."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node.span.span_id in seen:
            continue
        seen.add(node.span.span_id)
        node.critical = True
        upto = node.span.end_ns
        for child in sorted(node.children, key=lambda c: c.span.end_ns, reverse=True):
            # One that outlasts its parent still counts; one that overlaps a later one held nothing up.
            if min(child.span.end_ns, node.span.end_ns) <= upto and child.span.start_ns < upto:
                waiting.append(child)
                upto = child.span.start_ns


def render(diagram: Waterfall, *, width: int = 100) -> list[str]:
    """Lines of text: a row a span with its bar, then the time in each service and the waits."""
    label_max = max(20, width // 2)
    labels = [_label(node, label_max // 2) for node in diagram.rows]
    label_width = min(max(map(cells, labels)), label_max)
    bar_width = max(_BAR_MIN, width - label_width - 14)
    lines = []
    for node, label in zip(diagram.rows, labels, strict=True):
        mark = "!" if node.span.error else ("*" if node.critical else " ")
        bar = _bar(node.span, diagram, bar_width)
        lines.append(f"{_fit(label, label_width)} {mark} {_ms(node.span.duration_ns):>9} {bar}".rstrip())
    lines += ["", f"{'service':<24} {'calls':>5} {'own time':>10} {'waited for it':>14}"]
    lines += [
        f"{_fit(printable(s.service), 24)} {s.calls:>5} {_ms(s.self_ns):>10} {_ms(s.wait_ns):>14}"
        for s in diagram.shares
    ]
    return [*lines, f"{'in all':<24} {'':>5} {_ms(diagram.duration_ns):>10}      (* critical path, ! error)"]


def printable(text: str) -> str:
    """Text from a span as a terminal may show it: what would steer the terminal is replaced."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in text)


def cells(text: str) -> int:
    """How many columns a terminal takes for it: two for each wide character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _fit(text: str, width: int) -> str:
    """The text in so many columns, cut or filled up."""
    if cells(text) > width:
        while cells(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - cells(text))


def _label(node: Node, indent_max: int) -> str:
    """The label of a row; deeper than there is room for, the depth is written as a number."""
    indent = "  " * node.depth
    if len(indent) > indent_max:
        depth = f"{node.depth}> "
        indent = " " * (indent_max - len(depth)) + depth
    return indent + printable(_title(node))


def _title(node: Node) -> str:
    callee = node.span.callee
    title = f"{node.span.service} → {callee}" if callee else f"{node.span.service} {node.span.name}"
    detail = str(node.span.attributes.get("http.url") or "") if node.depth == 0 else ""
    path = "/" + detail.split("/", 3)[3] if detail.count("/") >= 3 else ""
    return title + (f" {path}" if path else "") + (" (parent missing)" if node.orphan else "")


def _bar(span: Span, diagram: Waterfall, width: int) -> str:
    scale = width / max(diagram.duration_ns, 1)
    before = min(int((span.start_ns - diagram.start_ns) * scale), width - 1)
    length = span.duration_ns * scale
    return " " * before + (_FULL * min(round(length), width - before) or _HALF)


def _ms(ns: int) -> str:
    """A duration in nine columns or little more."""
    if ns < 1e9:
        return f"{ns / 1e6:.2f} ms"
    return f"{ns / 1e9:.2f} s" if ns < 1e13 else f"{ns / 1e9:.0f} s"
