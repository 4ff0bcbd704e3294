"""Users' regular expressions: Go's syntax, and no text that holds the server."""

from __future__ import annotations

import re

import pytest

from ondol.base import errors, regexp


@pytest.mark.parametrize(
    ("expression", "good", "bad"),
    [
        (r"^(?i)(abort|warn)?$", "ABORT", "other"),
        (r"^\pL+$", "온돌", "a1"),
        (r"^\p{Greek}$", "λ", "l"),
        (r"^[[:alpha:]]+$", "ab", "a1"),
        (r"^\Qa.b\E$", "a.b", "axb"),
        (r"^\Q\C\E$", r"\C", "x"),
        (r"^\d+$", "12", "٣"),
        (r"^a\z", "a", "a\n"),
        (r"^a$", "a", "a\n"),
        (r"(?i:abc)", "xABCx", "ab"),
        (r"^(?P<x>a)(?<y>b)$", "ab", "ba"),
        (r"b", "abc", "ac"),
        (r"", "anything", None),
        (r"^.$", "é", "éé"),
        (r"a{,2}", "a{,2}", "aa"),
    ],
)
def test_what_go_takes(expression: str, good: str, bad: str | None) -> None:
    """It matches anywhere in the text, by Go's rules."""
    compiled = regexp.compiled(expression)
    assert compiled.search(good)
    assert bad is None or not compiled.search(bad)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("^(?!x).*$", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?>a)", "invalid or unsupported Perl syntax: `(?>`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("(x{1000}){1000}", "invalid repeat count: `{1000}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a++", "invalid nested repetition operator: `++`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("(a", "missing closing ): `(a`"),
        ("[a", "missing closing ]: `[a`"),
        (r"a\C", r"invalid escape sequence: `\C`"),
        (r"[\C]", r"invalid escape sequence: `\C`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"(?:\pL{900}){1}", "pattern too large - compile failed"),
    ],
)
def test_what_go_refuses(expression: str, message: str) -> None:
    """Look-around, back-references and what would need too much memory, each in Go's words."""
    with pytest.raises(ValueError, match=re.escape(message)):
        regexp.compiled(expression)


def test_exponential_expressions_are_harmless() -> None:
    """A backtracking engine would not come back from this."""
    assert not regexp.compiled(r"^(a+)+$").search("a" * 100_000 + "!")


def test_linear_is_bounded_too() -> None:
    """A large program on a long text is refused before it is run, and so is the sum of many."""
    heavy = regexp.compiled("(a?){1000}b")
    with pytest.raises(errors.TooLarge, match="too long"):
        heavy.search("a" * 1_000_000)
    budget = regexp.Budget(steps=10_000_000)
    for _ in range(49):
        assert not heavy.search("a" * 100, budget)
    with pytest.raises(errors.TooLarge):
        heavy.search("a" * 100, budget)


def test_lone_surrogates_do_not_break_it() -> None:
    """They come out of YAML escapes, and are no text that UTF-8 knows."""
    assert regexp.compiled("^a.b$").search("a\ud800b")


def test_few_patterns_are_remembered() -> None:
    """Each may take a megabyte; whoever brings many of them compiles anew."""
    remembered = regexp.compiled.cache_info().maxsize or 0
    assert remembered * regexp.PROGRAM_BYTES_MAX <= 128 << 20
