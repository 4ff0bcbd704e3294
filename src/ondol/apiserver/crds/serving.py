"""From a CustomResourceDefinition to the kinds it serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from ondol.api import kinds
from ondol.api.objects import Object
from ondol.api.patch import shape
from ondol.api.patch.fieldset import FieldSet
from ondol.api.schema import structural
from ondol.api.tables import custom
from ondol.api.validation import metadata
from ondol.apiserver import documents
from ondol.apiserver.crds import conversion
from ondol.apiserver.crds.conversion import AsShown, Converter, Webhook
from ondol.apiserver.lenses import Scale
from ondol.apiserver.schemas import Warn, unheard
from ondol.apiserver.served import Served
from ondol.apiserver.strategy import Strategy
from ondol.base.errors import Cause


class Form:
    """What of a definition decides how its objects are shown and checked; watches begun under another end."""

    def __init__(self, crd: Object) -> None:
        status = crd.get("status") or {}
        self.says = (crd["spec"], status.get("acceptedNames"), status.get("storedVersions"))

    def is_of(self, crd: Object) -> bool:
        return self.says == Form(crd).says


_ANYTHING: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_DEFAULT: Final = b'"default":'
_FILLED_BYTES_MAX: Final = 16 * 1024 * 1024


Converters = Callable[[Mapping[str, Any]], Converter]
"""Makes what calls the webhook that `spec.conversion.webhook` describes."""


def _callers_of_nothing(webhook: Mapping[str, Any]) -> Converter:
    return Converter(None, webhook, str)


class _Versions:
    """The schemas of a definition, each made when it is asked for: not every version is served."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._described = {f"{spec['group']}/{version['name']}": version for version in spec["versions"]}
        self._schemas: list[tuple[Mapping[str, Any], CustomSchema]] = []

    def schema(self, api_version: str) -> CustomSchema:
        """The same for versions that are described alike; `KeyError` if there is no such version."""
        version = self._described[api_version]
        for other, schema in self._schemas:
            if all(version.get(part) == other.get(part) for part in ("schema", "selectableFields")):
                return schema
        schema = CustomSchema(version)
        self._schemas.append((version, schema))
        return schema


def compact(crd: Object) -> Object:
    """The same definition, in which versions that are described alike share what describes them."""
    versions: list[Object] = []
    for version in crd["spec"]["versions"]:
        described = version.get("schema")
        alike = (other["schema"] for other in versions if other.get("schema") == described)
        versions.append(version if described is None else {**version, "schema": next(alike, described)})
    return {**crd, "spec": {**crd["spec"], "versions": versions}}


def of(
    crd: Object,
    form: object = None,
    converters: Converters = _callers_of_nothing,
    local: Converter | None = None,
) -> list[Served]:
    """What an established definition serves: one kind a version.

    `local` converts between them in this process, whatever the definition says.
    """
    spec = crd["spec"]
    by_name = {version["name"]: version for version in spec["versions"]}
    versions = _Versions(spec)
    converted = spec.get("conversion") or {}
    converter = local if len(by_name) > 1 else None
    if converter is None and converted.get("strategy") == "Webhook" and len(by_name) > 1:
        converter = converters(converted.get("webhook") or {})
    return [
        _served(crd, by_name[kind.version], kind, versions, form=form, converter=converter)
        for kind in kinds.of_crd(crd)
    ]


def as_stored(crd: Object) -> Served:
    """The kind with its objects as they are stored, in whichever version and whether any is served or not.

    For who needs nothing of them but their metadata.
    """
    spec = crd["spec"]
    storage = next({**version, "served": True} for version in spec["versions"] if version["storage"])
    (served,) = of({**crd, "spec": {**spec, "versions": [storage], "conversion": {"strategy": "None"}}})
    return dataclasses.replace(served, conversion=None)


def _served(
    crd: Object,
    version: Mapping[str, Any],
    kind: kinds.Kind,
    versions: _Versions,
    *,
    form: object,
    converter: Converter | None,
) -> Served:
    parts = version.get("subresources") or {}
    scale = parts.get("scale")
    schema = versions.schema(kind.api_version)
    remote = None
    if converter is not None:
        remote = Webhook(converter, kind.api_version, _storage(crd["spec"]), versions.schema)
    return Served(
        kind=kind,
        resource=kind.resource,
        bucket=kind.group_resource,
        schema=schema,
        strategy=_WithStatus() if parts.get("status") is not None else _WithoutStatus(),
        layout=custom.layout(version.get("additionalPrinterColumns") or ()),
        scale=_scale(scale) if scale is not None else None,
        conversion=AsShown(kind.api_version) if remote else _conversion(crd, version, schema),
        remote=remote,
        terminating=bool(crd["metadata"].get("deletionTimestamp")),
        deprecation=_deprecation(crd["spec"], version, kind),
        form=form,
    )


def _deprecation(spec: Mapping[str, Any], version: Mapping[str, Any], kind: kinds.Kind) -> str:
    """The warning for every request that uses a deprecated version; empty for other versions."""
    if not version.get("deprecated"):
        return ""
    if (chosen := version.get("deprecationWarning")) is not None:
        return str(chosen)
    priority = kinds.version_priority
    newer = [
        str(other["name"])
        for other in kinds.served_versions(spec)
        if not other.get("deprecated") and priority(other["name"]) > priority(version["name"])
    ]
    instead = f"; use {kind.group}/{max(newer, key=priority)} {kind.kind}" if newer else ""
    return f"{kind.api_version} {kind.kind} is deprecated{instead}"


