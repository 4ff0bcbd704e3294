"""Rules of CustomResourceDefinitions: names, versions, schemas, and what may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from ondol.api.schema import causes, rules
from ondol.api.validation import fields
from ondol.base import names
from ondol.base.errors import Cause

_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_SELECTABLE_TYPES: Final = ("string", "boolean", "integer")
_MAX_SELECTABLE: Final = 8
_URL_FORM: Final = "; desired format: https://host[/path]"
_REVIEW_VERSIONS: Final = ("v1", "v1beta1")


def crd(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    group, plural = spec.get("group") or "", (spec.get("names") or {}).get("plural") or ""
    if not group:
        yield causes.required("spec.group")
    elif not names.is_dns1123_subdomain(group):
        yield causes.invalid("spec.group", group, fields.SUBDOMAIN)
    elif "." not in group:
        yield causes.invalid("spec.group", group, "should be a domain with at least one dot")
    name = (obj.get("metadata") or {}).get("name") or ""
    if name != f"{plural}.{group}":
        yield causes.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
    yield from fields.one_of("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"), required=True)
    yield from _names(spec.get("names") or {})
    yield from _versions(spec.get("versions") or ())
    yield from _conversion(spec.get("conversion") or {})
    if spec.get("preserveUnknownFields"):
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in"
            " spec.versions[*].schema instead"
        )
        yield causes.invalid("spec.preserveUnknownFields", True, detail)


def _names(declared: Mapping[str, Any]) -> Iterator[Cause]:
    path = "spec.names"
    for field in ("plural", "singular"):
        value = declared.get(field) or ""
        if not value:
            yield causes.required(f"{path}.{field}")
        else:
            yield from fields.label_1035(f"{path}.{field}", value)
    for field in ("kind", "listKind"):
        value = declared.get(field) or ""
        if not value:
            yield causes.required(f"{path}.{field}")
        elif not names.is_dns1035_label(value.lower()):
            detail = f"may have mixed case, but should otherwise match: {fields.LABEL_1035}"
            yield causes.invalid(f"{path}.{field}", value, detail)
    if declared.get("kind") and declared.get("kind") == declared.get("listKind"):
        yield causes.invalid(
            f"{path}.listKind", declared["listKind"], "kind and listKind may not be the same"
        )
    for field in ("shortNames", "categories"):
        for index, value in enumerate(declared.get(field) or ()):
            yield from fields.label_1035(f"{path}.{field}[{index}]", value)


def _versions(versions: Any) -> Iterator[Cause]:
    path = "spec.versions"
    if not versions:
        yield causes.required(path, "must have at least one version")
        return
    yield from fields.unique(path, ((i, v.get("name")) for i, v in enumerate(versions)), "name")
    if sum(bool(v.get("storage")) for v in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        yield causes.invalid(path, [v.get("name") for v in versions], detail)
    schemas = [_schema(version) for version in versions]
    shared = schemas[0] is not None and all(schema == schemas[0] for schema in schemas)
    if shared:
        yield from rules.check(schemas[0] or {}, "spec.validation.openAPIV3Schema")
    for index, version in enumerate(versions):
        if not shared:
            yield from _own_schema(schemas[index], f"{path}[{index}]")
        yield from _version(version, f"{path}[{index}]")


def _schema(version: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return (version.get("schema") or {}).get("openAPIV3Schema")


def _own_schema(schema: Mapping[str, Any] | None, path: str) -> Iterator[Cause]:
    """A schema that is not that of all versions, which Kubernetes keeps in one place."""
    if schema is None:
        yield causes.required(f"{path}.schema.openAPIV3Schema", "schemas are required")
    else:
        yield from rules.check(schema, f"{path}.schema.openAPIV3Schema")


def _version(version: Mapping[str, Any], path: str) -> Iterator[Cause]:
    name = version.get("name") or ""
    yield from fields.label_1035(f"{path}.name", name)
    schema = _schema(version)
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        item_path = f"{path}.additionalPrinterColumns[{index}]"
        if not column.get("name"):
            yield causes.required(f"{item_path}.name")
        yield from fields.one_of(f"{item_path}.type", column.get("type"), _COLUMN_TYPES, required=True)
        yield from fields.one_of(f"{item_path}.format", column.get("format"), _COLUMN_FORMATS)
        yield from _json_path(f"{item_path}.jsonPath", column.get("jsonPath") or "", root="")
    scale = (version.get("subresources") or {}).get("scale")
    if scale is not None:
        yield from _json_path(
            f"{path}.subresources.scale.specReplicasPath", scale.get("specReplicasPath") or "", root=".spec."
        )
        item_path = f"{path}.subresources.scale.statusReplicasPath"
        yield from _json_path(item_path, scale.get("statusReplicasPath") or "", root=".status.")
    selectable = version.get("selectableFields") or ()
    if len(selectable) > _MAX_SELECTABLE:
        yield causes.too_many(f"{path}.selectableFields", len(selectable), _MAX_SELECTABLE)
    for index, field in enumerate(selectable):
        item_path = f"{path}.selectableFields[{index}].jsonPath"
        yield from _selectable(item_path, field.get("jsonPath") or "", schema or {})


def _selectable(path: str, value: str, schema: Mapping[str, Any]) -> Iterator[Cause]:
    """A selectable field must exist in the schema and be a scalar: any other would select nothing."""
    yield from _json_path(path, value, root="")
    if not value.startswith("."):
        return
    names = value[1:].split(".")
    if names[0] == "metadata":
        yield causes.invalid(path, value, "must not point to fields in metadata")
        return
    field_schema: Mapping[str, Any] | None = schema
    for name in names:
        field_schema = (field_schema.get("properties") or {}).get(name) if field_schema is not None else None
    if field_schema is None:
        yield causes.invalid(path, value, "is an invalid path: does not refer to a valid field")
    elif field_schema.get("type") not in _SELECTABLE_TYPES:
        yield causes.invalid(path, value, "must point to a field of type string, boolean or integer")


def _json_path(path: str, value: str, *, root: str) -> Iterator[Cause]:
    if not value:
        yield causes.required(path)
    elif not value.startswith("."):
        yield causes.invalid(path, value, "must be a simple json path starting with .")
    elif root and not value.startswith(root):
        yield causes.invalid(path, value, f"should be a json path under {root.rstrip('.')}")


def _conversion(conversion: Mapping[str, Any]) -> Iterator[Cause]:
    strategy = conversion.get("strategy") or ""
    yield from fields.one_of("spec.conversion.strategy", strategy, ("None", "Webhook"), required=True)
    webhook = conversion.get("webhook")
    if strategy == "Webhook":
        if webhook is None:
            yield causes.required(
                "spec.conversion.webhook.clientConfig", "required when strategy is set to Webhook"
            )
        else:
            yield from _client("spec.conversion.webhook.clientConfig", webhook.get("clientConfig") or {})
            path = "spec.conversion.webhook.conversionReviewVersions"
            yield from _review_versions(path, webhook.get("conversionReviewVersions") or ())
    elif webhook is not None:
        detail = "should not be set when strategy is not set to Webhook"
        yield causes.forbidden("spec.conversion.webhook", detail)


def _client(path: str, config: Mapping[str, Any]) -> Iterator[Cause]:
    """Where a webhook is: a URL, or a Service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield causes.required(path, "exactly one of url or service is required")
    elif service is None:
        yield from _url(f"{path}.url", url)
    else:
        for field in ("name", "namespace"):
            if not service.get(field):
                yield causes.required(f"{path}.service.{field}")
        if not 0 < (number := service.get("port") or 0) < 65536:
            detail = "port is not valid: must be between 1 and 65535, inclusive"
            yield causes.invalid(f"{path}.service.port", number, detail)
        target = service.get("path") or ""
        if target and not target.startswith("/"):
            yield causes.invalid(f"{path}.service.path", target, "must start with a '/'")
        if "//" in target:
            yield causes.invalid(f"{path}.service.path", target, "segments may not be empty")


