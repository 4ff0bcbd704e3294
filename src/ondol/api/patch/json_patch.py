"""JSON patch (RFC 6902) as Kubernetes applies it: with the answers of evanphx's json-patch, version 4.

That library is looser than the RFC in places on which clients have come to rely: `replace` of a
member that is not there adds it, `add` without a value and `copy` of a missing member give null, what
stands before a path's first slash is not looked at, and negative indices count from the end. Only a
body that is no list of objects is a `BadRequest`; whatever does not fit the document (a failed `test`, a
missing parent) is `Invalid` (422), the way operators detect that they lost a race.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.base import errors

OPERATIONS_MAX: Final = 10_000
COPIED_BYTES_MAX: Final = 3 * 1024 * 1024
"""What all copy operations of a patch may add: as much as the body of a request may bring."""
_INDEX: Final = re.compile(r"[+-]?[0-9]{1,10}")


class _NotThere(Exception):
    """A part of a path does not exist in the document, or an index is out of range."""


class DoesNotHold(errors.Invalid):
    """An operation `test` that does not hold."""


class _Own:
    """Containers that were made here and stand at one place only, so that they are changed as they are.

    Else each of ten thousand operations on one large list or object copies all of it.
    """

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        self._by_id: dict[int, Any] = {}

    def of(self, container: Any) -> Any:
        """The container itself if it is of this kind, else a copy that is from now on."""
        if id(container) in self._by_id:
            return container
        copied = dict(container) if isinstance(container, dict) else list(container)
        self._by_id[id(copied)] = copied
        return copied

    def share(self, value: Any) -> None:
        """What is inside of a value stands at a second place from now on."""
        waiting = [value]
        while waiting and self._by_id:
            one = waiting.pop()
            if isinstance(one, dict | list):
                self._by_id.pop(id(one), None)
                waiting.extend(one.values() if isinstance(one, dict) else one)


def apply(document: Any, patch: Any) -> Any:
    """The document after every operation in order; `document` itself stays as it is."""
    copied_bytes, own = 0, _Own()
    for operation in _checked(patch):
        if operation.get("op") == "copy":
            copied_bytes += _size_bytes(document, operation)
            if copied_bytes > COPIED_BYTES_MAX:
                raise errors.TooLarge(
                    "Unable to complete the copy, the accumulated size increase of copy is "
                    f"{copied_bytes}, exceeding the limit {COPIED_BYTES_MAX}"
                )
        document = _one(document, operation, own)
    return document


def _size_bytes(document: Any, operation: Mapping[str, Any]) -> int:
    """What an operation copies: copies of copies double with each, so a few could fill the memory."""
    try:
        value = _find(document, _tokens(_text(operation, "from")))
    except _NotThere:
        return 0
    return len(msgspec.json.encode(value))


def _checked(patch: Any) -> Sequence[Mapping[str, Any]]:
    if patch is None:
        return ()
    if not isinstance(patch, list) or not all(isinstance(each, dict | None) for each in patch):
        raise errors.BadRequest("error decoding patch: a JSON patch is a list of operations")
    if len(patch) > OPERATIONS_MAX:
        raise errors.TooLarge(
            f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {len(patch)}"
        )
    return [each or {} for each in patch]


def _one(document: Any, operation: Mapping[str, Any], own: _Own) -> Any:
    kind = operation.get("op")
    match kind:
        case "test":
            _test(document, operation)
            return document
        case "remove":
            return _changed(document, operation, "remove", own)
        case "replace":
            return _replace(document, operation, own)
        case "add":
            return _changed(document, operation, "add", own)
        case "move" | "copy":
            return _move_or_copy(document, operation, kind, own)
    raise _refused(f"Unexpected kind: {kind if isinstance(kind, str) else 'unknown'}")


def _text(operation: Mapping[str, Any], member: str) -> str:
    value = operation.get(member)
    if not isinstance(value, str):
        kind = operation.get("op")
        reason = f"operation missing {member} field: missing value"
        raise _refused(f"{kind} operation failed to decode {member}: {reason}")
    return value


def _changed(document: Any, operation: Mapping[str, Any], kind: str, own: _Own) -> Any:
    """The document with the member at the path added, set or removed."""
    path = _text(operation, "path")
    failure = f"{kind} operation does not apply: doc is missing path: {path}"
    return _rebuilt(document, path, kind, operation.get("value"), failure, own=own)


def _replace(document: Any, operation: Mapping[str, Any], own: _Own) -> Any:
    if operation.get("path") != "":
        return _changed(document, operation, "replace", own)
    value = operation.get("value")
    if not isinstance(value, dict | list):
        raise _refused("replace operation value must be object or array")
    return value


def _move_or_copy(document: Any, operation: Mapping[str, Any], kind: str, own: _Own) -> Any:
    origin = _text(operation, "from")
    failure = f"{kind} operation does not apply: doc is missing from path: {origin}"
    try:
        value = _find(document, _tokens(origin))
    except _NotThere as missing:
        raise _refused(f"{failure}: {missing}") from None
    if kind == "move":
        document = _rebuilt(document, origin, "remove", None, failure, own=own)
    else:
        own.share(value)
    path = _text(operation, "path")
    failure = f"{kind} operation does not apply: doc is missing destination path: {path}"
    return _rebuilt(document, path, "add", value, failure, own=own)


def _test(document: Any, operation: Mapping[str, Any]) -> None:
    path = _text(operation, "path")
    try:
        value = document if path == "" else _find(document, _tokens(path))
    except _NotThere as missing:
        raise _refused(
            f"test operation does not apply: is missing path: {path}: {missing}", DoesNotHold
        ) from None
    # A test for null also holds where no member is: clients use it to say "not there yet".
    if not same(value, operation.get("value")):
        raise _refused(f"testing value {path} failed: test failed", DoesNotHold)


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: unlike Python's, it keeps `true` and `1` apart."""
    if left is right:
        return True
    if isinstance(left, dict):
        if not isinstance(right, dict) or left.keys() != right.keys():
            return False
        return all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        if not isinstance(right, list) or len(left) != len(right):
            return False
        return all(map(same, left, right))
    return bool(left == right) and isinstance(left, bool) is isinstance(right, bool)


