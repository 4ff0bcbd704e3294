"""What custom kinds of the platform's own are held to in the API server, beyond what their schemas say."""
# ruff: noqa: PLC0415 - only the API server pays for it

from __future__ import annotations

from typing import TYPE_CHECKING

from ondol.compose import serving
from ondol.compose.instance import Instance
from ondol.compose.settings import Settings

if TYPE_CHECKING:
    from ondol.apiserver.ports import KindRules
    from ondol.eventing.kinds.writes import Configuration, Lookup
    from ondol.serverless.config.live import LiveConfig


class CustomRules:
    """The rules by group and resource. They go by ConfigMaps, from when `read_by` says how to read them."""

    def __init__(self, instance: Instance, settings: Settings) -> None:
        from ondol.apiserver.auth import bootstrap_policy
        from ondol.eventing.kinds.writes import Configuration
        from ondol.serverless.config.live import LiveConfig

        self._serving: LiveConfig = LiveConfig(serving.base(instance, settings))
        self._eventing: Configuration = Configuration(controller=bootstrap_policy.CONTROL)
        self.by_kind = self._rules(settings)

    def _rules(self, settings: Settings) -> dict[str, KindRules]:
        from ondol.apiserver import kinds
        from ondol.compose import kind_rules
        from ondol.eventing.kinds import rules as eventing
        from ondol.serverless.serving import validation

        return kind_rules.together(
            validation.rules(kinds.BUILTIN.unsupported, self._serving) if settings.serverless else {},
            eventing.rules(self._eventing) if settings.eventing else {},
        )

    def read_by(self, lookup: Lookup) -> None:
        """Read ConfigMaps by this from now on."""
        from ondol.api import resources
        from ondol.serverless.config.values import NAMESPACE

        self._serving.lookup = lambda name: lookup(resources.CONFIG_MAP, NAMESPACE, name)
        self._eventing.lookup = lookup
