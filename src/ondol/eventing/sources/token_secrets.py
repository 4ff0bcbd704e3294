"""Secrets with the tokens that pods show to the sink of their SinkBinding, renewed at half of their time.

As in Knative the account is the binding's and not that of the pods, so its token comes to them as a file.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import names
from ondol.base.clock import parse_rfc3339, rfc3339
from ondol.contracts import eventing
from ondol.eventing import tokens, wellknown
from ondol.eventing.parents import require_current
from ondol.sdk import Children, Controller, Manager, children, controller_key

Document: TypeAlias = Mapping[str, Any]

AUDIENCE: Final = "eventing.ondol.dev/token-audience"
UNTIL: Final = "eventing.ondol.dev/token-until"
"""Annotations of a Secret: for whom its token is, and when it ends."""
_FILE: Final = "token"
_LEFT_S: Final = tokens.LIFETIME_S / 2


def secret_name(binding: Document) -> str:
    return names.child_name(objects.name(binding), "-oidc-token")


class TokenSecrets:
    """Those of all SinkBindings."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._clock = manager.clock
        self._secrets = manager.informer(resources.SECRET, label_selector=f"{wellknown.OIDC_LABEL}=enabled")
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)

    def watch(self, controller: Controller) -> None:
        kind = eventing.SINK_BINDING
        controller.watch(self._secrets, controller_key(kind.api_version, kind.kind))

    def forget(self, binding: Key) -> None:
        self._children.forget(binding)

    async def keep(self, binding: Object, account: Key, audience: str) -> float:
        """Have a token of the account for this audience there; how many seconds until it is renewed."""
        live = self._live(binding)
        left_s = self._left_s(live, audience)
        if left_s > _LEFT_S:
            return left_s - _LEFT_S
        await require_current(self._client, eventing.SINK_BINDING, binding, live)
        token, until = await tokens.issue(self._client, account, audience)
        desired = _secret(binding, token, audience, until)
        await self._children.of(binding).apply(resources.SECRET, desired, live)
        return max(until - self._clock.now() - _LEFT_S, _LEFT_S / 10)

    async def drop(self, binding: Object) -> None:
        """There is no need of it any more."""
        live = self._live(binding)
        if live is not None and objects.is_controlled_by(live, binding):
            await children.delete(self._client, resources.SECRET, live)

    def _live(self, binding: Object) -> Object | None:
        return self._secrets.lister.get(Key(objects.namespace(binding), secret_name(binding)))

    def _left_s(self, live: Object | None, audience: str) -> float:
        """How long the token that is there counts; nothing of another audience, or if it is none."""
        if live is None or not (live.get("data") or {}).get(_FILE):
            return 0.0
        noted = objects.annotations(live)
        if noted.get(AUDIENCE) != audience:
            return 0.0
        try:
            return parse_rfc3339(noted[UNTIL]) - self._clock.now()
        except (KeyError, ValueError):
            return 0.0


def _secret(binding: Document, token: str, audience: str, until: float) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret_name(binding),
            "namespace": objects.namespace(binding),
            "labels": {wellknown.OIDC_LABEL: "enabled"},
            "annotations": {AUDIENCE: audience, UNTIL: rfc3339(until)},
            "ownerReferences": [objects.controller_reference(binding)],
        },
        "type": "Opaque",
        "data": {_FILE: base64.b64encode(token.encode()).decode()},
    }
