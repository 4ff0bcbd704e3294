"""Paths and hosts that are written to be read otherwise: no spelling of a denied path gets past its rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from tests.mesh.arrival import Arrival, authorization, policy

from ondol.mesh.model.mesh_options import MeshOptions
from ondol.mesh.policy import Call, decide, hardening

DENIED: Final = {
    "the path itself": "/admin",
    "its query": "/admin?x=/public",
    "two slashes": "//admin",
    "a slash behind": "/admin/",
    "many slashes": "/admin///x",
    "dots": "/public/../admin",
    "escaped dots": "/public/%2e%2E/admin",
    "dots that lead out": "/../../admin",
    "a dot": "/./admin",
    "an escaped dot": "/%2e/admin",
    "dots with parameters": "/public/..;/admin",
    "dots with more parameters": "/public/..;a=b/admin",
    "escaped dots with parameters": "/public/%2e%2e;/admin",
    "a dot with parameters": "/.;/admin",
    "an escaped letter": "/%61dmin",
    "parameters behind": "/admin;x=y",
    "backslashes": "\\admin",
    "backslashes and dots": "/public\\..\\admin",
    "escaped slash": "/public/..%2fadmin",
    "escaped backslash": "/public/..%5Cadmin",
    "slash that is escaped": "%2fadmin",
    "slash behind that is escaped": "/admin%2Fx",
    "fragment": "/admin#x",
    "fragment before": "/public#/../admin",
    "null byte": "/admin%00",
    "null byte before": "/%00/../admin",
}
TAKEN: Final = {
    "another path": ("/public", "/public"),
    "case": ("/ADMIN", "/ADMIN"),
    "three dots": ("/.../admin", "/.../admin"),
    "an escaped letter": ("/%41dmin", "/Admin"),
    "a letter that is twice escaped": ("/%2561dmin", "/%2561dmin"),
    "twice escaped": ("/%252e%252e/admin", "/%252e%252e/admin"),
    "query with slashes": ("/public?x=%2fadmin//", "/public?x=%2fadmin//"),
    "an escaped letter that is another": ("/a%20b", "/a%20b"),
}
"""And what the application is given."""
HOSTS: Final = ("shop.example", "SHOP.example", "shop.example.", "shop.example:80", "shop.example.:8080")
NO_RULES: Final = policy()
PATHS: Final = policy(authorization(action="DENY", rules=[{"to": [{"operation": {"paths": ["/admin*"]}}]}]))
ONLY: Final = policy(authorization(rules=[{"to": [{"operation": {"paths": ["/admin"]}}]}]))
HOST: Final = policy(
    authorization(action="DENY", rules=[{"to": [{"operation": {"hosts": ["shop.example", "*.shop.org"]}}]}])
)


@pytest.fixture(scope="module")
def arrival(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    proxy = Arrival(Path(tmp_path_factory.mktemp("hardening")))
    ports = {
        "paths": proxy.plan(PATHS),
        "only": proxy.plan(ONLY),
        "none": proxy.plan(NO_RULES),
        "host": proxy.plan(HOST),
    }
    proxy.start()
    yield {"proxy": proxy, **ports}
    proxy.stop()


@pytest.mark.parametrize("path", DENIED.values(), ids=DENIED)
def test_no_spelling_gets_past_a_denied_path(arrival: dict[str, Any], path: str) -> None:
    """Denied, refused, or redirected to the plain path: never taken."""
    call = Call(port=arrival["paths"], path=path)
    assert arrival["proxy"].send(call, arrival["paths"]).status in (400, 403, 307)
    assert not decide(PATHS, call).allowed


@pytest.mark.parametrize(("path", "seen"), TAKEN.values(), ids=TAKEN)
def test_other_paths_arrive_as_they_are(arrival: dict[str, Any], path: str, seen: str) -> None:
    """What is no spelling of the path is taken, and not changed."""
    call = Call(port=arrival["paths"], path=path)
    answer = arrival["proxy"].send(call, arrival["paths"])
    assert (answer.status, answer.headers.get("seen-path")) == (200, seen)
    assert decide(PATHS, call).allowed


def test_a_path_that_alone_is_allowed_is_given_as_it_was_judged(arrival: dict[str, Any]) -> None:
    """What passes an ALLOW rule is the very path of the rule, however it was written."""
    for path in DENIED.values():
        answer = arrival["proxy"].send(Call(path=path), arrival["only"])
        if answer.status == 200:
            assert answer.headers["seen-path"].partition("?")[0] == "/admin"


def test_where_no_rule_looks_at_paths_they_stay_as_they_are(arrival: dict[str, Any]) -> None:
    """Applications for which an escaped slash, or two, mean something keep them."""
    for path in ("/api/group%2Fproject", "/a//b", "/%2f"):
        answer = arrival["proxy"].send(Call(path=path), arrival["none"])
        assert (answer.status, answer.headers["seen-path"]) == (200, path)


@pytest.mark.parametrize("host", [*HOSTS, "a.shop.org:1", "a.SHOP.org."])
def test_no_spelling_gets_past_a_denied_host(arrival: dict[str, Any], host: str) -> None:
    """Case, a dot behind and a port make no other host."""
    call = Call(port=arrival["host"], host=host)
    assert arrival["proxy"].send(call, arrival["host"]).status == 403
    assert not decide(HOST, call).allowed


def test_the_configuration_of_the_mesh_decides_if_it_says_so() -> None:
    """`pathNormalization` of Istio's is taken at its word."""
    for name, expected in (
        ("NONE", hardening.Reading(normalizes=False)),
        ("BASE", hardening.Reading()),
        ("MERGE_SLASHES", hardening.Reading(merges_slashes=True)),
    ):
        options = MeshOptions(normalization=name)  # type: ignore[arg-type]  # it is one of the words
        assert hardening.reading(replace(PATHS, options=options)) == expected
    assert hardening.reading(PATHS) == hardening.STRICT
    assert hardening.reading(NO_RULES) == hardening.Reading()
