"""The error tree, classed by what the caller does next.

::

    OndolError
    ├── ApiError                 answered by an API server; `status_code` and `reason` are the wire form
    │   ├── BadRequest           400  the request cannot be understood: fix the caller
    │   │   └── Undecodable      400  fields of other types than the kind's
    │   ├── Unauthorized         401  authenticate
    │   ├── Forbidden            403  ask for a role
    │   ├── NotFound             404  create it, or treat it as gone
    │   ├── MethodNotAllowed     405
    │   ├── NotAcceptable        406
    │   ├── Conflict             409  read again, then retry
    │   │   └── AlreadyExists    409  use what is there
    │   ├── Expired              410  list again, then watch
    │   ├── TooLarge             413  send less
    │   ├── UnsupportedMediaType 415
    │   ├── Invalid              422  fix the object; `causes` name the fields
    │   ├── TooManyRequests      429  wait `retry_after_s`
    │   ├── Internal             500
    │   ├── Unavailable          503  wait, then retry (also raised when nothing answers)
    │   └── Timeout              504  wait, then retry
    └── HostError                this machine cannot do it; `remedy` is the command that mends it
        └── NotRunning           start the platform first

`api.status` translates an `ApiError` to and from a Kubernetes `Status` document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


def why(error: Exception) -> str:
    """What went wrong, for a message that names the file already: an OSError's words without its number."""
    return str((isinstance(error, OSError) and error.strerror) or error)


class OndolError(Exception):
    """Root of every error this project raises on purpose."""


class HostError(OndolError):
    """The host lacks something Ondol needs.

    `remedy` is a command or action the user can take, shown as it is.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class Damaged(HostError):
    """What was kept is there no more, or is not what was written; its `remedy` says what else can be done."""


class NotRunning(HostError):
    """No platform runs where one was looked for."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One field-level cause of an error, as in `Status.details.causes`."""

    reason: str
    message: str
    field: str = ""


class ApiError(OndolError):
    """An error with an HTTP status code and a machine-readable Kubernetes reason."""

    status_code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        causes: Sequence[Cause] = (),
        details: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.causes = tuple(causes)
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s


class BadRequest(ApiError):
    status_code, reason = 400, "BadRequest"


class Undecodable(BadRequest):
    """A document whose fields do not have the types of its kind; `why` is the decoder's reason."""

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


class Unauthorized(ApiError):
    status_code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    status_code, reason = 403, "Forbidden"


class NotFound(ApiError):
    status_code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    status_code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    status_code, reason = 406, "NotAcceptable"


class Conflict(ApiError):
    status_code, reason = 409, "Conflict"


class AlreadyExists(Conflict):
    reason = "AlreadyExists"


class Expired(ApiError):
    status_code, reason = 410, "Expired"


class TooLarge(ApiError):
    status_code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    status_code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    status_code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    status_code, reason = 429, "TooManyRequests"


class Internal(ApiError):
    status_code, reason = 500, "InternalError"


class Unavailable(ApiError):
    status_code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    status_code, reason = 504, "Timeout"


API_ERRORS: tuple[type[ApiError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Expired,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    Internal,
    Unavailable,
    Timeout,
)
