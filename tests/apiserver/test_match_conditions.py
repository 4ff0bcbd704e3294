"""Match conditions of webhooks, evaluated like those of policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol.api.objects import Object

MAPS = "/api/v1/namespaces/default/configmaps"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


class Unreachable:
    """Counts who is asked, and answers nobody."""

    def __init__(self) -> None:
        self.calls = 0

    async def post(self, target: Any, body: bytes) -> tuple[int, bytes]:
        del target, body
        self.calls += 1
        raise OSError("refused")


def _configuration(expression: str) -> Object:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hooks"},
        "webhooks": [
            {
                "name": "a.example.org",
                "rules": [rule],
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "admissionReviewVersions": ["v1"],
                "matchConditions": [{"name": "c", "expression": expression}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("expression", "outcome", "message"),
    [
        ("!authorizer.group('').resource('pods').check('get').allowed()", (201, 0), ""),
        ("authorizer.requestResource.check('create').allowed()", (500, 1), "failed calling webhook"),
        (
            "object.none == 'x'",
            (403, 0),
            "expression 'object.none == 'x'' resulted in error: no such key: none",
        ),
    ],
)
async def test_a_condition_decides_whether_a_webhook_is_called(
    start: Callable[..., Any],
    config_map: Callable[..., Object],
    expression: str,
    outcome: tuple[int, int],
    message: str,
) -> None:
    """By its value for the write, and by the failure policy where it has none."""
    poster = Unreachable()
    async with start(poster=poster) as api:
        assert (await api.post(HOOKS, _configuration(expression))).status == 201
        answer = await api.post(MAPS, config_map("c"))
    assert (answer.status, poster.calls) == outcome
    assert message in answer.json.get("message", "")


async def test_a_condition_that_is_none_is_refused(start: Callable[..., Any]) -> None:
    """When its configuration is written."""
    async with start(poster=Unreachable()) as api:
        refused = await api.post(HOOKS, _configuration("1"))
    path = "webhooks[0].matchConditions[0].expression"
    assert refused.status == 422
    assert f'{path}: Invalid value: "1": must evaluate to bool but got int' in refused.json["message"]
