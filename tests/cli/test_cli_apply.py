"""`ondol apply` and `delete`, on a client that keeps what it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import one_line, run
from typer.testing import CliRunner

from ondol.api import resources as kinds
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.cli import connection, main
from ondol.client import discovery


class _Api:
    """Stands for a client: keeps what it is asked, knows two kinds."""

    def __init__(self) -> None:
        self.applied: list[tuple[Resource, Any]] = []
        self.deleted: list[str] = []
        self.absent: set[str] = set()

    async def aclose(self) -> None:
        return

    async def resource_for(self, api_version: str, kind: str) -> Resource:
        for candidate in (kinds.CONFIG_MAP, kinds.NAMESPACE):
            if (candidate.api_version, candidate.kind) == (api_version, kind):
                return candidate
        raise errors.NotFound(f'no matches for kind "{kind}" in version "{api_version}"')

    async def describe(self) -> list[discovery.Described]:
        return [
            discovery.Described(kinds.CONFIG_MAP, "configmap", ("cm",)),
            discovery.Described(kinds.NAMESPACE, "namespace", ("ns",)),
        ]

    async def apply(self, resource: Resource, document: Any, **_: object) -> Any:
        self.applied.append((resource, document))
        return document

    async def delete(self, resource: Resource, name: str, namespace: str) -> None:
        if name in self.absent:
            raise errors.NotFound(f'{resource.plural} "{name}" not found')
        self.deleted.append(f"{resource.plural}/{namespace}/{name}")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> _Api:
    """A platform that answers, as far as `apply` can tell."""
    fake = _Api()
    monkeypatch.setattr(
        connection,
        "connect",
        lambda _data_dir, _kubeconfig, namespace: connection.Connection(fake, namespace or "default"),  # type: ignore[arg-type]  # all that `apply` and `delete` need
    )
    return fake


def manifest(folder: Path, text: str, name: str = "manifest.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"


def test_apply_fills_in_the_namespace(api: _Api, tmp_path: Path) -> None:
    """An object that says no namespace goes to `-n`; a cluster-wide one to none."""
    text = _MAP % "a" + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n"
    result = run("apply", "-f", manifest(tmp_path, text), "-n", "shop")
    assert result.exit_code == 0
    assert result.stdout == "configmap/a serverside-applied\nnamespace/b serverside-applied\n"
    assert [document["metadata"] for _, document in api.applied] == [
        {"name": "a", "namespace": "shop"},
        {"name": "b"},
    ]


def test_apply_takes_a_folder_in_order(api: _Api, tmp_path: Path) -> None:
    """A folder's YAML and JSON files are applied in the order of their names, other files left alone."""
    manifest(tmp_path, _MAP % "second", "20.yaml")
    manifest(tmp_path, _MAP % "first", "10.yml")
    manifest(tmp_path, "not a manifest", "README.md")
    assert run("apply", "-f", tmp_path).exit_code == 0
    assert [document["metadata"]["name"] for _, document in api.applied] == ["first", "second"]


def test_apply_takes_lists_and_empty_documents(api: _Api, tmp_path: Path) -> None:
    """A List is what is in it; an empty document is nothing."""
    item = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"
    text = f"---\n---\napiVersion: v1\nkind: List\nitems:\n- {item}\n"
    assert run("apply", "-f", manifest(tmp_path, text)).exit_code == 0
    assert [document["metadata"]["name"] for _, document in api.applied] == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [unclosed\n", "is not valid YAML"),
        ("a: b\n\tc: d\n", "is not valid YAML"),
        ("just words\n", "no apiVersion and kind"),
        ("- a\n- b\n", "no apiVersion and kind"),
        ("apiVersion: v1\n", "no apiVersion and kind"),
        ("apiVersion: v1\nkind: Unheard\nmetadata: {name: a}\n", 'no matches for kind "Unheard"'),
        ("apiVersion: v1\nkind: List\nitems: [1]\n", "no apiVersion and kind"),
    ],
)
def test_apply_of_what_cannot_be_applied(api: _Api, tmp_path: Path, text: str, message: str) -> None:
    """Each is one line that names the trouble, and no traceback."""
    result = run("apply", "-f", manifest(tmp_path, text))
    assert result.exit_code in (1, 4)
    assert message in one_line(result)
    assert api.applied == []


