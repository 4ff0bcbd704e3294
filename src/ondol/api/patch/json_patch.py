"""JSON patch (RFC 6902), with the answers Kubernetes clients rely on.

A patch that cannot be understood is a `BadRequest`; one that does not fit the document (a failed
`test`, a missing path) is `Invalid` (422), the way operators detect that they lost a race. Negative
list indices count from the end, as they do in the library Kubernetes uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.base import errors

OPERATIONS_MAX: Final = 10_000
COPIED_BYTES_MAX: Final = 3 * 1024 * 1024
"""What all copy operations of a patch may add: as much as the body of a request may bring."""
_INDEX_DIGITS_MAX: Final = 10
_OPERATIONS: Final = frozenset({"add", "remove", "replace", "move", "copy", "test"})
_MISSING: Final = object()


def apply(document: Any, patch: Any) -> Any:
    """The document after every operation in order; `document` itself stays as it is."""
    copied_bytes = 0
    for operation in _checked(patch):
        if operation.get("op") == "copy":
            copied_bytes += _size_bytes(document, operation)
            if copied_bytes > COPIED_BYTES_MAX:
                raise errors.TooLarge(
                    "Unable to complete the copy, the accumulated size increase of copy is "
                    f"{copied_bytes}, exceeding the limit {COPIED_BYTES_MAX}"
                )
        document = _one(document, operation)
    return document


def _size_bytes(document: Any, operation: Mapping[str, Any]) -> int:
    """What an operation copies: copies of copies double with each, so a few could fill the memory."""
    found = _find(document, _pointer(operation.get("from", ""), "copy"))
    return 0 if found is _MISSING else len(msgspec.json.encode(found))


def _checked(patch: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(patch, Sequence) or isinstance(patch, str):
        raise errors.BadRequest("error decoding patch: a JSON patch is a list of operations")
    if len(patch) > OPERATIONS_MAX:
        raise errors.TooLarge(
            f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {len(patch)}"
        )
    for operation in patch:
        if not isinstance(operation, Mapping):
            raise errors.BadRequest("error decoding patch: each operation is an object")
        for member in ("op", "path", "from"):
            if not isinstance(operation.get(member, ""), str):
                raise errors.BadRequest(f"error decoding patch: {member} is a string")
    return patch


def _one(document: Any, operation: Mapping[str, Any]) -> Any:
    kind = operation.get("op")
    if kind not in _OPERATIONS:
        raise _refused(f"Unexpected kind: {kind or 'unknown'}")
    if "path" not in operation:
        raise _refused(f"{kind} operation does not apply: the path is missing")
    path = _pointer(operation["path"], str(kind))
    match kind:
        case "test":
            _test(document, path, operation)
            return document
        case "remove":
            return _remove(document, path)
        case "replace":
            return _replace(document, path, _value(operation))
        case "add":
            return _add(document, path, _value(operation))
        case _:
            return _move_or_copy(document, path, operation)


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise _refused(f"{operation['op']} operation {operation['path']} has no value")
    return operation["value"]


def _move_or_copy(document: Any, path: Sequence[str], operation: Mapping[str, Any]) -> Any:
    kind = operation["op"]
    if "from" not in operation:
        raise _refused(f"{kind} operation does not apply: from is missing")
    source = _pointer(operation["from"], kind)
    found = _find(document, source)
    if found is _MISSING:
        raise _refused(f"{kind} operation does not apply: doc is missing from path: {operation['from']}")
    if kind == "move":
        if path[: len(source)] == source and path != source:
            raise _refused("move operation does not apply: a value cannot move into itself")
        document = _remove(document, source)
    return _add(document, path, found)


def _test(document: Any, path: Sequence[str], operation: Mapping[str, Any]) -> None:
    found = _find(document, path)
    wanted = operation.get("value")
    # A test for null also holds where nothing is: clients use it to say "not there yet".
    if found is _MISSING and wanted is None:
        return
    if found is _MISSING or not same(found, wanted):
        raise _refused(f"testing value {operation['path']} failed: test failed")


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


def _pointer(text: str, kind: str) -> list[str]:
    """RFC 6901: the unescaped reference tokens; the empty pointer is the whole document."""
    if not text:
        return []
    if not text.startswith("/"):
        raise _refused(f"{kind} operation does not apply: doc is missing path: {text}")
    return [token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/")]


def _find(document: Any, path: Sequence[str]) -> Any:
    for token in path:
        if isinstance(document, dict):
            document = document.get(token, _MISSING)
        elif isinstance(document, list):
            index = _index(token, len(document))
            document = _MISSING if index is None else document[index]
        else:
            return _MISSING
    return document


def _index(token: str, length: int) -> int | None:
    """The position a token means in a list of `length`, or None when it is none."""
    digits = token.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > _INDEX_DIGITS_MAX:
        return None
    number = int(token)
    return number % length if length and -length <= number < length else None


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    return _rebuilt(document, path, 0, "add", value)


def _replace(document: Any, path: Sequence[str], value: Any) -> Any:
    return _rebuilt(document, path, 0, "replace", value)


def _remove(document: Any, path: Sequence[str]) -> Any:
    if not path:
        raise _refused("remove operation does not apply: the document itself cannot be removed")
    return _rebuilt(document, path, 0, "remove", None)


def _rebuilt(container: Any, path: Sequence[str], depth: int, kind: str, value: Any) -> Any:
    """Copies of the containers along the path, the last one changed; all else is shared."""
    if depth == len(path):
        return value
    if isinstance(container, dict):
        return _rebuilt_map(container, path, depth, kind, value)
    if isinstance(container, list):
        return _rebuilt_list(container, path, depth, kind, value)
    raise _missing(kind, path)


def _rebuilt_map(
    container: dict[str, Any], path: Sequence[str], depth: int, kind: str, value: Any
) -> dict[str, Any]:
    token = path[depth]
    last = depth == len(path) - 1
    if token not in container and not (last and kind == "add"):
        raise _missing(kind, path)
    changed = dict(container)
    if last and kind == "remove":
        del changed[token]
    else:
        changed[token] = _rebuilt(container.get(token), path, depth + 1, kind, value)
    return changed


def _rebuilt_list(container: list[Any], path: Sequence[str], depth: int, kind: str, value: Any) -> list[Any]:
    token = path[depth]
    last = depth == len(path) - 1
    changed = list(container)
    if last and kind == "add":
        changed.insert(_insertion(token, len(container), path), value)
        return changed
    index = _index(token, len(container))
    if index is None:
        raise _missing(kind, path)
    if last and kind == "remove":
        del changed[index]
    else:
        changed[index] = _rebuilt(container[index], path, depth + 1, kind, value)
    return changed


def _insertion(token: str, length: int, path: Sequence[str]) -> int:
    if token == "-":  # noqa: S105 - a JSON pointer token, not a secret
        return length
    index = _index(token, length + 1)
    if index is None:
        raise _missing("add", path)
    return index


def _missing(kind: str, path: Sequence[str]) -> errors.Invalid:
    pointer = "".join(f"/{token.replace('~', '~0').replace('/', '~1')}" for token in path)
    return _refused(f"{kind} operation does not apply: doc is missing path: {pointer}")


def _refused(why: str) -> errors.Invalid:
    return errors.Invalid(
        "the server rejected our request due to an error in our request",
        causes=[errors.Cause("UnexpectedServerResponse", why)],
    )