def _scale(paths: Mapping[str, Any]) -> Scale:
    selector = paths.get("labelSelectorPath") or ""
    return Scale(
        _path(paths["specReplicasPath"]),
        _path(paths["statusReplicasPath"]),
        _path(selector) if selector else None,
    )


def _path(text: str) -> tuple[str, ...]:
    return tuple(text.lstrip(".").split("."))


class CustomSchema:
    """The form of a custom kind in one version."""

    structural = True

    def __init__(self, version: Mapping[str, Any]) -> None:
        described = (version.get("schema") or {}).get("openAPIV3Schema") or _ANYTHING
        self.published: Mapping[str, Any] = described
        self.has_defaults = _DEFAULT in msgspec.json.encode(described)
        self._walkers = structural.Structural(described)
        self.shape = shape.of_custom(described)
        self.selectable: tuple[str, ...] = tuple(
            field["jsonPath"].lstrip(".") for field in version.get("selectableFields") or ()
        )

    def read(self, document: Object) -> Object:
        obj = self._walkers.decode(document)
        self._walkers.default(obj)
        return obj

    @property
    def is_heavy(self) -> bool:
        return self._walkers.is_heavy

    def prune(self, document: Object) -> Object:
        """A copy without the fields the schema does not know; its metadata is whole already."""
        bare = {field: value for field, value in document.items() if field != "metadata"}
        return {**self._walkers.decode(bare), "metadata": document["metadata"]}

    def default(self, obj: Object) -> None:
        """Fill in, in place, what the schema gives and the object lacks."""
        self._walkers.default(obj)

    def unknown_fields(self, document: Object) -> list[str]:
        return self._walkers.unknown_fields(document)

    def problems(
        self, obj: Object, old: Object | None, subresource: str = "", warn: Warn = unheard
    ) -> list[Cause]:
        del subresource  # a custom kind's status is held to the schema as well
        causes = list(metadata.check(obj, is_custom=True))
        if old is None:
            return causes + self._walkers.validate(obj)
        return [*causes, *metadata.update(obj, old), *self._walkers.validate_update(obj, old, warn)]


class _WithoutStatus(Strategy):
    has_generation: ClassVar[bool] = True
    unconditional_update: ClassVar[bool] = False

    def desired_state(self, obj: Object) -> Object:
        """All but the metadata: without the subresource a status is the user's own."""
        return {k: v for k, v in obj.items() if k not in ("metadata", "apiVersion", "kind")}


class _WithStatus(Strategy):
    status_reset: ClassVar[FieldSet] = {"f:spec": {}, "f:metadata": {}}
    has_generation: ClassVar[bool] = True
    has_status: ClassVar[bool] = True
    unconditional_update: ClassVar[bool] = False


def _conversion(crd: Object, version: Mapping[str, Any], schema: CustomSchema) -> Reading | None:
    """None where stored bytes are always what is shown."""
    group, storage = crd["spec"]["group"], _storage(crd["spec"])
    shown = f"{group}/{version['name']}"
    stored = (crd.get("status") or {}).get("storedVersions") or ()
    ever_stored = {storage, *(f"{group}/{name}" for name in stored)}
    if ever_stored == {shown} and not schema.has_defaults:
        return None
    return Reading(shown, storage, schema.default if schema.has_defaults else None)


def _storage(spec: Mapping[str, Any]) -> str:
    """The apiVersion in which objects are stored from now on."""
    return f"{spec['group']}/{next(each['name'] for each in spec['versions'] if each['storage'])}"


class Reading:
    """How stored objects are shown in a version: renamed to it (conversion None) and defaulted.

    Objects written before the schema had a default get it when they are read.
    """

    def __init__(self, version: str, stored: str, fill: Callable[[Object], None] | None) -> None:
        self._stored = stored
        self._head = conversion.head(version)
        self._fill = fill
        self._filled: dict[bytes, bytes] = {}
        self._filled_bytes = 0
        self.keeps_texts = fill is None  # a default stands in none of the bytes written before it

    def as_served(self, value: bytes) -> bytes:
        if self._fill is None:
            return self._renamed(value)
        filled = self._filled.get(value)
        if filled is None:
            filled = self._defaulted(self._renamed(value), self._fill)
            self._remember(value, filled)
        return filled

    def _remember(self, value: bytes, filled: bytes) -> None:
        """For as long as all that is remembered takes no more than so much memory."""
        size_bytes = len(value) + len(filled)
        if self._filled_bytes + size_bytes > _FILLED_BYTES_MAX:
            self._filled.clear()
            self._filled_bytes = 0
        self._filled[value] = filled
        self._filled_bytes += size_bytes

    def _renamed(self, value: bytes) -> bytes:
        return conversion.renamed(value, self._head)

    def _defaulted(self, value: bytes, fill: Callable[[Object], None]) -> bytes:
        document = documents.parse(value)
        fill(document)
        return documents.dump(document)

    def stored(self, obj: Object) -> Object:
        return {**obj, "apiVersion": self._stored}