def test_apply_of_bytes_that_are_no_text(api: _Api, tmp_path: Path) -> None:
    """A binary file is refused by its name."""
    file = tmp_path / "image.yaml"
    file.write_bytes(b"\x89PNG\xff\xfe")
    result = run("apply", "-f", file)
    assert result.exit_code == 1
    assert str(file) in one_line(result)


def test_apply_of_a_missing_file(api: _Api, tmp_path: Path) -> None:
    """The file is named."""
    result = run("apply", "-f", tmp_path / "gone.yaml")
    assert result.exit_code == 1
    assert one_line(result) == f"error: {tmp_path / 'gone.yaml'}: no such file or folder"


def test_apply_from_standard_input(api: _Api) -> None:
    """`-f -` reads what is piped in."""
    result = CliRunner().invoke(main.app, ["apply", "-f", "-"], input=_MAP % "piped")
    assert result.exit_code == 0
    assert api.applied[0][1]["metadata"]["name"] == "piped"


def test_delete_needs_to_know_what(api: _Api) -> None:
    """Without a name or a file nothing is deleted."""
    no_name = run("delete", "pods")
    assert "say what to delete: KIND NAME, or -f FILE" in one_line(no_name)
    assert no_name.exit_code == 2
    assert run("delete").exit_code == 2
    assert run("delete", "pod", "a", "-f", "a.yaml").exit_code == 2
    assert api.deleted == []


def test_apply_of_nothing(api: _Api, tmp_path: Path) -> None:
    """A pipe that brought nothing, or a folder without a manifest, is not taken for success."""
    (tmp_path / "notes.txt").write_text("nothing")
    assert one_line(run("apply", "-f", tmp_path)) == f"error: {tmp_path}: there is nothing to apply or delete"
    result = CliRunner().invoke(main.app, ["apply", "-f", "-"], input="---\n")
    assert result.exit_code == 1
    assert one_line(result) == "error: standard input: there is nothing to apply or delete"


def test_apply_needs_a_name(api: _Api, tmp_path: Path) -> None:
    """An object without a name is told before the server is asked."""
    result = run("apply", "-f", manifest(tmp_path, "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n"))
    assert result.exit_code == 1
    assert one_line(result) == "error: a ConfigMap has no metadata.name"
    assert api.applied == []


def test_apply_goes_on_after_a_failure(api: _Api, tmp_path: Path) -> None:
    """One object that cannot be applied does not keep the others back; the status tells of it."""
    unknown = "apiVersion: x/v1\nkind: Nothing\nmetadata: {name: n}\n"
    result = run("apply", "-f", manifest(tmp_path, unknown + "---\n" + _MAP % "a"))
    assert result.exit_code == 4
    assert "error: nothing.x/n: no matches for kind" in result.stderr
    assert result.stdout == "configmap/a serverside-applied\n"
    assert len(api.applied) == 1


def test_apply_takes_several_files(api: _Api, tmp_path: Path) -> None:
    """Each `-f` is applied, in the order given; one that is missing keeps all back."""
    first, second = manifest(tmp_path, _MAP % "a", "a.yaml"), manifest(tmp_path, _MAP % "b", "b.yaml")
    assert run("apply", "-f", second, "-f", first).exit_code == 0
    assert [document["metadata"]["name"] for _, document in api.applied] == ["b", "a"]
    assert run("apply", "-f", first, "-f", tmp_path / "gone.yaml").exit_code == 1
    assert len(api.applied) == 2


def test_delete_goes_on_past_what_is_gone(api: _Api, tmp_path: Path) -> None:
    """What is missing is told and makes the status; the others are deleted."""
    api.absent = {"b"}
    text = "---\n".join(_MAP % name for name in "abc")
    result = run("delete", "-f", manifest(tmp_path, text), "-n", "shop")
    assert api.deleted == ["configmaps/shop/a", "configmaps/shop/c"]
    assert one_line(result) == 'error: configmaps "b" not found'
    assert result.exit_code == 4
    assert run("delete", "cm", "a", "b", "--ignore-not-found").exit_code == 0
    assert run("delete", "ns/b", "cm/a").exit_code == 4
    assert api.deleted[-2:] == ["configmaps/default/a", "configmaps/default/a"]
