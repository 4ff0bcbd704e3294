"""The page that is made of a JUnit file of Kubernetes' e2e suite."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/conformance_report.py"
JUNIT = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="7" failures="2" errors="1">
  <testsuite name="Kubernetes e2e suite" tests="7" failures="2" errors="1">
    <testcase name="[SynchronizedBeforeSuite]" status="passed" time="1"></testcase>
    <testcase name="[It] [sig-api-machinery] Watchers should start from a version [Conformance]"
      status="passed"/>
    <testcase name="[It] [sig-apps] Job should run a job to completion [Conformance]" status="timedout">
      <failure message="no pod of the job: a | b&#xA;goroutine 1" type="timedout">trace</failure>
    </testcase>
    <testcase name="[It] [sig-apps] StatefulSet should scale [Slow] [Conformance]" status="panicked">
      <error message="it panicked" type="panicked">trace</error>
    </testcase>
    <testcase name="[It] [sig-storage] CSI Volumes should be resized" status="skipped">
      <skipped message="skipped"></skipped>
    </testcase>
    <testcase name="[It] a specification of nobody" status="pending"/>
    <testcase name="[SynchronizedAfterSuite]" status="failed"><failure message="not ended"/></testcase>
  </testsuite>
</testsuites>
"""
REASONS = (
    '[reasons]\n"[sig-apps]" = "no controller"\n"[sig-apps] Job" = "Jobs are not run"\n"Suite" = "ours"\n'
)
PAGE = r"""|  | passed | failed | not run |
| --- | --- | --- | --- |
| sig-api-machinery | 1 | 0 | 0 |
| sig-apps | 0 | 2 | 0 |
| all | 1 | 2 | 0 |

## sig-api-machinery

| Title | Outcome | Why |
| --- | --- | --- |
| Watchers should start from a version | passed |  |

## sig-apps

| Title | Outcome | Why |
| --- | --- | --- |
| Job should run a job to completion | failed | no pod of the job: a \| b |
| StatefulSet should scale | failed | no controller yet |
"""


BRIEF = r"""|  | passed | failed | not run |
| --- | --- | --- | --- |
| sig-api-machinery | 1 | 0 | 0 |
| sig-apps | 0 | 2 | 0 |
| all | 1 | 2 | 0 |

|  | Title | Outcome | Why |
| --- | --- | --- | --- |
| sig-apps | Job should run a job to completion | failed | no pod of the job: a \| b |
| sig-apps | StatefulSet should scale | failed | no controller yet |
"""


@pytest.fixture(scope="module")
def report() -> ModuleType:
    """`scripts/conformance_report.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("conformance_report", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_every_specification_has_one_outcome(report: ModuleType) -> None:
    """Errors are failures, pending ones were not run; steps of the suite count when they fail."""
    outcomes = {(each.sig, each.name): each.outcome for each in report.specifications(JUNIT)}
    assert outcomes == {
        ("sig-api-machinery", "Watchers should start from a version"): "passed",
        ("sig-apps", "Job should run a job to completion"): "failed",
        ("sig-apps", "StatefulSet should scale"): "failed",
        ("sig-storage", "CSI Volumes should be resized"): "not run",
        ("no sig", "a specification of nobody"): "not run",
        ("no sig", "[SynchronizedAfterSuite]"): "failed",
    }


def test_the_page_counts_by_sig_and_names_every_title(
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Failures come first; a message stands where no reason does, and a failure without a reason is told."""
    (tmp_path / "junit.xml").write_text(JUNIT, encoding="utf-8")
    (tmp_path / "why.toml").write_text('[reasons]\n"StatefulSet" = "no controller yet"\n', encoding="utf-8")
    options = [
        "--junit",
        str(tmp_path / "junit.xml"),
        "--reasons",
        str(tmp_path / "why.toml"),
        "--conformance",
    ]
    assert report.main([*options, "--out", str(tmp_path / "page.md")]) == 1
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == PAGE
    captured = capsys.readouterr()
    assert captured.err == "no reason: [sig-apps] Job should run a job to completion [Conformance]\n"
    assert captured.out == ""
    report.main(options)
    assert capsys.readouterr().out == PAGE
    report.main([*options, "--brief"])
    assert capsys.readouterr().out == BRIEF


def test_with_a_reason_for_every_failure_it_succeeds(report: ModuleType, tmp_path: Path) -> None:
    """The longest part of a title that a reason is written for is the one that counts."""
    (tmp_path / "junit.xml").write_text(JUNIT, encoding="utf-8")
    (tmp_path / "why.toml").write_text(REASONS, encoding="utf-8")
    options = ["--junit", str(tmp_path / "junit.xml"), "--reasons", str(tmp_path / "why.toml")]
    assert report.main([*options, "--out", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| Job should run a job to completion | failed | Jobs are not run |" in text
    assert "| StatefulSet should scale | failed | no controller |" in text


def test_parts_of_the_suite_are_one_result(report: ModuleType) -> None:
    """What one part skipped and another ran is what that one says; a failure anywhere is a failure."""
    first = [report.Specification("a", "not run"), report.Specification("b", "passed")]
    second = [report.Specification("b", "failed", "why"), report.Specification("a", "passed")]
    assert report.merged([first, second]) == [
        report.Specification("a", "passed"),
        report.Specification("b", "failed", "why"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("junit", "no xml", "is not XML"),
        ("junit", "<html/>", "is not JUnit: its root is <html>"),
        ("reasons", "reasons = 1", "needs a table [reasons]"),
        ("reasons", "[reasons]\na = 1", "needs a table [reasons]"),
        ("reasons", "[", "at end of document"),
    ],
)
def test_a_wrong_file_is_named(  # noqa: PLR0917 - fixtures and a row
    report: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    """Neither a result nor reasons are made up: the exit status is 2, and the file and its fault are told."""
    files = {"junit": tmp_path / "junit.xml", "reasons": tmp_path / "why.toml"}
    files["junit"].write_text(JUNIT, encoding="utf-8")
    files["reasons"].write_text("[reasons]\n", encoding="utf-8")
    files[name].write_text(text, encoding="utf-8")
    assert report.main([part for key, path in files.items() for part in (f"--{key}", str(path))]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{files[name]}: ")
    assert message in error
