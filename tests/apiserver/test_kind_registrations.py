"""What is written for a kind is also used: a file, columns or a right that nothing reads fails here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

from ondol.api import facts
from ondol.api import kinds as facts_kinds
from ondol.api.tables import builtin
from ondol.apiserver import kinds
from ondol.apiserver.admission import pod_security
from ondol.apiserver.auth import bootstrap_policy
from ondol.apiserver.auth.bootstrap_policy import Access, Grant

_TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec"
_SERVED = [*facts_kinds.builtin()]


def _written() -> Iterator[tuple[str, kinds.Kind]]:
    """Each `Kind` of the modules `kinds/<group>/<kind>.py`, with its file."""
    for module in pkgutil.walk_packages(kinds.__path__, f"{kinds.__name__}."):
        if module.ispkg or module.name.count(".") < kinds.__name__.count(".") + 2:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, kinds.Kind):
                yield f"src/{module.name.replace('.', '/')}.py", value


def test_every_kind_that_is_written_is_registered() -> None:
    """A file that no table names would leave its kind plain, in silence."""
    registered = {id(kind) for kind in kinds.BUILTIN}
    assert len(registered) > 10
    for file, kind in _written():
        folder = file.rpartition("/")[0]
        assert id(kind) in registered, (
            f"{file} has a Kind {kind.kind} that nothing serves: name it in KINDS of {folder}/__init__.py, "
            "and that folder in BUILTIN of src/ondol/apiserver/kinds/__init__.py"
        )


@pytest.mark.parametrize("fact", _SERVED, ids=lambda fact: fact.group_resource)
def test_columns_that_are_written_are_shown(fact: facts_kinds.Kind) -> None:
    """Of a kind that is served `LAYOUTS` and the registration say the same."""
    layout = builtin.LAYOUTS.get((fact.group, fact.kind))
    assert layout is None or kinds.BUILTIN.of(fact.group, fact.kind).layout is layout, (
        f"LAYOUTS has columns for {fact.kind}, which its registration must name: "
        f"layout=builtin.layout({fact.group!r}, {fact.kind!r})"
    )


def test_rights_are_for_the_kind_that_gives_them() -> None:
    """A slip in the name of a resource would be a right to nothing."""
    plurals = {(fact.group, fact.kind): fact.plural for fact in _SERVED}
    for kind in kinds.BUILTIN:
        access = kind.access or Access()
        for name in (*access.view, *access.edit):
            plural = plurals[kind.group, kind.kind]
            assert name.partition("/")[0] == plural, f"access of {kind.kind} names {name}; it is {plural}"


def test_the_default_roles_name_a_resource_once() -> None:
    """Also one that is served now, and was known as a kind that definitions may bring."""
    grants = [Grant("", Access(view=("limitranges",), edit=("persistentvolumeclaims",)))]
    for role in bootstrap_policy.cluster_roles(grants):
        for rule in role["rules"]:
            assert len(rule.get("resources", ())) == len(set(rule.get("resources", ()))), role["metadata"]


def test_kinds_that_make_pods_are_held_to_pod_security() -> None:
    """Their authors hear at once what will be refused of their pods."""
    templates = [fact.group_resource for fact in _SERVED if _TEMPLATE in facts.reachable(fact.type)]
    assert "deployments.apps" in templates
    for resource in templates:
        assert resource in pod_security.TEMPLATES, (
            f"{resource} has a template of pods: say where in TEMPLATES of "
            "src/ondol/apiserver/admission/pod_security.py"
        )
