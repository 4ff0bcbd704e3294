"""Keeps the repository tidy: what a reader counts on and no other check sees."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import ondol

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
FOLDERS: Final = (".ci", "benchmarks", "docs", "examples", "scripts", "src", "tests")
IGNORED: Final = {"__pycache__", "results", ".hypothesis", ".mypy_cache", ".ruff_cache"}
LINE_MAX: Final = 110
FILE_LINES: Final = 600
FUNCTION_LINES: Final = 60
LONG: Final[dict[str, str]] = {}
"""Files, and functions as `file:name`, that may be longer, each with the reason."""
# Written in two halves, so that this file does not contain what it forbids.
FORBIDDEN: Final = (
    r"(?<![\w.~-])/wo" + r"rk/",
    r"\bTO" + r"DO\b",
    r"\bFIX" + r"ME\b",
    r"\bpypi\." + r"org\b",
    r"\bpython" + r"hosted\b",
    r"--(?:extra-)?index" + r"-url",
)
_PRAGMA: Final = re.compile(r"\s+# (?:noqa|type: ignore).*$")
_LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@cache
def tracked() -> tuple[Path, ...]:
    """What people wrote, found without git: a copy of the sources is tested like a checkout."""
    # Where a repository has several work trees, `.git` is a file of git's own.
    paths = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for folder in FOLDERS:
        for place, folders, names in os.walk(ROOT / folder):
            folders[:] = sorted(set(folders) - IGNORED)
            paths += [Path(place) / name for name in names]
    return tuple(sorted(path for path in paths if path.suffix not in {".pyc", ".so"}))


@cache
def python_files() -> tuple[Path, ...]:
    return tuple(path for path in tracked() if path.suffix == ".py" and not path.name.endswith("_pb2.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def generator() -> ModuleType:
    """`scripts/generate_docs.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts/generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file people write; lock files and generated tables are left out."""
    for path in tracked():
        name = relative(path)
        if name.startswith(("requirements/", "src/ondol/api/facts/")):
            continue
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_every_package_and_module_says_what_it_is() -> None:
    """Each module of the source, of tests, examples, scripts and benchmarks begins with a docstring."""
    silent = [relative(path) for path in python_files() if not ast.get_docstring(tree(path))]
    assert silent == []


def test_every_package_of_the_source_is_one() -> None:
    """Each folder with modules has an `__init__.py`, or nobody could say what it is for."""
    folders = {path.parent for path in python_files() if path.is_relative_to(ROOT / "src")}
    assert [relative(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_test_says_its_behaviour() -> None:
    """Each test function has a docstring of one line."""
    wrong = []
    for path in python_files():
        if path.is_relative_to(ROOT / "tests"):
            for node in ast.walk(tree(path)):
                is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                    "test_"
                )
                if is_test and not ast.get_docstring(node):  # type: ignore[arg-type]  # checked above
                    wrong.append(f"{relative(path)}: {node.name}")  # type: ignore[attr-defined]  # likewise
    assert wrong == []


def test_test_files_have_names_of_their_own() -> None:
    """Test folders are not packages, so two files of one name would be one module."""
    seen: dict[str, str] = {}
    twice = []
    for path in python_files():
        if path.name.startswith("test_"):
            twice += [f"{relative(path)} and {seen[path.name]}"] if path.name in seen else []
            seen[path.name] = relative(path)
    assert twice == []


def test_python_files_have_no_tabs_no_trailing_spaces_and_no_long_lines() -> None:
    """A diff shows only what was meant."""
    wrong = [
        f"{relative(path)}:{number}"
        for path in python_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
        if "\t" in line or line != line.rstrip() or is_long(line)
    ]
    assert wrong == []


def is_long(line: str) -> bool:
    """As the linter counts: without its own marks, and not where a line could not be broken."""
    counted = _PRAGMA.sub("", line)
    return len(counted) > LINE_MAX and " " in counted.strip() and "noqa: E501" not in line


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_no_word_of_this_machine_or_of_later(pattern: str) -> None:
    """No path of a developer's machine, no package index, no note to do something later."""
    places = [
        f"{relative(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path, text in texts()
        for match in re.finditer(pattern, text)
    ]
    assert places == []


def test_no_empty_file_lies_about() -> None:
    """Nothing is kept that holds nothing (a marker of typing aside)."""
    empty = [relative(path) for path in tracked() if path.stat().st_size == 0 and path.name != "py.typed"]
    assert empty == []


def test_every_decision_is_listed() -> None:
    """The index of decisions names each record, and each has the parts of one."""
    index = (DOCS / "decisions/README.md").read_text(encoding="utf-8")
    records = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    assert records
    assert [path.name for path in records if f"({path.name})" not in index] == []
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert {"## Context", "## Decision", "## Consequences"} <= set(text.splitlines()), path.name


def test_every_page_is_in_the_index() -> None:
    """`docs/README.md` links to each page beside it."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [path.name for path in sorted(DOCS.glob("*.md")) if path.name != "README.md"]
    assert [name for name in pages if f"({name})" not in index] == []


def test_links_lead_somewhere() -> None:
    """Each relative link in a page names a file of the repository."""
    broken = []
    for path in tracked():
        if path.suffix != ".md":
            continue
        for link in _LINK.findall(path.read_text(encoding="utf-8")):
            place = link.partition("#")[0]
            if place and "://" not in place and not (path.parent / place).exists():
                broken.append(f"{relative(path)}: {link}")
    assert broken == []


def test_the_files_of_the_walk_are_there() -> None:
    """Each path under the source that the page about the architecture names exists."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)+\.py)`", page)) - {"tests/test_repository.py"}
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / "src/ondol" / name).exists()] == []


