"""Defaults of webhook configurations, admission policies and their bindings."""

from __future__ import annotations

from typing import Any

PORT = 443
"""The port of a Service behind which a webhook listens."""


def validating_webhooks(document: Any) -> None:
    for webhook in document.get("webhooks") or ():
        _webhook(webhook)


def mutating_webhooks(document: Any) -> None:
    for webhook in document.get("webhooks") or ():
        _webhook(webhook)
        webhook.setdefault("reinvocationPolicy", "Never")


def _webhook(webhook: Any) -> None:
    webhook.setdefault("failurePolicy", "Fail")
    webhook.setdefault("timeoutSeconds", 10)
    _matching(webhook, ("rules",))
    service = (webhook.get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", PORT)


def _matching(match: Any, rules: tuple[str, ...]) -> None:
    """What is matched: everything, in all its versions, if nothing is said of it."""
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for field in rules:
        for rule in match.get(field) or ():
            rule.setdefault("scope", "*")


def policy(document: Any) -> None:
    document["spec"].setdefault("failurePolicy", "Fail")
    _resources(document["spec"].get("matchConstraints"))


def binding(document: Any) -> None:
    _resources(document["spec"].get("matchResources"))


def _resources(match: Any) -> None:
    if match is not None:
        _matching(match, ("resourceRules", "excludeResourceRules"))
