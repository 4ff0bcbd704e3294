"""Documents that can be read and not changed: those of a test's informers.

Documents of informers are shared by all who read them, so one that somebody edits is wrong for everybody
else, far from the line that did it. A frozen one raises a `TypeError` at that line. In all else it is a dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from ondol.api.objects import Object


def freeze(document: Object) -> Object:
    """The document, and all in it, as one that cannot be changed."""
    frozen: Object = _frozen(document)
    return frozen


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return _Dict({key: _frozen(each) for key, each in value.items()})
    if isinstance(value, list):
        return _List(_frozen(each) for each in value)
    return value


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError(f"a document of an informer is shared, copy it before you change it: {self!r:.200}")


class _Dict(dict[str, Any]):
    """A dict that is not changed; a copy of it can be."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> dict[str, Any]:
        return {key: _thawed(each) for key, each in self.items()}


class _List(list[Any]):
    """A list that is not changed; a copy of it can be."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> list[Any]:
        return [_thawed(each) for each in self]


def _thawed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _thawed(each) for key, each in value.items()}
    return [_thawed(each) for each in value] if isinstance(value, list) else value