def test_readmes_have_the_same_parts() -> None:
    """The Korean README has as many sections, tables and commands as the English one."""

    def parts(name: str) -> tuple[int, int, int]:
        text = (ROOT / name).read_text(encoding="utf-8")
        lines = text.splitlines()
        rows = sum(line.startswith("| ") for line in lines)
        return sum(line.startswith("## ") for line in lines), rows, text.count("```")

    assert parts("README.md") == parts("README.ko.md")


def test_every_setting_is_explained() -> None:
    """Each field of `Settings` has a docstring, which is what the documentation prints."""
    fields = generator().setting_fields()
    assert len(fields) > 5
    assert [field.name for field in fields if not field.text] == []


def test_every_option_and_command_is_explained() -> None:
    """Each command, argument and option has a help text."""
    silent = []
    for words, command in generator().leaves():
        silent += [words] if not command.help else []
        silent += [
            f"{words} {p.name}" for p in command.params if p.name != "help" and not getattr(p, "help", "")
        ]
    assert silent == []


def test_generated_pages_are_up_to_date() -> None:
    """`make docs` would change nothing."""
    pages = generator().pages()
    assert {path.name for path in pages} >= {"command-line.md", "dependencies.md", "api-server.md"}
    stale = [relative(path) for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], f"`make docs` writes {', '.join(stale)} anew; commit what it writes"


def test_every_command_is_documented() -> None:
    """The page about the command line has a section for each command."""
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    commands = [words for words, _ in generator().leaves()]
    assert "up" in commands
    assert [words for words in commands if f"### `ondol {words}`" not in page] == []


def test_dependencies_have_reasons_and_are_used() -> None:
    """Each run-time dependency, extras too, has a reason and is named in the source; none is left over."""
    extras = [name for listed in generator().extra_names().values() for name in listed]
    names = [*generator().dependency_names(), *extras]
    reasons = {**generator().REASONS, **generator().EXTRAS}
    assert sorted(names) == sorted(reasons)
    used = named_modules()
    unused = [
        name
        for name in names
        if not any(m == reasons[name].module or m.startswith(f"{reasons[name].module}.") for m in used)
    ]
    assert unused == []


