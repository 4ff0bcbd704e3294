"""Puts children in effect: server-side apply of what is desired, skipped while nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors, names
from ondol.client import Client

FIELD_MANAGER: Final = "ondol-serving"


AGAIN_S: Final = 30.0
"""When to try again what only a person, or the end of something else, can mend."""


class ChildProblem(errors.OndolError):
    """A child that cannot be as it should; `reason` is the word for the parent's condition."""

    reason: ClassVar[str]


class NotOwned(ChildProblem):
    """An object of the child's name exists and belongs to somebody else."""

    reason = "NotOwned"


class Refused(ChildProblem):
    """The API server does not take the child."""

    reason = "Refused"


class Children:
    """Applies children of one controller and remembers what it applied.

    An apply that would change nothing costs the server a merge; remembering the wish and the
    generation it led to makes a reconcile of settled objects free.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._settled: dict[tuple[Resource, Key], tuple[str, str]] = {}

    async def apply(self, resource: Resource, desired: Object, observed: Mapping[str, Any] | None) -> Object:
        """Make the child so; `NotOwned` if its name is another owner's, `Refused` by the server."""
        place = (resource, objects.key(desired))
        if observed is not None:
            _require_same_owner(resource, desired, observed)
            wish = _fingerprint(desired)
            if self._settled.get(place) == (wish, _shape(observed)):
                return dict(observed)
        try:
            done = await self._client.apply(resource, desired, field_manager=FIELD_MANAGER)
        except (errors.Invalid, errors.BadRequest, errors.Forbidden) as error:
            raise Refused(str(error)) from error
        self._settled[place] = (_fingerprint(desired), _shape(done))
        return done

    def forget(self, resource: Resource, key: Key) -> None:
        self._settled.pop((resource, key), None)


def _require_same_owner(resource: Resource, desired: Mapping[str, Any], observed: Mapping[str, Any]) -> None:
    owner, holder = objects.controller_of(desired), objects.controller_of(observed)
    if owner is not None and (holder is None or holder.get("uid") != owner["uid"]):
        parent = f'{owner["kind"]} "{owner["name"]}"'
        raise NotOwned(
            f'There is an existing {resource.kind} "{objects.name(observed)}" that {parent} does not own.'
        )


def _fingerprint(desired: Mapping[str, Any]) -> str:
    return names.stable_hash(msgspec.json.encode(desired, order="deterministic"), 20)


def _shape(observed: Mapping[str, Any]) -> str:
    """What of an object an apply could have changed: not its status, not its version."""
    metadata = objects.metadata(observed)
    kept = {k: metadata.get(k) for k in ("uid", "generation", "labels", "annotations", "ownerReferences")}
    spec = None if metadata.get("generation") else observed.get("spec")
    return names.stable_hash(msgspec.json.encode([kept, spec], order="deterministic"), 20)