def _tokens(text: str) -> list[str]:
    """The unescaped reference tokens after the first slash, as RFC 6901; `_NotThere` without any."""
    _, slash, rest = text.partition("/")
    if not slash:
        raise _NotThere("missing value")
    return [token.replace("~1", "/").replace("~0", "~") for token in rest.split("/")]


def _find(document: Any, path: Sequence[str]) -> Any:
    """The value at a path; null where only the last member is missing from an object."""
    *parents, last = path
    for token in parents:
        document = _inner(document, token)
    if isinstance(document, dict):
        return document.get(last)
    return document[_index(document, last)]


def _inner(container: Any, token: str) -> Any:
    """The container at one step of a path."""
    inner = container.get(token) if isinstance(container, dict) else container[_index(container, token)]
    if not isinstance(inner, dict | list):
        raise _NotThere("missing value")
    return inner


def _index(container: list[Any], token: str) -> int:
    """The index that a token refers to in a list, never negative."""
    number, length = _number(token), len(container)
    if not -length <= number < length:
        raise _NotThere(f"Unable to access invalid index: {number}: invalid index referenced")
    return number % length


def _number(token: str) -> int:
    if not _INDEX.fullmatch(token):
        raise _NotThere(f'strconv.Atoi: parsing "{token}": invalid syntax')
    return int(token)


def _rebuilt(document: Any, path: str, kind: str, value: Any, failure: str, *, own: _Own) -> Any:
    """The containers along the path as the patch's own, the last one changed; all else is shared."""
    try:
        return _along(document, _tokens(path), kind, value, own)
    except _NotThere as reason:
        raise _refused(f"{failure}: {reason}") from None


def _along(container: Any, path: Sequence[str], kind: str, value: Any, own: _Own) -> Any:
    token, *rest = path
    if rest:
        inner = _along(_inner(container, token), rest, kind, value, own)
        return _with(own.of(container), token, inner)
    container = own.of(container)
    if kind == "replace" or (kind == "add" and isinstance(container, dict)):
        return _with(container, token, value)
    if isinstance(container, dict):
        if token not in container:
            raise _NotThere(f"Unable to remove nonexistent key: {token}: missing value")
        del container[token]
    elif kind == "add":
        container.insert(_insertion(container, token), value)
    else:
        del container[_index(container, token)]
    return container


def _with(container: Any, token: str, value: Any) -> Any:
    container[token if isinstance(container, dict) else _index(container, token)] = value
    return container


def _insertion(container: list[Any], token: str) -> int:
    if token == "-":  # noqa: S105 - a JSON pointer token, not a secret
        return len(container)
    number, places = _number(token), len(container) + 1
    if not -places <= number < places:
        raise _NotThere(f"Unable to access invalid index: {number}: invalid index referenced")
    return number % places


def _refused(message: str, error: type[errors.Invalid] = errors.Invalid) -> errors.Invalid:
    return error(
        "the server rejected our request due to an error in our request",
        causes=[errors.Cause("UnexpectedServerResponse", message)],
    )
