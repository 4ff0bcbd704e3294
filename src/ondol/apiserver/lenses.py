"""Lenses: the part of an object a request reads and writes (all of it, its status, its scale). Pure."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Protocol

from ondol.api import labels, objects
from ondol.api.objects import Object, Resource
from ondol.api.patch.apply import STATUS_ONLY
from ondol.api.patch.fieldset import FieldSet
from ondol.apiserver.strategy import Context, Strategy
from ondol.base import errors

_IDENTITY: Final = ("managedFields", "resourceVersion", "uid", "name", "namespace")


class Lens(Protocol):
    """One part of an object, as a document of its own."""

    @property
    def subresource(self) -> str: ...

    @property
    def reset(self) -> FieldSet:
        """Fields that a write through this lens does not touch."""
        ...

    def get(self, obj: Object) -> Object:
        """The part as the client sees it."""
        ...

    def put(self, obj: Object, part: Object) -> Object:
        """The object with the part replaced; neither argument is changed."""
        ...

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        """Let the kind's strategy undo what may not be changed through this lens."""
        ...


class Whole:
    """The object itself; its status is left alone if that is a subresource."""

    subresource = ""

    def __init__(self, *, has_status: bool) -> None:
        self.reset: FieldSet = STATUS_ONLY if has_status else {}

    def get(self, obj: Object) -> Object:
        return obj

    def put(self, obj: Object, part: Object) -> Object:
        del obj
        return part

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        strategy.prepare_for_update(context, new, old)


def metadata_through(lens: Lens, obj: Object, part: Object) -> Object:
    """The metadata as a part brings it, but for the fields that the lens leaves alone."""
    was, sent = objects.metadata(obj), objects.metadata(part)
    unwritten = lens.reset.get("f:metadata")
    if unwritten == {}:
        return {**was, **{field: sent[field] for field in _IDENTITY if field in sent}}
    fields = [element.removeprefix("f:") for element in unwritten or ()]
    metadata = {field: value for field, value in sent.items() if field not in fields}
    return {**metadata, **{field: was[field] for field in fields if field in was}}


class Status:
    """The status subresource: the whole object is shown, its status is taken.

    What of the metadata `reset` does not name is taken with it.
    """

    subresource = "status"

    def __init__(self, reset: FieldSet) -> None:
        self.reset = reset

    def get(self, obj: Object) -> Object:
        return obj

    def put(self, obj: Object, part: Object) -> Object:
        changed = {**obj, "metadata": metadata_through(self, obj, part)}
        if "status" in part:
            changed["status"] = part["status"]
        else:
            changed.pop("status", None)
        return changed

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        strategy.prepare_for_status_update(context, new, old)


class Scale:
    """The scale subresource: replicas and selector, at the paths the kind keeps them."""

    subresource = "scale"
    reset: ClassVar[FieldSet] = {}

    def __init__(
        self,
        spec_path: tuple[str, ...] = ("spec", "replicas"),
        status_path: tuple[str, ...] = ("status", "replicas"),
        selector_path: tuple[str, ...] | None = ("spec", "selector"),
        *,
        selects_by_pairs: bool = False,
    ) -> None:
        """`selects_by_pairs` if the selector is labels and their values, no LabelSelector."""
        self._spec_path = spec_path
        self._status_path = status_path
        self._selector_path = selector_path
        self._selects_by_pairs = selects_by_pairs

    def get(self, obj: Object) -> Object:
        metadata = objects.metadata(obj)
        fields = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        replicas, observed = _at(obj, self._spec_path), _at(obj, self._status_path)
        status: Object = {"replicas": observed if isinstance(observed, int) else 0}
        if self._selector_path and (selector := self._selector(_at(obj, self._selector_path))):
            status["selector"] = selector
        return {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {field: metadata[field] for field in fields if field in metadata},
            "spec": {"replicas": replicas} if isinstance(replicas, int) else {},
            "status": status,
        }

    def _selector(self, selector: Any) -> str:
        return _selector_text({"matchLabels": selector} if self._selects_by_pairs else selector)

    def put(self, obj: Object, part: Object) -> Object:
        replicas = objects.spec(part).get("replicas") or 0
        if replicas < 0:
            cause = errors.Cause(
                "FieldValueInvalid",
                f"Invalid value: {replicas}: must be greater than or equal to 0",
                "spec.replicas",
            )
            name = objects.name(obj)
            raise errors.Invalid(
                f'Scale.autoscaling "{name}" is invalid: {cause.field}: {cause.message}',
                causes=[cause],
                details={"group": "autoscaling", "kind": "Scale", "name": name},
            )
        changed = _with(obj, self._spec_path, replicas)
        sent = objects.metadata(part)
        if conditions := {f: sent[f] for f in ("resourceVersion", "uid") if sent.get(f)}:
            changed = {**changed, "metadata": {**changed["metadata"], **conditions}}
        return changed

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        strategy.prepare_for_update(context, new, old)


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for field in path:
        obj = obj.get(field) if isinstance(obj, dict) else None
    return obj


def _with(obj: Object, path: tuple[str, ...], value: Any) -> Object:
    field, *rest = path
    if not rest:
        return {**obj, field: value}
    return {**obj, field: _with(obj.get(field) or {}, tuple(rest), value)}


def _selector_text(selector: Any) -> str:
    if isinstance(selector, str):
        return selector
    return str(labels.from_document(selector)) if isinstance(selector, dict) else ""


SCALE: Final = Resource("autoscaling", "v1", "scales", "Scale")
