"""The Operator SDK in an image: what `ondol` in an application's requirements stands for."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ondol
from ondol.build import dependencies, project, sdk
from ondol.build.errors import BuildError


@pytest.mark.parametrize(
    ("line", "is_sdk"),
    [
        ("ondol", True),
        ("Ondol  # the SDK", True),
        (f"ondol=={ondol.__version__}", True),
        (f"ondol == {ondol.__version__} ; python_version >= '3.11'", True),
        ("ondol-tools", False),
        ("ondolite==1", False),
        ("six", False),
    ],
)
def test_the_line_that_names_it(line: str, is_sdk: bool) -> None:
    """Its name, perhaps with this machine's version; not a package whose name begins so."""
    assert sdk.is_named(line) is is_sdk


@pytest.mark.parametrize("line", ["ondol==99", "ondol>=0.1", "ondol[all]"])
def test_another_version_is_refused(line: str) -> None:
    """There is one SDK on a machine: the one of the platform that will be spoken to."""
    with pytest.raises(BuildError, match="this machine has the SDK of ondol"):
        sdk.is_named(line)


def _imports(file: Path) -> Iterator[str]:
    """The top packages that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]


def test_what_the_sdk_imports_is_installed_with_it() -> None:
    """Every import of the SDK's packages is the standard library's, its own, or a requirement of it."""
    names = {name for path in sdk.files().values() if path.suffix == ".py" for name in _imports(path)}
    # yarl is aiohttp's own type of addresses; trio and uvloop are used where they are installed.
    foreign = names - set(sys.stdlib_module_names) - {"ondol", "trio", "uvloop", "yarl"}
    providers = importlib.metadata.packages_distributions()
    # A distribution may spell its name with `_` where requirements have `-` (PEP 503).
    distributions = {
        distribution.lower().replace("_", "-") for name in foreign for distribution in providers[name]
    }
    required = {re.split(r"[^A-Za-z0-9-]", line)[0].lower() for line in sdk.requirements()}
    assert distributions <= required
    assert required <= set(sdk.DISTRIBUTIONS)


def test_the_sdk_stands_alone(tmp_path: Path) -> None:
    """Its files, without the rest of the platform, are enough to import it and to tell its version."""
    dependencies._add_sdk(tmp_path)
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]\n"
        "import importlib.metadata, importlib.util, ondol.sdk, ondol.client.http, ondol.api.progress\n"
        "print(ondol.sdk.__file__, importlib.metadata.version('ondol'))\n"
        "print(importlib.util.find_spec('ondol.mesh'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "ondol/sdk/__init__.py"), ondol.__version__, "None"]


def test_the_installer_is_given_what_the_sdk_needs(tmp_path: Path) -> None:
    """In place of `ondol`, which no index has; what a file includes is named by its whole path."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "requirements.txt").write_text("ondol\nsix==1.16.0\n-r more.txt\n")
    (tmp_path / "app" / "more.txt").write_text("idna\n")
    application = project.read(tmp_path / "app")
    lines = dependencies._requirements_file(application, tmp_path / "installed").read_text().splitlines()
    assert lines[:2] == ["six==1.16.0", f"-r {tmp_path / 'app' / 'more.txt'}"]
    assert lines[2:] == sdk.requirements()