def _url(path: str, value: Any) -> Iterator[Cause]:
    try:
        url = urlsplit(str(value))
    except ValueError as error:
        yield causes.required(path, f"url must be a valid URL: {error}{_URL_FORM}")
        return
    if url.scheme != "https":
        yield causes.invalid(path, url.scheme, f"'https' is the only allowed URL scheme{_URL_FORM}")
    if not url.netloc:
        yield causes.invalid(path, url.netloc, f"host must be specified{_URL_FORM}")
    for part, name in (
        (url.username, "user information is"),
        (url.fragment, "fragments are"),
        (url.query, "query parameters are"),
    ):
        if part:
            yield causes.invalid(path, part, f"{name} not permitted in the URL")


def _review_versions(path: str, versions: Sequence[str]) -> Iterator[Cause]:
    if not versions:
        yield causes.required(path)
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            yield causes.invalid(f"{path}[{index}]", version, "duplicate version")
        else:
            yield from fields.label_1035(f"{path}[{index}]", version)
    if not set(versions) & set(_REVIEW_VERSIONS):
        detail = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        yield causes.invalid(path, list(versions), detail)


def crd_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    """What stored objects depend on may not change: group, scope, kind and their storage versions."""
    spec, old_spec = new.get("spec") or {}, old.get("spec") or {}
    yield from fields.same("spec.group", spec.get("group"), old_spec.get("group"))
    yield from fields.same(
        "spec.names.plural",
        (spec.get("names") or {}).get("plural"),
        (old_spec.get("names") or {}).get("plural"),
    )
    established = any(
        c.get("type") == "Established" and c.get("status") == "True"
        for c in (old.get("status") or {}).get("conditions") or ()
    )
    if established:
        yield from fields.same("spec.scope", spec.get("scope"), old_spec.get("scope"))
        yield from fields.same(
            "spec.names.kind",
            (spec.get("names") or {}).get("kind"),
            (old_spec.get("names") or {}).get("kind"),
        )
    served = {version.get("name") for version in spec.get("versions") or ()}
    for index, stored in enumerate((old.get("status") or {}).get("storedVersions") or ()):
        if stored not in served:
            detail = f"missing from spec.versions; {stored} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {stored} and removes {stored} from status.storedVersions"  # noqa: E501  # one message
            yield causes.invalid(f"status.storedVersions[{index}]", stored, detail)
