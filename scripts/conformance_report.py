"""Turn the result of Kubernetes' e2e suite into a page: what passed, what failed and why, what was not run.

    python scripts/conformance_report.py --junit FILE [--reasons FILE] [--conformance] [--brief] [--out FILE]

FILE is what `e2e.test --report-dir` writes (JUnit, by Ginkgo: a `testcase` for each specification, with a
`status`, and `failure`, `error` or `skipped` in it). `--junit` may be given again, where the suite was run
in parts: a specification is what the part that ran it tells, and failed if it did in any. The file of
reasons is TOML: a table `reasons` of titles, or parts of titles, each with one line that tells why it fails
or is not run; the longest part that fits a title counts. With `--conformance` only what a conformant
cluster must pass counts. With `--brief` what passed is in the numbers alone. Markdown goes to standard
output, or to the file of `--out`. The exit status is 1 if a failure has no reason, 2 for a wrong file.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_RUN: Final = "not run"
OUTCOMES: Final = (PASSED, FAILED, NOT_RUN)
CONFORMANCE: Final = "[Conformance]"
NO_SIG: Final = "no sig"
_GINGKO_NOT_RUN: Final = frozenset({"skipped", "pending"})
_NODE: Final = re.compile(r"\[([A-Za-z]+)\]")
_SIG: Final = re.compile(r"\[(sig-[a-z-]+)\]")
_LABEL: Final = re.compile(r"\s*\[[^\]]*\]")
_MESSAGE_LENGTH: Final = 160
Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Specification:
    """One specification of the suite: its title, what became of it, and the first line of its message."""

    title: str
    outcome: str
    message: str = ""

    @property
    def sig(self) -> str:
        """The special interest group that owns it, as its title says."""
        label = _SIG.search(self.title)
        return label.group(1) if label else NO_SIG

    @property
    def name(self) -> str:
        """Its title without labels; a step of the suite is nothing but a label."""
        return _LABEL.sub("", self.title).strip() or self.title


def specifications(document: str) -> list[Specification]:
    """The specifications of a JUnit document; `ValueError` if it is none."""
    try:
        root = ET.fromstring(document)  # noqa: S314 - the file is the user's own
    except ET.ParseError as error:
        raise ValueError(f"is not XML: {error}") from error
    if root.tag not in {"testsuites", "testsuite"}:
        raise ValueError(f"is not JUnit: its root is <{root.tag}>")
    return [_specification(case) for case in root.iter("testcase") if _is_specification(case)]


def _is_specification(case: ET.Element) -> bool:
    """Whether it is a specification, or a step of the suite itself that failed; others are no titles."""
    node = _NODE.match(case.get("name", ""))
    return node is None or node.group(1) == "It" or _outcome(case) == FAILED


def _specification(case: ET.Element) -> Specification:
    title = case.get("name", "").removeprefix("[It]").strip()
    return Specification(title, _outcome(case), _message(case))


def _outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
    if case.find("skipped") is not None or case.get("status") in _GINGKO_NOT_RUN:
        return NOT_RUN
    return PASSED


def _message(case: ET.Element) -> str:
    """The first line of what a specification says of itself, cut to a cell of a table."""
    for tag in ("failure", "error", "skipped"):
        part = case.find(tag)
        if part is not None:
            lines = (part.get("message") or part.text or "").strip().splitlines()
            return lines[0].strip()[:_MESSAGE_LENGTH] if lines else ""
    return ""


def merged(parts: Iterable[Sequence[Specification]]) -> list[Specification]:
    """One outcome a title: a failure in any part, else a success in any, else not run; in order of titles."""
    rank = {FAILED: 0, PASSED: 1, NOT_RUN: 2}
    best: dict[str, Specification] = {}
    for specification in (each for part in parts for each in part):
        other = best.get(specification.title)
        if other is None or rank[specification.outcome] < rank[other.outcome]:
            best[specification.title] = specification
    return [best[title] for title in sorted(best)]


def reason(specification: Specification, reasons: Mapping[str, str]) -> str:
    """Why it failed or was not run: of the parts that its title contains, the longest; "" without one."""
    parts = [part for part in reasons if part in specification.title]
    return reasons[max(parts, key=len)] if parts else ""


def page(specifications: Sequence[Specification], reasons: Mapping[str, str]) -> str:
    """The page: a table of numbers by sig, then for each sig its titles, failures first."""
    sigs = sorted({specification.sig for specification in specifications})
    sections = [_numbers(specifications, sigs)]
    for sig in sigs:
        own = [specification for specification in specifications if specification.sig == sig]
        sections.append(f"## {sig}\n\n{_titles(own, reasons)}")
    return "\n\n".join(sections) + "\n"


def brief_page(specifications: Sequence[Specification], reasons: Mapping[str, str]) -> str:
    """The numbers, and one table of what did not pass."""
    sigs = sorted({specification.sig for specification in specifications})
    rows = [
        [each.sig, each.name, each.outcome, _why(each, reasons)]
        for each in sorted(specifications, key=lambda each: (each.sig, each.outcome, each.name))
        if each.outcome != PASSED
    ]
    return f"{_numbers(specifications, sigs)}\n\n{_table(['', 'Title', 'Outcome', 'Why'], rows)}\n"


def _numbers(specifications: Sequence[Specification], sigs: Sequence[str]) -> str:
    counted = Counter((specification.sig, specification.outcome) for specification in specifications)
    rows = [[sig, *(str(counted[sig, outcome]) for outcome in OUTCOMES)] for sig in sigs]
    totals = [str(sum(counted[sig, outcome] for sig in sigs)) for outcome in OUTCOMES]
    return _table(["", *OUTCOMES], [*rows, ["all", *totals]])


def _titles(specifications: Sequence[Specification], reasons: Mapping[str, str]) -> str:
    order = (FAILED, NOT_RUN, PASSED)
    rows = [
        [specification.name, specification.outcome, _why(specification, reasons)]
        for specification in sorted(specifications, key=lambda each: (order.index(each.outcome), each.name))
    ]
    return _table(["Title", "Outcome", "Why"], rows)


def _why(specification: Specification, reasons: Mapping[str, str]) -> str:
    return "" if specification.outcome == PASSED else reason(specification, reasons) or specification.message


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def unexplained(specifications: Sequence[Specification], reasons: Mapping[str, str]) -> list[Specification]:
    """The failures for which no reason is written down."""
    return [each for each in specifications if each.outcome == FAILED and not reason(each, reasons)]


def reasons_of(document: str) -> dict[str, str]:
    """The table of reasons of a TOML document; `ValueError` if it is none."""
    table = tomllib.loads(document).get("reasons")
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ValueError("needs a table [reasons] with a text for each title")
    return table


def _read(path: Path, parse: Callable[[str], Content]) -> Content:
    """What a file has in it; `ValueError` that names the file if it cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--junit", type=Path, action="append", required=True, help="result of the suite; repeatable"
    )
    parser.add_argument("--reasons", type=Path, help="TOML with a table [reasons]: part of a title -> why")
    parser.add_argument("--conformance", action="store_true", help=f"only titles with {CONFORMANCE}")
    parser.add_argument("--brief", action="store_true", help="list only what did not pass")
    parser.add_argument("--out", type=Path, help="where the page goes; standard output by default")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; the exit status is in the module's docstring."""
    options = _arguments(arguments)
    try:
        parts = [_read(path, specifications) for path in options.junit]
        reasons = _read(options.reasons, reasons_of) if options.reasons else {}
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    results = [each for each in merged(parts) if not options.conformance or CONFORMANCE in each.title]
    write_page = brief_page if options.brief else page
    _write(write_page(results, reasons), options.out)
    missing = unexplained(results, reasons)
    sys.stderr.writelines(f"no reason: {specification.title}\n" for specification in missing)
    return 1 if missing else 0


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