def named_modules() -> set[str]:
    """Modules the source imports, or names in a string so as to import them later."""
    names: set[str] = set()
    for path in python_files():
        if not path.is_relative_to(ROOT / "src"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= {node.value} if re.fullmatch(r"[a-z_][\w-]*(\.\w+)*", node.value) else set()
    return names


def _locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", text, re.MULTILINE))


def test_locks_agree_with_the_project() -> None:
    """Each dependency is locked with hashes, the locks agree, and neither says where packages are from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    run, dev = _locked("run.txt"), _locked("dev.txt")
    dev_names = [re.split(r"[<>=\[]", line)[0].lower() for line in project["dependency-groups"]["dev"]]
    assert [name for name in generator().dependency_names() if name not in run] == []
    assert [name for name in dev_names if name not in dev] == []
    assert {name: version for name, version in run.items() if dev.get(name) != version} == {}
    for name in ("run.txt", "dev.txt"):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        assert text.count("--hash=sha256:") >= len(_locked(name))
        assert not re.search(r"https?://|^-", text, re.MULTILINE), name


def test_licence_and_change_log_are_there() -> None:
    """The licence is Apache's, and the change log has a place for what comes next."""
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()


def test_programs_can_be_run() -> None:
    """A script with an interpreter line is executable, and one without a suffix has such a line."""
    wrong = []
    for path in [*(ROOT / "scripts").iterdir(), *(ROOT / ".ci").iterdir()]:
        if path.is_file():
            begins = path.read_bytes().startswith(b"#!")
            wrong += (
                [relative(path)] if begins != os.access(path, os.X_OK) or not (begins or path.suffix) else []
            )
    assert wrong == []


def test_ci_runs_the_command_of_the_readme() -> None:
    """`.ci/run` is `make test` and nothing else."""
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]


VAGUE: Final = frozenset({"found", "wanted", "said", "made", "given", "held", "known", "told"})
"""Words that do not say what a value is: `pod`, `desired`, `message` or `settings` do."""
FIXED_NAMES: Final[dict[str, str]] = {"connection_made": "asyncio calls it so"}
"""Names that others chose, each with who did."""
_NAME_PARTS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NOT_FOUND: Final = re.compile(r"not_found|NotFound|NOT_FOUND")


def bound_names(node: ast.AST) -> Iterator[str | None]:
    """The names that one node gives to something: variables, parameters, fields, functions, classes."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name
        case ast.arg(arg=name) | ast.alias(asname=name) | ast.ExceptHandler(name=name):
            yield name
        case ast.MatchAs(name=name) | ast.MatchStar(name=name) | ast.MatchMapping(rest=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield None if name.startswith("test_") else name  # a test is called by a sentence


def vague_names(module: ast.Module) -> list[str]:
    """Names of which a part is one of the vague words; "not found" is Kubernetes' own reason."""
    names = {name for node in ast.walk(module) for name in bound_names(node) if name} - FIXED_NAMES.keys()
    return sorted(
        name
        for name in names
        if VAGUE & {part.lower() for part in _NAME_PARTS.findall(_NOT_FOUND.sub("", name))}
    )


def test_names_say_what_a_value_is() -> None:
    """No variable, parameter, field, function or class is called `found`, `wanted`, `said` and the like."""
    vague = {relative(path): vague_names(tree(path)) for path in python_files()}
    assert {path: names for path, names in vague.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("found = 1", ["found"]),
        ("def f(wanted, *, _said=0, **given): ...", ["_said", "given", "wanted"]),
        ("class HeldBack:\n    made_at: int", ["HeldBack", "made_at"]),
        ("async def is_known(self):\n    self.told = 1", ["is_known", "told"]),
        ("KNOWN2 = [held for held in x]", ["KNOWN2", "held"]),
        ("import kinds as known", ["known"]),
        ("with x as found, y as (made, z): (said := 1)", ["found", "made", "said"]),
        (
            "match x:\n    case {'a': found, **told}: ...\n    case [made, *wanted]: ...",
            ["found", "made", "told", "wanted"],
        ),
        ("from hypothesis import given\n@given(x)\ndef test_it_is_told(): ...", []),
        ("def not_found(e: errors.NotFound): unknown, founder, handheld = x.found, told(), 'made'", []),
        ("def connection_made(self): ...", []),
    ],
)
def test_vague_names_are_noticed(source: str, names: list[str]) -> None:
    """Each way to name something is looked at; reading a name that others chose is allowed."""
    assert vague_names(ast.parse(source)) == names


def test_files_and_functions_stay_short() -> None:
    """No file is longer than 600 lines and no function than 60, but for those named with a reason."""
    long = set()
    for path in python_files():
        if len(path.read_text(encoding="utf-8").splitlines()) > FILE_LINES:
            long.add(relative(path))
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long.add(f"{relative(path)}:{node.name}")
    assert sorted(long - LONG.keys()) == []
    assert sorted(LONG.keys() - long) == [], "no longer long: take it off the list"


