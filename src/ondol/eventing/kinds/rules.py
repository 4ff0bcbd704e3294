"""The rules of all of Eventing's kinds: defaults, refusals and warnings beyond their schemas.

They are those of Knative's webhooks. Compose hands `rules()` to the API server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base.errors import Cause
from ondol.contracts import eventing
from ondol.eventing.configuration import maps
from ondol.eventing.kinds import (
    broker_rules,
    channel_rules,
    checks,
    flow_rules,
    kafka_rules,
    other_rules,
    sink_rules,
    source_rules,
    transform_rules,
)
from ondol.eventing.kinds.writes import Configuration

Document: TypeAlias = Mapping[str, Any]

__all__ = ["Configuration", "rules"]

CONFIG_MAPS: Final = resources.CONFIG_MAP.group_resource


class KindRules(Protocol):
    """What the API server asks of a kind's rules."""

    def default(self, new: Object, old: Document | None, user: str) -> None: ...

    def judge(
        self, new: Document, old: Document | None, user: str = ""
    ) -> tuple[Sequence[Cause], Sequence[str]]: ...


class ConfigMapRules:
    """Of all ConfigMaps those of Eventing: what cannot be read is refused, what does nothing is told."""

    def default(self, new: Object, old: Document | None, user: str) -> None:
        """Nothing is filled in."""

    def judge(
        self,
        new: Document,
        old: Document | None,
        user: str = "",  # noqa: ARG002 - anybody's write is judged alike
    ) -> tuple[Sequence[Cause], Sequence[str]]:
        if objects.namespace(new) != eventing.NAMESPACE or (old or {}).get("data") == new.get("data"):
            return (), ()
        wrong, advice = maps.problems(objects.name(new), new.get("data") or {})
        return [checks.generic("data", text) for text in wrong], advice


def rules(configuration: Configuration) -> dict[str, KindRules]:
    """By group and resource."""
    return {
        CONFIG_MAPS: ConfigMapRules(),
        **broker_rules.rules(configuration),
        **channel_rules.rules(configuration),
        **flow_rules.rules(configuration),
        **other_rules.rules(configuration),
        **source_rules.rules(configuration),
        **sink_rules.rules(configuration),
        **kafka_rules.rules(configuration),
        **transform_rules.rules(configuration),
    }
