"""`Status` documents: the wire form of an error, translated at this one place for both sides.

Codes, reasons and message shapes follow apimachinery `pkg/api/errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api.objects import Object, Resource
from ondol.base import errors

# The order in which Kubernetes writes the members of `details`: there are clients that compare bytes.
_DETAILS: Final = ("name", "group", "kind", "uid", "causes", "retryAfterSeconds")


def failure(error: errors.ApiError) -> Object:
    """The `Status` document that answers `error`; it always has `details`, which clients rely on."""
    details = dict(error.details)
    if error.causes:
        details["causes"] = [
            {
                **({"reason": c.reason} if c.reason else {}),
                "message": c.message,
                **({"field": c.field} if c.field else {}),
            }
            for c in error.causes
        ]
    if error.retry_after_s is not None:
        details["retryAfterSeconds"] = error.retry_after_s
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
        "details": _ordered(details),
        "code": error.status_code,
    }


def _ordered(details: Mapping[str, Any]) -> Object:
    ordered = {field: details[field] for field in _DETAILS if details.get(field)}
    return ordered | {field: value for field, value in details.items() if field not in _DETAILS}


def success(resource: Resource, name: str, uid: str) -> Object:
    """The `Status` document that answers a completed delete."""
    details = _ordered({**_details(resource, name), "uid": uid})
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def error_from(document: Mapping[str, Any], status_code: int) -> errors.ApiError:
    """The error a `Status` document (or any failed answer) stands for."""
    reason = document.get("reason") or ""
    code = int(document.get("code") or status_code)
    details = dict(document.get("details") or {})
    causes = tuple(
        errors.Cause(c.get("reason", ""), c.get("message", ""), c.get("field", ""))
        for c in details.pop("causes", None) or ()
    )
    retry_after_s = details.pop("retryAfterSeconds", None)
    by_reason = next((e for e in errors.API_ERRORS if e.reason == reason), None)
    by_code = next(
        (e for e in errors.API_ERRORS if e.status_code == code and e is not errors.AlreadyExists), None
    )
    kind = by_reason or by_code or errors.Internal
    message = str(document.get("message") or f"the server answered {code}")
    return kind(message, causes=causes, details=details, retry_after_s=retry_after_s)


def _details(resource: Resource, name: str) -> dict[str, Any]:
    details = {"name": name, "kind": resource.plural}
    if resource.group:
        details["group"] = resource.group
    return details


def not_found(resource: Resource, name: str) -> errors.NotFound:
    return errors.NotFound(f'{resource.group_resource} "{name}" not found', details=_details(resource, name))


def forbidden(resource: Resource, name: str, why: str) -> errors.Forbidden:
    """What admission refuses of an object, in the form of Kubernetes."""
    message = f'{resource.group_resource} "{name}" is forbidden: {why}'
    return errors.Forbidden(message, details=_details(resource, name))


def already_exists(resource: Resource, name: str) -> errors.AlreadyExists:
    return errors.AlreadyExists(
        f'{resource.group_resource} "{name}" already exists', details=_details(resource, name)
    )


def conflict(resource: Resource, name: str, reason: str = "") -> errors.Conflict:
    text = reason or (
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    return errors.Conflict(
        f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {text}',
        details=_details(resource, name),
    )


def kind_conflict(resource: Resource, name: str, reason: str) -> errors.Conflict:
    """A conflict whose message names the kind, such as one of a delete's preconditions."""
    subject = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return errors.Conflict(
        f'Operation cannot be fulfilled on {subject} "{name}": {reason}',
        details={"name": name, "group": resource.group, "kind": resource.kind},
    )


def invalid(resource: Resource, name: str, causes: Sequence[errors.Cause]) -> errors.Invalid:
    """All causes in one error, so that the user sees everything wrong at once."""
    listed = [f"{c.field}: {c.message}" if c.field else c.message for c in causes]
    text = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    subject = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {"name": name, "kind": resource.kind}
    if resource.group:
        details["group"] = resource.group
    return errors.Invalid(f'{subject} "{name}" is invalid: {text}', causes=causes, details=details)
