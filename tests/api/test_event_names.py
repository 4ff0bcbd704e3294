"""What Events may be called."""

from __future__ import annotations

import pytest

from ondol.apiserver import kinds

SCHEMAS = {schema.type_name: schema for schema in kinds.BUILTIN.schemas()}


@pytest.mark.parametrize(
    ("type_name", "name", "is_refused"),
    [
        ("io.k8s.api.core.v1.Event", "sender.Sent_1", False),
        ("io.k8s.api.core.v1.Event", "a%b", True),
        ("io.k8s.api.events.v1.Event", "sender.Sent_1", True),
    ],
)
def test_core_events_are_named_freely(type_name: str, name: str, *, is_refused: bool) -> None:
    """Capitals and underscores are refused in the newer form of events alone, as by Kubernetes."""
    schema = SCHEMAS[type_name]
    event = schema.read({"metadata": {"name": name, "namespace": "default"}})
    fields = {cause.field for cause in schema.problems(event, None)}
    assert ("metadata.name" in fields) is is_refused
