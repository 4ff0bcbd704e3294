"""The metadata rules of every write: what the server sets, keeps and refuses. Pure.

Follows apiserver `pkg/registry/rest/{create,update,meta}.go`.
"""

from __future__ import annotations

import random
from typing import Any, Final

from ondol.api import objects, status
from ondol.api.objects import Object, Resource
from ondol.base import clock, errors, names

_SERVER_SET: Final = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation")
_SERVER_FIELDS: Final = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)


def place(document: Object, resource: Resource, namespace: str, name: str = "") -> None:
    """Check that a document is what its URL says, and fill in what it leaves out, in place."""
    _check_kind(document, resource)
    metadata = document.get("metadata")
    if metadata is None:
        metadata = document["metadata"] = {}
    if not isinstance(metadata, dict):
        raise errors.BadRequest("metadata: must be an object")
    own = metadata.get("namespace") or ""
    if not resource.namespaced:
        metadata.pop("namespace", None)
    elif own and own != namespace:
        raise errors.BadRequest(
            f"the namespace of the provided object does not match the namespace sent on the request: "
            f"{own} != {namespace}"
        )
    else:
        metadata["namespace"] = namespace
    if name:
        _check_name(metadata, name)


def _check_kind(document: Object, resource: Resource) -> None:
    api_version, kind = document.get("apiVersion"), document.get("kind")
    if api_version in (None, "") and kind in (None, ""):
        document["apiVersion"], document["kind"] = resource.api_version, resource.kind
    elif api_version != resource.api_version:
        raise errors.BadRequest(
            f"the API version in the data ({api_version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    elif kind != resource.kind:
        raise errors.BadRequest(f"the object provided is a {kind}, but {resource.kind} was expected here")


def _check_name(metadata: dict[str, Any], name: str) -> None:
    own = metadata.get("name") or ""
    if own and own != name:
        raise errors.BadRequest(f"the name of the object ({own}) does not match the name on the URL ({name})")
    metadata["name"] = name


def for_create(obj: Object, resource: Resource, *, now: float, uid: str, rng: random.Random) -> bool:
    """Set what the server sets on a new object, in place; whether it made the name up."""
    metadata = obj["metadata"]
    if is_conditional(obj):
        raise errors.BadRequest("resourceVersion should not be set on objects to be created")
    for field in (*_SERVER_SET, "resourceVersion"):
        metadata.pop(field, None)
    generated = not metadata.get("name")
    if generated:
        prefix = metadata.get("generateName")
        if not prefix:
            cause = errors.Cause(
                "FieldValueRequired", "Required value: name or generateName is required", "metadata.name"
            )
            raise status.invalid(resource, "", [cause])
        metadata["name"] = names.generate(prefix, rng)
    metadata["uid"] = uid
    metadata["creationTimestamp"] = clock.rfc3339(now)
    return generated


def restore(new: Object, before: Object) -> None:
    """Put back, in place, what admission may not change: the identity, and the server's fields."""
    metadata, was = new.setdefault("metadata", {}), before["metadata"]
    for field in (*_SERVER_FIELDS, "name", "generateName", "namespace", "resourceVersion", "managedFields"):
        if field in was:
            metadata[field] = was[field]
        else:
            metadata.pop(field, None)
    new["apiVersion"], new["kind"] = before["apiVersion"], before["kind"]


def is_conditional(document: Object) -> bool:
    """Whether a document names the version it was made from; "0" names none."""
    return objects.resource_version(document) not in ("", "0")


def check_version(new: Object, old: Object, resource: Resource) -> None:
    """`Conflict` if the new object was made from another version than the live one."""
    version, live = objects.resource_version(new), objects.resource_version(old)
    if version == live or not is_conditional(new):
        return
    if not (version.isascii() and version.isdigit()):
        raise errors.BadRequest(
            f'metadata.resourceVersion: Invalid value: "{version[:40]}": must be a decimal number'
        )
    raise status.conflict(resource, objects.name(old))


def for_update(new: Object, old: Object, resource: Resource) -> None:
    """Keep what a client cannot change, in place; `Conflict` on another uid or resourceVersion."""
    metadata, was = new["metadata"], old["metadata"]
    name = was["name"]
    if metadata.get("uid") and metadata["uid"] != was["uid"]:
        raise status.conflict(
            resource,
            name,
            f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {was['uid']}",
        )
    if metadata.get("name") != name:
        raise errors.BadRequest("metadata.name: Invalid value: field is immutable")
    for field in _SERVER_FIELDS:
        if field in was:
            metadata[field] = was[field]
        else:
            metadata.pop(field, None)
    metadata.pop("selfLink", None)


def update_problems(new: Object, old: Object) -> list[errors.Cause]:
    """Finalizers may only go once an object is being deleted."""
    if not objects.is_deleting(old):
        return []
    added = sorted(set(objects.finalizers(new)) - set(objects.finalizers(old)))
    if not added:
        return []
    listed = ", ".join(f'"{name}"' for name in added)
    message = (
        "Forbidden: no new finalizers can be added if the object is being deleted, "
        f"found new finalizers []string{{{listed}}}"
    )
    return [errors.Cause("FieldValueForbidden", message, "metadata.finalizers")]


def check_preconditions(obj: Object, resource: Resource, uid: str, resource_version: str) -> None:
    """`Conflict` unless the object has the uid and resourceVersion asked for (empty: any)."""
    live = obj["metadata"]
    for field, expected, current, why in (
        ("UID", uid, live["uid"], "deleted and then recreated"),
        ("ResourceVersion", resource_version, live["resourceVersion"], "modified"),
    ):
        if expected and expected != current:
            raise status.kind_conflict(
                resource,
                live["name"],
                f"the {field} in the precondition ({expected}) does not match the {field} in record "
                f"({current}). The object might have been {why}",
            )
