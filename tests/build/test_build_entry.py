"""What is read from a project's files, and what is made of it: the entry, the refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from ondol.build import entry, project
from ondol.build.errors import BuildError

PYTHON = "/usr/bin/python3"


def _project(folder: Path, files: dict[str, str]) -> project.Project:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return project.read(folder)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"main.py": ""}, (PYTHON, "/app/main.py")),
        ({"app.py": ""}, (PYTHON, "/app/app.py")),
        ({"__main__.py": ""}, (PYTHON, "/app/__main__.py")),
        ({"app.py": "", "main.py": ""}, (PYTHON, "/app/main.py")),
        ({"shop/__main__.py": ""}, (PYTHON, "-m", "shop")),
        ({"src/shop/__main__.py": ""}, (PYTHON, "-m", "shop")),
        ({"main.py": "", "Procfile": "web: python serve.py --port $PORT\n"},
         ("/bin/sh", "-c", "exec python serve.py --port $PORT")),
        ({"main.py": "", "Procfile": "# later\nworker: python work.py\n"}, (PYTHON, "/app/main.py")),
        ({"main.py": "", "pyproject.toml": '[project]\nname = "a"\nscripts = {run = "a.b:c"}'},
         ("/usr/local/bin/run",)),
        ({"pyproject.toml": '[project]\nname = "b"\nscripts = {a = "x:y", b = "x:z"}'},
         ("/usr/local/bin/b",)),
        ({"main.py": "", "pyproject.toml": '[tool.ondol]\nentrypoint = "python -u main.py --fast"'},
         (PYTHON, "-u", "main.py", "--fast")),
        ({"a/b.py": "", "pyproject.toml": '[tool.ondol]\nentrypoint = "a/b.py --fast"'},
         (PYTHON, "/app/a/b.py", "--fast")),
        ({"a/b.py": "", "pyproject.toml": '[tool.ondol]\nentrypoint = "a.b"'}, (PYTHON, "-m", "a.b")),
        ({"pyproject.toml": '[tool.ondol]\nentrypoint = ["uvicorn", "shop:app"]'}, ("uvicorn", "shop:app")),
        ({"src/a/b.py": "", "pyproject.toml": '[tool.ondol]\nentrypoint = "a.b:main --fast"'},
         ("/usr/local/bin/entrypoint", "--fast")),
        ({"pyproject.toml": '[tool.ondol]\nentrypoint = "other.b:main"'}, ("other.b:main",)),
    ],
)  # fmt: skip
def test_the_entry_is_found(tmp_path: Path, files: dict[str, str], expected: tuple[str, ...]) -> None:
    """Each way to say what runs is understood, the most explicit first."""
    command = entry.find(_project(tmp_path, files), set(files), python=PYTHON)
    assert (*command.entrypoint, *command.arguments) == expected


def test_args_choose_another_module_but_belong_to_scripts(tmp_path: Path) -> None:
    """Python itself is the entrypoint of modules; a script is its own entrypoint."""
    plain = entry.find(_project(tmp_path, {"main.py": ""}), {"main.py"}, python=PYTHON)
    assert plain.entrypoint == (PYTHON,)
    text = '[project]\nname = "a"\nscripts = {run = "a.b:c.d"}'
    scripted = entry.find(_project(tmp_path, {"pyproject.toml": text}), set(), python=PYTHON)
    assert scripted.arguments == ()
    launcher = scripted.launchers["/usr/local/bin/run"]
    assert launcher.startswith(f"#!{PYTHON}\n")
    assert "from a.b import c\n" in launcher
    assert "sys.exit(c.d())" in launcher


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": ""}, "has no entry"),
        ({"a/__main__.py": "", "b/__main__.py": ""}, "a and b can all be run"),
        ({"pyproject.toml": '[project]\nname = "c"\nscripts = {a = "x:y", b = "x:z"}'}, "several entries"),
        ({"pyproject.toml": '[project]\nname = "c"\nscripts = {a = "x y"}'}, "is not `module:function`"),
        ({"pyproject.toml": '[tool.ondol]\nentrypoint = "gone.py"'}, "gone.py, which is not there"),
        ({"pyproject.toml": '[tool.ondol]\nentrypoint = [""]'}, "entrypoint is empty"),
        ({"pyproject.toml": "[project\n"}, "pyproject.toml is not valid TOML"),
        ({"pyproject.toml": "project = 1"}, "project is not a table"),
        ({"pyproject.toml": "[tool.ondol]\nport = 'x'"}, "port must be of type int"),
        ({"pyproject.toml": "[tool.ondol]\nport = 70000"}, "port must be from 1 to 65535"),
        ({"pyproject.toml": "[tool.ondol]\nprot = 80"}, "no setting 'prot'"),
        ({"main.py": "", "Pipfile": "[packages\n"}, "Pipfile cannot be read"),
        ({"main.py": "", "Pipfile.lock": "[]"}, "Pipfile.lock is not a table"),
        ({"main.py": "", "Pipfile": '[packages]\na = {git = "x"}'}, "a comes from git"),
        ({"main.py": "", "Procfile": "python main.py"}, "Procfile:1 is not `name: command`"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """Each mistake is an error that names the file or the setting, and says what to do."""
    with pytest.raises(BuildError, match=message) as caught:
        entry.find(_project(tmp_path, files), set(files), python=PYTHON)
    assert caught.value.remedy


def test_requirements_come_from_the_most_exact_file(tmp_path: Path) -> None:
    """A requirements.txt wins over pyproject.toml, with the files that it includes."""
    text = '[project]\nname = "a"\ndependencies = ["b", "a>=1"]'
    assert project.requirement_lines(_project(tmp_path, {"pyproject.toml": text})) == ["a>=1", "b"]
    files = {"requirements.txt": "# ours\na==1 # why\n-r more/base.txt\n\n", "more/base.txt": "b==2\n"}
    assert project.requirement_lines(_project(tmp_path, files)) == ["a==1", "-r more/base.txt", "b==2"]


@pytest.mark.parametrize(
    "line", ["-e .", "./lib", "lib @ file:///srv/lib", "--editable ../x", "/srv/lib.whl"]
)
def test_requirements_on_local_folders_are_refused(tmp_path: Path, line: str) -> None:
    """A cached layer could not tell that such a folder changed."""
    with pytest.raises(BuildError, match="names a local folder or file"):
        project.requirement_lines(_project(tmp_path, {"requirements.txt": line}))


def test_a_missing_included_file_is_told(tmp_path: Path) -> None:
    """The error names the file that is not there."""
    root = _project(tmp_path, {"requirements.txt": "-r gone.txt"})
    with pytest.raises(BuildError, match=r"gone\.txt cannot be read"):
        project.requirement_lines(root)


@pytest.mark.parametrize(
    ("specifier", "version", "good"),
    [
        ("", "3.11.2", True),
        (">=3.11", "3.11.2", True),
        (">=3.11,<4", "3.11.2", True),
        (">=3.12", "3.11.2", False),
        ("<3.11", "3.11.2", False),
        ("==3.11.*", "3.11.2", True),
        ("==3.11", "3.11.2", False),
        ("!=3.11.2", "3.11.2", False),
        ("~=3.10", "3.11.2", True),
        ("~=3.10.1", "3.11.2", False),
        (">3.11.2", "3.11.2", False),
        ("<=3.11.2", "3.11.2", True),
        ("=>3", "3.11.2", False),
    ],
)
def test_requires_python_is_kept(tmp_path: Path, specifier: str, version: str, good: bool) -> None:
    """A Python that the application refuses is refused before anything is built."""
    root = _project(tmp_path, {"pyproject.toml": f'[project]\nname = "a"\nrequires-python = "{specifier}"'})
    if good:
        project.check_python(root, version)
        return
    with pytest.raises(BuildError, match=r"Python|understood"):
        project.check_python(root, version)


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    """The error names what was given."""
    with pytest.raises(BuildError, match="is not a folder"):
        project.read(tmp_path / "gone")
