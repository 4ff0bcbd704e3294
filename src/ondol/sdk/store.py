"""The informer's memory: documents by key, with indexes, read through a `Lister`.

Documents are shared with every reader: none may change one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ondol.api import labels, objects
from ondol.api.objects import Key, Object

IndexFunction = Callable[[Object], Iterable[str]]
Objects = list[Object]

_NAMESPACE = "namespace"


def _by_namespace(obj: Object) -> Iterable[str]:
    return (objects.namespace(obj),)


class Store:
    """Documents by key; every index maps a value to the keys that have it, in order of arrival."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._functions: dict[str, IndexFunction] = {_NAMESPACE: _by_namespace}
        self._indexes: dict[str, dict[str, dict[Key, Object]]] = {_NAMESPACE: {}}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._objects)

    def get(self, key: Key) -> Object | None:
        return self._objects.get(key)

    def values(self) -> list[Object]:
        return list(self._objects.values())

    def by_index(self, index: str, value: str) -> list[Object]:
        return list(self._indexes[index].get(value, {}).values())

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index by `function`; a name stands for one function."""
        if self._functions.get(name, function) != function:
            raise ValueError(f"index {name!r} is taken by another function")
        if name in self._functions:
            return
        self._functions[name] = function
        self._indexes[name] = {}
        for key, obj in self._objects.items():
            self._enter(name, key, obj)

    def put(self, key: Key, obj: Object) -> Object | None:
        """Store the document; the one it replaces is returned."""
        old = self.discard(key)
        self._objects[key] = obj
        for name in self._functions:
            self._enter(name, key, obj)
        return old

    def discard(self, key: Key) -> Object | None:
        old = self._objects.pop(key, None)
        if old is not None:
            for name in self._functions:
                self._leave(name, key, old)
        return old

    def _enter(self, name: str, key: Key, obj: Object) -> None:
        index = self._indexes[name]
        for value in self._functions[name](obj):
            index.setdefault(value, {})[key] = obj

    def _leave(self, name: str, key: Key, obj: Object) -> None:
        index = self._indexes[name]
        for value in self._functions[name](obj):
            keys = index.get(value)
            if keys is not None and keys.pop(key, None) is not None and not keys:
                del index[value]


class Lister:
    """Reads of the informer's store: no request, no waiting. Never change what it returns."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def get(self, key: Key) -> Object | None:
        return self._store.get(key)

    def list(self, namespace: str = "", selector: labels.Selector | None = None) -> list[Object]:
        """Objects of one namespace, or of all; `selector` compares labels."""
        candidates = self._store.by_index(_NAMESPACE, namespace) if namespace else self._store.values()
        if selector is None or selector.is_everything:
            return candidates
        return [obj for obj in candidates if selector.matches(objects.labels(obj))]

    def by_index(self, index: str, value: str) -> Objects:
        return self._store.by_index(index, value)
