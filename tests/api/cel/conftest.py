"""What the tests of CEL share: expressions evaluated with variables of no known type, or of a schema's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ondol.api import cel
from ondol.api.cel import types as t
from ondol.api.cel.environment import Environment

Evaluate = Callable[..., cel.Outcome]


def evaluated(
    source: str, variables: Mapping[str, Any] | None = None, schema: Mapping[str, Any] | None = None
) -> cel.Outcome:
    """The outcome of an expression: over a schema's `self`, or over variables that may be anything."""
    if schema is None:
        environment = Environment(dict.fromkeys(variables or (), t.DYN))
    else:
        described = cel.of_schema(schema)
        assert described is not None
        environment = cel.rule(described)
    return cel.compile(source, environment).evaluate(variables or {})


@pytest.fixture
def evaluate() -> Evaluate:
    return evaluated
