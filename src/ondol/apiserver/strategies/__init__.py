"""Strategies: what is particular about writing each built-in kind, one file a kind that needs one."""

from ondol.apiserver.strategies.base import Strategy

_PLAIN = Strategy()
_BY_KIND: dict[tuple[str, str], Strategy] = {}


def of(group: str, kind: str) -> Strategy:
    """The strategy of a built-in kind."""
    return _BY_KIND.get((group, kind), _PLAIN)
