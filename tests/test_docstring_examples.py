"""The worked examples in the docstrings of the lower rooms are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import ondol.api
import ondol.base
import ondol.client
import ondol.store

MODULES = sorted(
    module.name
    for room in (ondol.api, ondol.base, ondol.client, ondol.store)
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
)
ALGORITHMS = {
    "ondol.api.patch.apply",
    "ondol.api.patch.fieldset",
    "ondol.api.patch.strategic",
    "ondol.api.patch.typed",
    "ondol.api.schema.structural",
    "ondol.api.tables.jsonpath",
    "ondol.client.watch",
    "ondol.store.log",
}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    """Every example gives what stands below it."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_an_algorithm_that_is_not_obvious_has_an_example(name: str) -> None:
    """Who reads it first can try it."""
    assert doctest.testmod(importlib.import_module(name)).attempted > 0
