"""Which calls each attribute of a rule holds for, without a proxy: facts of Istio's, written out."""

from __future__ import annotations

from typing import Final

import pytest
from tests.mesh.arrival import authorization, policy
from tests.mesh.test_policy_envoy import CALLS, ROWS, RULES, TCP_CALLS

from ondol.mesh.policy import Call, decide

HOLDS: Final[dict[str, set[str]]] = {
    "hosts": {
        "exact",
        "exact with port",
        "dot behind host",
        "dot and port",
        "suffix",
        "prefix",
        "port in rule",
    },
    "notMethods": {"post", "put", "delete"},
    "paths": {"post", "put", "exact", "exact with port", "front"},
    "templates": {
        *("delete", "exact", "exact with port", "dot behind host", "suffix", "prefix", "port in rule"),
        *("no port", "front"),
    },
    "notPorts": set(),
    "two operations": set(),
    "principals": {"front", "other", "bar"},
    "any principal": {"front", "other", "bar", "old"},
    "any trust domain": {"front", "old"},
    "namespaces": {"front", "bar", "old"},
    "namespace sa": set(),
    "namespace suffix": {"front", "old"},
    "serviceAccounts": {"front", "other", "old"},
    "trustDomains": {"front", "other", "bar", "old"},
    "ipBlocks": {"second address"},
    "notIpBlocks": {"second address"},
    "odd ipBlocks": {"second address"},
    "strange names": set(),
    "many principals": {"front"},
    "too many principals": {"front"},
    "remoteIpBlocks": {"behind proxy"},
    "requestPrincipals": {"token", "other subject"},
    "request issuer": {"token", "other subject"},
    "request suffix": {"token"},
    "any requestPrincipal": {"token", "other subject"},
    "two sources": {"bar", "second address"},
    "header": {"front", "header"},
    "source.ip": {"second address"},
    "remote.ip": {"behind proxy"},
    "source.namespace": {"front", "old"},
    "source.principal": {"front", "old"},
    "source.serviceAccount": {"front", "old"},
    "source.trustDomain": {"front", "other", "bar"},
    "audiences": {"token"},
    "presenter": {"token"},
    "claim": {"token"},
    "list claim": {"token"},
    "nested claim": {"token"},
    "scope": {"token"},
    "sni": {"bar"},
    "metadata": set(),
    "all at once": {"front"},
}
OPPOSITE: Final = {
    "notPrincipals": {"front"},
    "no principal": {"front", "other", "bar", "old"},
    "notNamespaces": {"front", "old"},
    "notServiceAccounts": {"front", "old"},
    "notTrustDomains": {"old"},
    "notRemoteIpBlocks": {"behind proxy"},
    "notRequestPrincipals": {"token", "other subject"},
    "notTemplates": {"dot behind host"},
    "notPaths": {"post", "exact", "exact with port", "front"},
    "notHosts": {"exact", "exact with port", "dot behind host", "dot and port", "suffix"},
    "no header": {"front", "header", "other header"},
    "no claim": {"token"},
    "no sni": {"bar"},
    "methods": {"delete"},
    "anything": set(),
    "any host": set(),
    "every address": set(),
    "any path": set(),
    "ports": set(),
    "destination.ip": set(),
    "destination.port": set(),
}
"""Rules that hold for all calls but these."""


def test_every_rule_of_the_table_is_written_out() -> None:
    """Or what is said of it here would be of some of them only."""
    assert HOLDS.keys() | OPPOSITE.keys() == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_holds_for_just_these_calls(name: str) -> None:
    """What it allows; a policy that denies by it lets the others in."""
    expected = HOLDS[name] if name in HOLDS else CALLS.keys() - OPPOSITE[name]
    for action, let_in in (("ALLOW", expected), ("DENY", CALLS.keys() - expected)):
        asked = ROWS[f"{action} {name}"]
        assert {each for each, call in CALLS.items() if decide(asked, call).allowed} == let_in


@pytest.mark.parametrize(
    "name", ["hosts", "notHosts", "methods", "paths", "templates", "header", "claim", "requestPrincipals"]
)
def test_of_what_is_not_http_rules_of_http_say_the_same_of_all(name: str) -> None:
    """An ALLOW rule never holds, a DENY rule always."""
    for action in ("ALLOW", "DENY"):
        asked = ROWS[f"{action} {name}"]
        assert not any(decide(asked, call).allowed for call in TCP_CALLS.values())


def test_the_deciding_object_is_named() -> None:
    """With the rule in it, and none where several could have allowed."""
    denying = authorization(action="DENY", rules=[RULES["hosts"], RULES["anything"]])
    allowing = [authorization(rules=[RULES["paths"]]) for _ in range(2)]
    denied = decide(policy(denying), Call())
    assert (denied.object, denied.reason) == (denying.origin, f"DENY foo/{denying.origin.name}, rule 1")
    allowed = decide(policy(*allowing), Call(path="/exact"))
    assert allowed.object == allowing[0].origin
    assert decide(policy(*allowing), Call(path="/x")).object is None
    assert decide(policy(allowing[0]), Call(path="/x")).object == allowing[0].origin
    nothing = decide(policy(), Call())
    assert (nothing.allowed, nothing.object, nothing.reason) == (True, None, "")


def test_what_is_tried_or_logged_is_noted() -> None:
    """And decides nothing."""
    tried = authorization(dry_run=True, action="DENY", rules=[{}])
    logged = authorization(action="AUDIT", rules=[{}])
    decision = decide(policy(tried, logged), Call())
    assert decision.allowed
    assert [note.rpartition(", and is ")[2] for note in decision.notes] == ["only tried", "only logged"]
