"""Names of events, whose older form is freer than its newer one."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.apiserver import kinds

SCHEMAS = {schema.type_name: schema for schema in kinds.BUILTIN.schemas()}
CORE, NEWER = "io.k8s.api.core.v1.Event", "io.k8s.api.events.v1.Event"


def refused(type_name: str, name: str) -> bool:
    event: dict[str, Any] = {"metadata": {"name": name, "namespace": "default"}}
    problems = SCHEMAS[type_name].problems(SCHEMAS[type_name].read(event), None)
    return any(cause.field == "metadata.name" for cause in problems)


@pytest.mark.parametrize(
    ("type_name", "name", "expected"),
    [(CORE, "sender.Sent_1", False), (NEWER, "sender.Sent_1", True), (CORE, "a%b", True)],
)
def test_core_events_are_named_freely(type_name: str, name: str, *, expected: bool) -> None:
    """Capitals and underscores are refused in the newer form of events alone, as by Kubernetes."""
    assert refused(type_name, name) is expected
