"""What is wrong with the parts that Eventing's kinds share, in Knative's words and field paths. Pure."""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from ondol.base.errors import Cause
from ondol.eventing import iso8601
from ondol.eventing.configuration import Features, features

Document: TypeAlias = Mapping[str, Any]
Causes: TypeAlias = Iterator[Cause]

_REQUIRED: Final = "FieldValueRequired"
_FORBIDDEN: Final = "FieldValueForbidden"
_INVALID: Final = "FieldValueInvalid"
_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


def missing(path: str, details: str = "") -> Cause:
    return Cause(_REQUIRED, _with("missing field(s)", details), path)


def disallowed(path: str, details: str = "") -> Cause:
    return Cause(_FORBIDDEN, _with("must not set the field(s)", details), path)


def invalid(path: str, value: Any, details: str = "") -> Cause:
    return Cause(_INVALID, _with(f"invalid value: {value}", details), path)


def generic(path: str, text: str) -> Cause:
    return Cause(_INVALID, text, path)


def both(*paths: str) -> Iterator[Cause]:
    return (generic(path, "expected exactly one, got both") for path in paths)


def neither(*paths: str) -> Iterator[Cause]:
    return (generic(path, "expected exactly one, got neither") for path in paths)


def _with(text: str, details: str) -> str:
    return f"{text}: {details}" if details else text


def child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def immutable(path: str, old: Any, new: Any) -> Causes:
    """A field that never changes; the words are Knative's, which programs look for."""
    if old != new:
        names = ", ".join(reversed(path.split(".")))
        yield generic(path, f"Immutable fields changed (-old +new): {names}: -{old!r} +{new!r}")


def reference(
    ref: Document, path: str, namespace: str, flags: Features, *, elsewhere: bool = False
) -> Causes:
    """A KReference of an object in this namespace; `elsewhere` if it may lead to another one."""
    if not ref.get("name"):
        yield missing(child(path, "name"))
    yield from _version(ref, path, flags)
    if not ref.get("kind"):
        yield missing(child(path, "kind"))
    other = ref.get("namespace")
    if other and namespace and other != namespace and not elsewhere:
        details = f'parent namespace: "{namespace}" does not match ref: "{other}"'
        yield generic(child(path, "namespace"), f"mismatched namespaces: {details}")


def _version(ref: Document, path: str, flags: Features) -> Causes:
    version, group = str(ref.get("apiVersion") or ""), str(ref.get("group") or "")
    if not flags.is_on(features.KREFERENCE_GROUP):
        if group:
            yield disallowed(child(path, "group"))
        if not version:
            yield missing(child(path, "apiVersion"))
        return
    if not version and not group:
        yield missing(child(path, "apiVersion"))
        yield missing(child(path, "group"))
    if version and group and not version.startswith(group):
        text = "both apiVersion and group are specified and they refer to different API groups"
        for field in ("apiVersion", "group"):
            yield generic(child(path, field), f"{text}: Only one of them must be specified")


def destination(value: Document | None, path: str, namespace: str, flags: Features) -> Causes:
    """A Destination; one that must be there and is not says so too."""
    value = value or {}
    ref, uri = value.get("ref"), value.get("uri")
    if ref is None and not uri:
        for field in ("ref", "uri"):
            yield generic(child(path, field), "expected at least one, got none")
        return
    try:
        parts = urllib.parse.urlsplit(str(uri or ""))
    except ValueError as error:
        yield invalid(child(path, "uri"), uri, str(error))
        return
    if not str(uri or "").isprintable():
        yield invalid(child(path, "uri"), "invalid control character in URL")
        return
    if ref is not None and parts.scheme:
        text = "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present"
        for field in ("ref", "uri"):
            yield generic(child(path, field), text)
        return
    if ref is None and not (parts.scheme and parts.netloc):
        text = "Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent"
        yield invalid(child(path, "uri"), text)
        return
    if ref is not None:
        yield from reference(ref, child(path, "ref"), namespace, flags, elsewhere=True)
    yield from certificates(value.get("CACerts"), child(path, "CACerts"))


def certificates(text: Any, path: str) -> Causes:
    """Certificates of authorities, in PEM."""
    if not text:
        return
    if "-----BEGIN" in str(text) and _PEM_BEGIN not in str(text):
        yield invalid(path, "CA Cert provided is not a certificate")
        return
    try:
        # Not `create_default_context`, which reads the authorities of the machine first: some 10 ms.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=str(text))
    except (ssl.SSLError, ValueError):
        yield invalid(path, "CA Cert provided is invalid")


def delivery(value: Document | None, path: str, namespace: str, flags: Features) -> Causes:
    """A DeliverySpec."""
    if value is None:
        return
    sink = value.get("deadLetterSink")
    if sink is not None:
        yield from destination(sink, child(path, "deadLetterSink"), namespace, flags)
    retry = value.get("retry")
    if retry is not None and retry < 0:
        yield invalid(child(path, "retry"), retry)
    yield from _one_of(value, path, "backoffPolicy", ("exponential", "linear"))
    yield from _one_of(value, path, "format", ("binary", "json"))
    yield from duration(value.get("backoffDelay"), child(path, "backoffDelay"), least_s=0)
    yield from _flagged(value, path, "timeout", flags.is_on(features.DELIVERY_TIMEOUT), more_than_none=True)
    yield from _flagged(value, path, "retryAfterMax", flags.is_on(features.DELIVERY_RETRY_AFTER))


def _one_of(value: Document, path: str, field: str, allowed: tuple[str, ...]) -> Causes:
    chosen = value.get(field)
    if chosen is not None and chosen not in allowed:
        yield invalid(child(path, field), chosen)


def _flagged(value: Document, path: str, field: str, is_on: bool, *, more_than_none: bool = False) -> Causes:
    text = value.get(field)
    if text is None:
        return
    if not is_on:
        yield disallowed(child(path, field))
        return
    yield from duration(text, child(path, field), least_s=0, more_than_none=more_than_none)


def duration(text: Any, path: str, *, least_s: float, more_than_none: bool = False) -> Causes:
    """An ISO 8601 duration."""
    if text is None:
        return
    try:
        length_s = iso8601.seconds(str(text))
    except ValueError as error:
        yield invalid(path, text, str(error))
        return
    if length_s < least_s or (more_than_none and length_s == 0):
        yield invalid(path, text)


def channel_template(template: Document | None, path: str) -> Causes:
    """The template of a channel, which must name a kind."""
    if template is None:
        yield missing(path)
        return
    for field in ("kind", "apiVersion"):
        if not template.get(field):
            yield missing(child(path, field))
