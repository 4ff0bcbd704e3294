"""Names: the DNS rules, generated names and the names of children."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.base import names

_LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,80}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "label", "subdomain", "label_1035"),
    [
        ("web", True, True, True),
        ("web-0", True, True, True),
        ("0web", True, True, False),
        ("a.b", False, True, False),
        ("Web", False, False, False),
        ("-web", False, False, False),
        ("web-", False, False, False),
        ("a..b", False, False, False),
        ("web\n", False, False, False),
        ("", False, False, False),
        ("a" * 63, True, True, True),
        ("a" * 64, False, True, False),
        ("a" * 254, False, False, False),
    ],
)
def test_names_obey_the_dns_rules(name: str, label: bool, subdomain: bool, label_1035: bool) -> None:
    """Labels, subdomains and the stricter label of a Service."""
    assert names.is_dns1123_label(name) is label
    assert names.is_dns1123_subdomain(name) is subdomain
    assert names.is_dns1035_label(name) is label_1035


def test_a_generated_name_is_the_prefix_and_five_characters() -> None:
    """A long prefix is cut, so that the name stays a label; the same seed gives the same name."""
    assert names.generate("web-", random.Random(1)) == names.generate("web-", random.Random(1))
    assert len(names.generate("web-", random.Random(1))) == len("web-") + 5
    assert len(names.generate("p" * 100, random.Random(1))) == 63


@pytest.mark.parametrize(
    ("parent", "suffix", "name"),
    [
        ("asdf", "-deployment", "asdf-deployment"),
        ("f" * 63, "-deployment", "ffffffffffffffffffff105d7597f637e83cc711605ac3ea4957-deployment"),
        ("f" * 63, "-deploy", "ffffffffffffffffffffffff105d7597f637e83cc711605ac3ea4957-deploy"),
    ],
)
def test_a_childs_name_is_knatives(parent: str, suffix: str, name: str) -> None:
    """Children made by Knative's own controllers have the same names."""
    assert names.child_name(parent, suffix) == name


@given(_LABEL, _LABEL.map("-".__add__))
def test_a_childs_name_is_a_valid_label(parent: str, suffix: str) -> None:
    """However long its parts are; and short ones are kept as they are."""
    name = names.child_name(parent, suffix)
    assert names.is_dns1123_label(name)
    if len(parent) + len(suffix) <= 63:
        assert name == parent + suffix
    elif len(suffix) < 31:
        assert name.endswith(suffix)


@given(st.binary())
def test_a_stable_hash_has_no_words_in_it(data: bytes) -> None:
    """The alphabet has no vowels and no look-alikes; equal data give equal hashes."""
    hashed = names.stable_hash(data)
    assert hashed == names.stable_hash(bytes(data))
    assert 0 < len(hashed) <= 10
    assert set(hashed) <= set("bcdfghjklmnpqrstvwxz2456789")
