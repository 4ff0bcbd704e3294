"""Rules of metadata, the same for every kind: name, labels, annotations, owners, finalizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ondol.api import labels as selectors
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base.errors import Cause

_ANNOTATIONS_BYTES: Final = 256 * 1024
_PLAIN_FINALIZERS: Final = ("orphan", "foregroundDeletion", "kubernetes")

NameRule = Callable[[str, str], Iterator[Cause]]


def check(
    obj: Mapping[str, Any],
    *,
    name_rule: NameRule = fields.subdomain,
    namespaced: bool | None = None,
    is_custom: bool = False,
) -> Iterator[Cause]:
    """What is wrong with an object's metadata; `namespaced` None leaves the scope to the caller.

    Finalizers of custom kinds may be plain names, as in Kubernetes: operators have such ones.
    """
    metadata = obj.get("metadata") or {}
    name, prefix = metadata.get("name"), metadata.get("generateName")
    if name:
        yield from name_rule("metadata.name", name)
    elif prefix:
        yield from name_rule("metadata.generateName", prefix.rstrip("-.") + "x")
    else:
        yield causes.required("metadata.name", "name or generateName is required")
    namespace = metadata.get("namespace") or ""
    if namespaced and not namespace:
        yield causes.required("metadata.namespace")
    if namespaced is False and namespace:
        yield causes.forbidden("metadata.namespace", "not allowed on this type")
    if namespace:
        yield from fields.label("metadata.namespace", namespace)
    yield from label_pairs(metadata.get("labels") or {}, "metadata.labels")
    yield from annotation_pairs(metadata.get("annotations") or {}, "metadata.annotations")
    yield from _owners(metadata.get("ownerReferences") or ())
    for finalizer in metadata.get("finalizers") or ():
        yield from finalizer_name("metadata.finalizers", finalizer, is_custom=is_custom)


def label_pairs(pairs: Mapping[str, str], path: str) -> Iterator[Cause]:
    for key, value in pairs.items():
        yield from (causes.invalid(path, key, detail) for detail in selectors.label_key_problems(key))
        yield from (causes.invalid(path, value, detail) for detail in selectors.label_value_problems(value))


def annotation_pairs(pairs: Mapping[str, str], path: str) -> Iterator[Cause]:
    size = 0
    for key, value in pairs.items():
        size += len(key.encode()) + len(value.encode())
        yield from (causes.invalid(path, key, detail) for detail in selectors.label_key_problems(key.lower()))
    if size > _ANNOTATIONS_BYTES:
        yield causes.too_long(path, _ANNOTATIONS_BYTES)


def finalizer_name(path: str, name: str, *, is_custom: bool = False) -> Iterator[Cause]:
    problems = selectors.label_key_problems(name)
    yield from (causes.invalid(path, name, detail) for detail in problems)
    if not problems and not is_custom and "/" not in name and name not in _PLAIN_FINALIZERS:
        yield causes.invalid(
            path, name, "name is neither a standard finalizer name nor is it fully qualified"
        )


def _owners(references: Any) -> Iterator[Cause]:
    path = "metadata.ownerReferences"
    controllers = []
    for ref in references:
        if not (ref.get("apiVersion") or "").rpartition("/")[2]:
            yield causes.invalid(
                f"{path}.apiVersion", ref.get("apiVersion") or "", "version must not be empty"
            )
        for field in ("kind", "name", "uid"):
            if not ref.get(field):
                yield causes.invalid(f"{path}.{field}", ref.get(field) or "", "must not be empty")
        if (ref.get("apiVersion"), ref.get("kind")) == ("v1", "Event"):
            yield causes.invalid(path, dict(ref), "/v1, Kind=Event is disallowed from being an owner")
        if ref.get("controller"):
            controllers.append(f"{ref.get('kind')}/{ref.get('name')}")
    if len(controllers) > 1:
        detail = (
            "Only one reference can have Controller set to true. "
            f'Found "true" in references for {controllers[0]} and {controllers[1]}'
        )
        yield causes.invalid(path, list(references), detail)


def update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """What may not change in metadata, as far as a document shows it."""
    for field in ("name", "namespace", "uid", "creationTimestamp"):
        value, old_value = (new.get("metadata") or {}).get(field), (old.get("metadata") or {}).get(field)
        yield from fields.same(f"metadata.{field}", value, old_value)