def test_the_version_stands_in_one_place() -> None:
    """The package says its version; the project's description, the locks and the code read it there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/ondol/__init__.py"
    literal = f'"{ondol.__version__}"'
    holders = [
        relative(path)
        for path in python_files()
        if path.is_relative_to(ROOT / "src") and literal in path.read_text(encoding="utf-8")
    ]
    assert holders == ["src/ondol/__init__.py"]


TIMED: Final = frozenset({"sleep", "sleep_until", "fail_after", "move_on_after", "current_time"})
"""What of anyio reads the time or waits for it; `sleep_forever` does neither."""
TIMED_MODULES: Final[dict[str, str]] = {
    "src/ondol/base/clock.py": "the machine's clock itself",
    "src/ondol/sdk/testing/": "the virtual clock of simulations",
}
"""Modules, or folders, that may name these; each with the reason."""


def test_time_is_a_parameter() -> None:
    """Nothing in the source waits or reads the time but through a `Clock`, except where it is named here."""
    using = set()
    for path in python_files():
        if not path.is_relative_to(ROOT / "src"):
            continue
        for node in ast.walk(tree(path)):
            is_attribute = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if is_attribute and node.value.id == "anyio" and node.attr in TIMED:  # type: ignore[attr-defined]  # checked above
                using.add(relative(path))
            if isinstance(node, ast.ImportFrom) and node.module == "anyio":
                using |= {relative(path) for alias in node.names if alias.name in TIMED}
    allowed = {path: next((each for each in TIMED_MODULES if path.startswith(each)), "") for path in using}
    assert sorted(path for path, reason in allowed.items() if not reason) == []
    assert sorted(TIMED_MODULES.keys() - set(allowed.values())) == [], "no longer used: take it off the list"


WRITES: Final[dict[str, str]] = {
    "src/ondol/sdk/": "the one place where statuses and children are written",
    "src/ondol/controllers/endpoints/reconciler.py": "slices by PUT: an apply is dearer, on a hot path",
    "src/ondol/controllers/namespace/reconciler.py": "the subresource `finalize`, which takes a PUT alone",
    "src/ondol/cli/": "a person's own files, applied as they are",
    "src/ondol/mesh/controller.py": "its gateway has no owner",
    "src/ondol/eventing/sources/sink_binding.py": "its policies are the cluster's: no binding can own them",
    "src/ondol/node/pods/status_writer.py": "the most frequent write: decision 0019",
}
"""Modules, or folders, that write a status, replace a whole object or apply one; each with the reason."""


def writes_by_hand(node: ast.AST) -> bool:
    """Whether it is a call of a client that replaces an object, applies one, or writes a status."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    if ast.unparse(node.func.value).rpartition(".")[2].strip("_") != "client":
        return False
    subresource = {word.arg: word.value for word in node.keywords}.get("subresource")
    is_of_status = isinstance(subresource, ast.Constant) and subresource.value == "status"
    return node.func.attr in {"update", "apply"} or (node.func.attr == "patch" and is_of_status)


def test_statuses_and_children_are_written_by_the_sdk() -> None:
    """No room writes a status, replaces an object or applies one by itself, except where it is named here."""
    writing = {
        relative(path)
        for path in python_files()
        if path.is_relative_to(ROOT / "src") and any(map(writes_by_hand, ast.walk(tree(path))))
    }
    allowed = {path: next((each for each in WRITES if path.startswith(each)), "") for path in writing}
    assert sorted(path for path, reason in allowed.items() if not reason) == []
    assert sorted(WRITES.keys() - set(allowed.values())) == [], "it writes no more: take it off the list"


def test_events_are_armed_again_by_signals() -> None:
    """No attribute gets a new `anyio.Event` once its object is there: that is what `base.signal` is for."""
    by_hand = set()
    for path in python_files():
        if not path.is_relative_to(ROOT / "src") or relative(path) == "src/ondol/base/signal.py":
            continue
        for function in ast.walk(tree(path)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.name != "__init__":
                by_hand |= {
                    f"{relative(path)}: {ast.unparse(node.targets[0])}"
                    for node in ast.walk(function)
                    if isinstance(node, ast.Assign)
                    and isinstance(node.targets[0], ast.Attribute)
                    and ast.unparse(node.value) == "anyio.Event()"
                }
    assert by_hand == {"src/ondol/store/log.py: self._waiter"}, "that one is registered with its bucket"
