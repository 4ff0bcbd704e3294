"""ConversionReviews: the document that asks for objects in another version, and what its answer says. Pure.

Follows apiextensions' `pkg/apiserver/conversion/webhook_converter.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.validation import metadata
from ondol.base import errors
from ondol.base.errors import Cause

_GROUP: Final = "apiextensions.k8s.io"
_VERSIONS: Final = ("v1", "v1beta1")
_SHOWN_MAX: Final = 64


class InvalidConversion(errors.OndolError):
    """No answer to what was asked. Its text goes on where "conversion webhook for <kind> " ends."""


def version(accepted: Iterable[str]) -> str:
    """The version to speak: the first that the webhook accepts and this server knows."""
    for each in accepted:
        if each in _VERSIONS:
            return each
    raise InvalidConversion("failed: no supported conversion review versions")


def review(values: Sequence[bytes], desired: str, uid: str, spoken: str) -> Object:
    """The document for one call: stored objects, to be answered as `desired` in the same order."""
    request: Object = {
        "uid": uid,
        "desiredAPIVersion": desired,
        "objects": [msgspec.Raw(value) for value in values],
    }
    return {"kind": "ConversionReview", "apiVersion": f"{_GROUP}/{spoken}", "request": request}


class _Result(msgspec.Struct):
    status: str = ""
    message: str = ""


class _Response(msgspec.Struct, rename="camel"):
    uid: str = ""
    converted_objects: list[Any] | None = None
    result: _Result = msgspec.field(default_factory=_Result)


class _Review(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    response: _Response | None = None


_decode: Final = msgspec.json.Decoder(_Review).decode


def converted(body: bytes, originals: Sequence[Object], desired: str, uid: str, spoken: str) -> list[Object]:
    """The objects of an answer, in the order of the originals, each with the metadata of its original.

    Only labels and annotations are the webhook's to change. `InvalidConversion` if it is no answer.
    """
    answer = _answered(body, uid, spoken)
    if len(answer) != len(originals):
        raise InvalidConversion(f"returned {len(answer)} objects, expected {len(originals)}")
    is_alone = len(originals) == 1
    return [
        _restored(original, obj, desired, "" if is_alone else f" at index {index}")
        for index, (original, obj) in enumerate(zip(originals, answer, strict=True))
    ]


def _answered(body: bytes, uid: str, spoken: str) -> list[Any]:
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidConversion(f"failed: could not decode the response: {error}") from None
    response = answer.response
    if spoken == "v1" and (answer.api_version, answer.kind) != (f"{_GROUP}/v1", "ConversionReview"):
        received = f"{answer.api_version[:_SHOWN_MAX]}, Kind={answer.kind[:_SHOWN_MAX]}"
        raise InvalidConversion(
            f"failed: expected webhook response of {_GROUP}/v1, Kind=ConversionReview, got {received}"
        )
    if response is None:
        raise InvalidConversion("failed: no response provided")
    if spoken == "v1" and response.uid != uid:
        raise InvalidConversion(f'failed: expected response.uid="{uid}", got "{response.uid[:_SHOWN_MAX]}"')
    if response.result.status != "Success":
        message = f"response.result.status was '{response.result.status[:_SHOWN_MAX]}', not 'Success'"
        raise InvalidConversion(f"failed: {response.result.message or message}")
    return response.converted_objects or []


def _restored(original: Object, obj: Any, desired: str, place: str) -> Object:
    """One object of the answer with its original's metadata; `place` tells it from the others."""
    what = f"returned invalid {'converted ' if place else ''}object{place}"
    if not isinstance(obj, dict):
        raise InvalidConversion(f"{what}: it is no object")
    for field, name, expected in (
        ("apiVersion", "groupVersion", desired),
        ("kind", "kind", original["kind"]),
    ):
        if obj.get(field) != expected:
            received = str(obj.get(field) or "")[:_SHOWN_MAX]
            raise InvalidConversion(f"{what}: invalid {name} (expected {expected}, received {received})")
    in_metadata = f"returned invalid metadata{f' in object{place}' if place else ''}"
    described = obj.get("metadata")
    if not isinstance(described, dict):
        raise InvalidConversion(f"{in_metadata}: missing metadata in converted object")
    for field, name in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        was, now = objects.metadata(original).get(field) or "", described.get(field) or ""
        if was != now:
            raise InvalidConversion(f"{what}: must have the same {name}: {was} != {str(now)[:_SHOWN_MAX]}")
    try:
        return {**obj, "metadata": _metadata(objects.metadata(original), described)}
    except ValueError as error:
        raise InvalidConversion(f"{in_metadata}: {error}") from None


def _metadata(original: Mapping[str, Any], described: Mapping[str, Any]) -> Object:
    """The original's, with the labels and annotations of the answer; `ValueError` if those are none."""
    restored = {k: v for k, v in original.items() if k not in ("labels", "annotations")}
    for field in ("labels", "annotations"):
        pairs = described.get(field)
        if pairs is None:
            continue
        if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
            raise ValueError(f"metadata.{field} in converted object: every value must be a string")
        if pairs != (original.get(field) or {}):
            problems = list(_problems(field, pairs))
            if problems:
                raise ValueError("; ".join(f"{cause.field}: {cause.message}" for cause in problems))
        restored[field] = pairs
    return restored


def _problems(field: str, pairs: Mapping[str, str]) -> Iterator[Cause]:
    check = metadata.label_pairs if field == "labels" else metadata.annotation_pairs
    return check(pairs, f"metadata.{field}")
