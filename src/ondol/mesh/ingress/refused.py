"""What the proxy refused of what Ingresses became: left out, so that it holds up nobody else's rules.

Of several that are new in a refused table nobody knows whose fault it is: all are left out, and tried again
one by one. What is left out stays so until it is another version.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.mesh.ingress.expansion import Expansion, Problem
from ondol.mesh.translate import credentials, termination
from ondol.mesh.translate.registry import OF_INGRESS, VirtualService
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Accepted, Origin, Outcome, Rejected

_RULE: Final = "VirtualService"


@dataclass(slots=True)
class Refused:
    rules: dict[Origin, str] = field(default_factory=dict)
    """Left out, with the proxy's words."""
    prefix: str = OF_INGRESS
    """How the names of the rules begin."""
    _trials: deque[Origin] = field(default_factory=deque)
    _tls: dict[str, str] = field(default_factory=dict)
    """By the name of a certificate's resource or of the listener."""

    def without(self, expansion: Expansion) -> Expansion:
        """The expansion as it is served."""
        served = self.served(expansion.virtual_services)
        return (
            expansion if served is expansion.virtual_services else replace(expansion, virtual_services=served)
        )

    def served(self, virtual_services: list[VirtualService]) -> list[VirtualService]:
        """Those that are not left out; the same list where all are."""
        if not self.rules:
            return virtual_services
        present = {rule.origin for rule in virtual_services}
        self.rules = {origin: why for origin, why in self.rules.items() if origin in present}
        return [rule for rule in virtual_services if rule.origin not in self.rules]

    def observe(self, outcomes: Iterable[Outcome]) -> bool:
        changed = False
        for outcome in outcomes:
            if isinstance(outcome, Accepted):
                for resource in outcome.resources:
                    self._tls.pop(resource.name, None)
            else:
                changed |= self._reject(outcome)
        return changed

    def refuse(self, origin: Origin, why: str) -> bool:
        """Leave out a rule of which nothing could be made; False where it is not one that is served."""
        is_own = origin.kind == _RULE and origin.name.startswith(self.prefix)
        if not is_own or origin in self.rules:
            return False
        self.rules[origin] = why
        return True

    def alone(self) -> list[tuple[Origin, str]]:
        """Those that were refused by themselves, so that nobody else is to blame."""
        return [(origin, why) for origin, why in self.rules.items() if origin not in self._trials]

    def forget(self, origin: Origin) -> None:
        """Serve it again, if it still is what it was."""
        self.rules.pop(origin, None)

    def _reject(self, outcome: Rejected) -> bool:
        name = outcome.resource.name
        if outcome.type_url == types.SECRET or name == termination.NAME:
            self._tls[name] = outcome.message
        good = set(outcome.accepted.origins) if outcome.accepted else set()
        suspects = [
            origin
            for origin in outcome.resource.origins
            if origin.name.startswith(self.prefix) and origin not in good and origin not in self.rules
        ]
        self.rules.update(dict.fromkeys(suspects, outcome.message))
        if len(suspects) > 1:
            self._trials.extend(suspects)
        return bool(suspects)

    def next_trial(self) -> bool:
        while self._trials:
            if self.rules.pop(self._trials.popleft(), None) is not None:
                return True
        return False

    def of_tls(self, obj: Object) -> list[Problem]:
        """What the proxy says of the certificates of an Ingress, and of the port they are served at."""
        secrets = [str(each.get("secretName") or "") for each in objects.spec(obj).get("tls") or ()]
        problems = []
        for secret in secrets:
            resource = credentials.secret_name(f"{objects.namespace(obj)}/{secret}")
            if why := self._tls.get(resource):
                problems.append(Problem("SecretInvalid", f"Secret {secret}: {why}"))
        if secrets and (why := self._tls.get(termination.NAME)):
            problems.append(Problem("NotListening", f"HTTPS is not served: {why}"))
        return problems
