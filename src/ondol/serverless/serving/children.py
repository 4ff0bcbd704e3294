"""Children of Serving objects: an `sdk` apply whose refusals become conditions of the parent."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.sdk import children
from ondol.sdk.children import Family

FIELD_MANAGER: Final = "ondol-serving"


RETRY_S: Final = 30.0
"""When to try again what only a person, or the end of something else, can mend."""


class ChildProblem(errors.OndolError):
    """A child that cannot be as it should; `reason` is that of the parent's condition."""

    reason: ClassVar[str]


class NotOwned(ChildProblem):
    """An object of the child's name exists and belongs to somebody else."""

    reason = "NotOwned"


class Refused(ChildProblem):
    """The API server does not take the child."""

    reason = "Refused"


async def apply(family: Family, resource: Resource, desired: Object, live: Object | None) -> Object:
    """Make the child so; `NotOwned` if its name is another owner's, `Refused` by the server."""
    try:
        return await family.apply(resource, desired, live)
    except children.NotOwned as error:
        owner = objects.controller_of(desired) or {}
        parent = f'{owner.get("kind")} "{owner.get("name")}"'
        raise NotOwned(
            f'There is an existing {resource.kind} "{objects.name(desired)}" that {parent} does not own.'
        ) from error
    except (errors.Invalid, errors.BadRequest, errors.Forbidden) as error:
        raise Refused(str(error)) from error
