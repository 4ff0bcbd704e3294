"""What was translated before, kept for the next translation so that a change costs what it concerns."""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import Any, Generic, TypeVar

from ondol.base.memo import Memo

T = TypeVar("T")
Asker = TypeVar("Asker", bound=Hashable)
Name = TypeVar("Name", bound=Hashable)


class ByName(Generic[Asker, Name, T]):
    """Values that depend on their asker and on what stands under their name, and on nothing else.

    They stay for the next era if they were asked for in this one and their name is not among those that the
    change concerns.
    """

    def __init__(self) -> None:
        self._values: dict[Asker, dict[Name, T]] = {}
        self._earlier: dict[Asker, dict[Name, T]] = {}

    def of(self, asker: Asker) -> dict[Name, T]:
        """The asker's values by name; who makes one puts it there."""
        values = self._values.get(asker)
        if values is None:
            values = self._values[asker] = self._earlier.pop(asker, {})
        return values

    def renew(self, concerned: Container[Name] | None) -> None:
        """Begin an era in which these names may mean something else; None for all names."""
        self._earlier = {}
        if concerned is not None:
            self._earlier = {
                asker: {name: value for name, value in values.items() if name not in concerned}
                for asker, values in self._values.items()
            }
        self._values = {}


class Cache:
    """The one store of a translator, in which every value satisfies one invariant.

    **Invariant: a value that can be read here equals what making it now would give.** It holds because a
    value is found only by what it is made of:

    - `of_translation` and `of_era` find it by a key that names all of it. Documents never change while they
      live, so the identity of one stands for its content (`alive` keeps it from being freed, and its identity
      from being given to another); an object of the mesh's own kinds is named by its origin, which has its
      version.
    - `ByName` finds it by asker and name; it depends on what stands under that name. `begin_era` drops those
      of the names that a change concerns (`changes.concerned`), or all.

    A value is dropped when it is not asked for any more: those `of_translation` after one in which nobody
    did, all others after an era in which nobody did. An **era** lasts while services and the mesh's own
    objects stay what they are, however pods and endpoints change.

    Example: a pod becomes ready. Its slice is a new document, so the endpoints of its service are made anew;
    everything else is found. A service is added: an era begins; hosts and rules that mention its name are
    made anew, and all others are found under their names.
    """

    def __init__(self) -> None:
        self.of_translation = Memo()
        """What each translation asks for."""
        self.of_era = Memo()
        """What is asked for when an era begins, or for the first time in one."""
        self._by_name: list[tuple[str, ByName[Any, Any, Any]]] = []

    @property
    def misses(self) -> int:
        """How many values were made because there was none: what the translations did cost."""
        return self.of_translation.misses + self.of_era.misses

    def by_host(self) -> ByName[Any, str, Any]:
        """A store of values by full host name."""
        return self._add("hosts")

    def by_rule(self) -> ByName[Any, Any, Any]:
        """A store of values by the origin of a rule."""
        return self._add("rules")

    def _add(self, names: str) -> ByName[Any, Any, Any]:
        store: ByName[Any, Any, Any] = ByName()
        self._by_name.append((names, store))
        return store

    def begin_era(self, hosts: Container[Any] | None, rules: Container[Any] | None) -> None:
        """Services or objects of the mesh changed; who is concerned, or None for everybody."""
        self.of_era.sweep()
        for names, store in self._by_name:
            store.renew(hosts if names == "hosts" else rules)

    def end_translation(self) -> None:
        self.of_translation.sweep()
