"""EnvoyFilters on what arrives at guarded pods: after what policies decide, unless of a root namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from tests.mesh.envoy_filters import BUFFER, HCM, ROOT, http, put

from ondol.mesh.translate import messages as m
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]
ROUTER = "envoy.filters.http.router"
SLOTS = ["slot"] * 8
INBOUND = "SIDECAR_INBOUND"
COUNTING = ("header_to_metadata", "grpc_stats")
"""What only counts calls, and decides nothing."""


@pytest.fixture
def shop(objs: Any) -> Any:
    objs.pod("web")
    objs.pod("front")
    objs.service("web", endpoints=[("10.0.0.1", 80)], pods=["web"])
    spec = {"selector": {"matchLabels": {"app": "web"}}, "action": "DENY", "rules": [{}]}
    objs.put("AuthorizationPolicy", "deny", "default", spec)
    return objs


def arriving(translation: Translation, chain: str) -> list[str]:
    """The names of the HTTP filters of the only guarded pod, but for those that only count."""
    listed = translation.snapshot.of(types.LISTENER)
    (resource,) = (each for name, each in listed.items() if name.startswith("arrivals|"))
    chains = m.listener.Listener.FromString(resource.body).filter_chains
    manager = m.hcm.HttpConnectionManager()
    (carrier,) = (
        each for of in chains if of.name == chain for each in of.filters if each.typed_config.Unpack(manager)
    )
    assert carrier.name == HCM
    names = (each.name.removeprefix("envoy.filters.http.") for each in manager.http_filters)
    return ["slot" if name.startswith("arrivals|") else name for name in names if name not in COUNTING]


@pytest.mark.parametrize(
    ("namespace", "patch", "expected"),
    [
        ("default", http(BUFFER, context=INBOUND), [*SLOTS, "buffer", "router"]),
        ("default", http(BUFFER), [*SLOTS, "buffer", "router"]),
        ("default", http(BUFFER, context=INBOUND, name="virtualInbound"), [*SLOTS, "buffer", "router"]),
        ("default", http(BUFFER, "INSERT_FIRST", context=INBOUND), [*SLOTS, "buffer", "router"]),
        (ROOT, http(BUFFER, "INSERT_FIRST", context=INBOUND), ["buffer", *SLOTS, "router"]),
        (ROOT, http(BUFFER, context=INBOUND), [*SLOTS, "buffer", "router"]),
        ("other", http(BUFFER, context=INBOUND), [*SLOTS, "router"]),
        ("default", http(BUFFER, context="SIDECAR_OUTBOUND"), [*SLOTS, "router"]),
        ("default", http(BUFFER, context="GATEWAY"), [*SLOTS, "router"]),
        ("default", http(BUFFER, portNumber=80), [*SLOTS, "router"]),
        ("default", http(BUFFER, name="virtualOutbound"), [*SLOTS, "router"]),
    ],
)
def test_a_filter_stands_after_what_policies_decide(
    shop: Any, translate: Translate, namespace: str, patch: Any, expected: list[str]
) -> None:
    """Whatever place it asks for; a root namespace's has the place that it asks for."""
    put(shop, patch, namespace=namespace)
    translation = translate(shop)
    assert arriving(translation, "mutual|http") == arriving(translation, "plain|http") == expected


def test_no_namespace_switches_policies_off(shop: Any, translate: Translate) -> None:
    """A MERGE into all filters meets those of the namespace alone, and one by the name of a slot none."""
    listed = translate(shop).snapshot.of(types.EXTENSION)
    slot = next(name for name in listed if name.startswith("arrivals|"))
    put(shop, http(BUFFER, context=INBOUND), name="a")
    everything = {"applyTo": "HTTP_FILTER", "match": {"context": INBOUND}}
    put(shop, {**everything, "patch": {"operation": "MERGE", "value": {"disabled": True}}}, name="b")
    put(shop, http({"disabled": True}, "MERGE", slot, context=INBOUND), name="c")
    listeners = translate(shop).snapshot.of(types.LISTENER)
    (resource,) = (each for name, each in listeners.items() if name.startswith("arrivals|"))
    manager = m.hcm.HttpConnectionManager()
    for chain in m.listener.Listener.FromString(resource.body).filter_chains:
        if chain.name.endswith("|http"):
            chain.filters[-1].typed_config.Unpack(manager)
            listed_as = json_format.MessageToDict(manager)["httpFilters"]
            off = [each["name"] for each in listed_as if each.get("disabled")]
            assert off == ["buffer", ROUTER]
    blamed = {origin.name for origin in resource.origins}
    assert blamed == {"web", "a", "b"}
