"""CloudEvents over HTTP for functions that take them: decoded from a request, encoded into an answer.

An event is an object of the `cloudevents` package (its version 2) where the function's code imports that,
else a `CloudEvent` of this module, which has the same methods. Both are encoded from those methods.
"""

from __future__ import annotations

import sys

STRUCTURED = "application/cloudevents+json"
_SPECVERSIONS = ("1.0",)
_REQUIRED = ("id", "source", "type", "specversion")
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b'"%')


class BadEvent(ValueError):
    """A request that holds no CloudEvent."""


class CloudEvent:
    """An event: attributes by name, and its data."""

    def __init__(self, attributes: dict[str, object], data: object = None) -> None:
        attributes = {"specversion": "1.0", **attributes}
        if "id" not in attributes:
            import os  # noqa: PLC0415 - random bytes are asked for where they are needed

            attributes["id"] = os.urandom(16).hex()
        for name in _REQUIRED:
            if not attributes.get(name):
                raise BadEvent(f"the attribute {name} is missing")
        self._attributes, self._data = attributes, data

    def get_id(self) -> object:
        return self._attributes["id"]

    def get_source(self) -> object:
        return self._attributes["source"]

    def get_type(self) -> object:
        return self._attributes["type"]

    def get_specversion(self) -> object:
        return self._attributes["specversion"]

    def get_subject(self) -> object:
        return self._attributes.get("subject")

    def get_time(self) -> object:
        return self._attributes.get("time")

    def get_datacontenttype(self) -> object:
        return self._attributes.get("datacontenttype")

    def get_dataschema(self) -> object:
        return self._attributes.get("dataschema")

    def get_extension(self, extension_name: str) -> object:
        return self._attributes.get(extension_name)

    def get_data(self) -> object:
        return self._data

    def get_attributes(self) -> dict[str, object]:
        return self._attributes

    def __repr__(self) -> str:
        return f"CloudEvent({self._attributes!r}, {self._data!r})"


def decoded(headers: list[tuple[bytes, bytes]], body: bytes) -> object:
    """The event of a request; `BadEvent` if there is none."""
    try:
        texts = {name.decode("latin-1"): value.decode("utf-8") for name, value in headers}
        content_type = texts.get("content-type", "").lower()
        if content_type.startswith("application/cloudevents-batch"):
            raise BadEvent("batches of events are not taken")
        if content_type.startswith("application/cloudevents"):
            attributes, data = _structured(body)
        else:
            attributes, data = _binary(texts, body)
    except UnicodeDecodeError as error:
        raise BadEvent(f"the event is not UTF-8: {error}") from error
    for name in _REQUIRED:
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise BadEvent(f"the attribute {name} is missing")
    if attributes["specversion"] not in _SPECVERSIONS:
        raise BadEvent(f"specversion {attributes['specversion']} is not spoken here")
    return _event(attributes, data)


def _event(attributes: dict[str, object], data: object) -> object:
    package = sys.modules.get("cloudevents.core.v1.event")
    if package is None:
        return CloudEvent(attributes, data)
    try:
        if isinstance(attributes.get("time"), str):
            from datetime import datetime  # noqa: PLC0415 - the package has imported it already

            text = str(attributes["time"]).replace("Z", "+00:00").replace("z", "+00:00")
            attributes["time"] = datetime.fromisoformat(text)
        return package.CloudEvent(attributes, data)
    except Exception as error:  # the package's own class of refusals
        raise BadEvent(" ".join(str(error).split())) from error


def _structured(body: bytes) -> tuple[dict[str, object], object]:
    import json  # noqa: PLC0415 - a function that takes no JSON never needs it

    try:
        document = json.loads(body)
    except ValueError as error:
        raise BadEvent(f"the event is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadEvent("the event is not a JSON object")
    data = document.pop("data", None)
    if "data_base64" in document:
        import binascii  # noqa: PLC0415 - likewise

        try:
            data = binascii.a2b_base64(document.pop("data_base64"), strict_mode=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise BadEvent(f"data_base64 is not base64: {error}") from error
    return {name: value for name, value in document.items() if value is not None}, data


def _binary(texts: dict[str, str], body: bytes) -> tuple[dict[str, object], object]:
    attributes: dict[str, object] = {
        name[3:]: _unescaped(value) for name, value in texts.items() if name.startswith("ce-")
    }
    content_type = texts.get("content-type", "")
    if content_type:
        attributes["datacontenttype"] = content_type
    if not body:
        return attributes, None
    if is_json(content_type):
        import json  # noqa: PLC0415 - likewise

        try:
            return attributes, json.loads(body)
        except ValueError as error:
            raise BadEvent(f"the data is not JSON: {error}") from error
    if content_type.lower().startswith("text/"):
        return attributes, body.decode("utf-8")
    return attributes, body


def is_json(content_type: object) -> bool:
    """Whether data of this type is JSON, as that without a type is."""
    if not content_type:
        return True
    media_type = str(content_type).partition(";")[0].strip().lower()
    return media_type.endswith(("/json", "+json"))


def _unescaped(value: str) -> str:
    if "%" not in value:
        return value
    from .http1 import unquoted  # noqa: PLC0415 - hardly any event has escapes

    return unquoted(value.encode("utf-8"))


def _attributes(event: object) -> dict[str, str]:
    attributes = event.get_attributes()  # type: ignore[attr-defined]  # of either class, or one alike
    return {name: _text(value) for name, value in attributes.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).replace("+00:00", "Z")
    return str(value)


def structured(event: object) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an event in structured mode."""
    import json  # noqa: PLC0415 - likewise

    document: dict[str, object] = dict(_attributes(event))
    data = event.get_data()  # type: ignore[attr-defined]  # likewise
    if isinstance(data, bytes | bytearray):
        import binascii  # noqa: PLC0415 - likewise

        document["data_base64"] = binascii.b2a_base64(data, newline=False).decode()
    elif data is not None:
        document["data"] = data
    body = json.dumps(document, ensure_ascii=False).encode()
    return [(b"content-type", STRUCTURED.encode())], body


def binary(event: object) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of an event in binary mode."""
    attributes = _attributes(event)
    data = event.get_data()  # type: ignore[attr-defined]  # likewise
    content_type = attributes.pop("datacontenttype", "")
    headers = [(b"ce-" + name.encode(), _escaped(value)) for name, value in attributes.items()]
    if data is None:
        return headers + ([(b"content-type", content_type.encode())] if content_type else []), b""
    if isinstance(data, bytes | bytearray):
        body = bytes(data)
        content_type = content_type or "application/octet-stream"
    elif isinstance(data, str) and content_type and not is_json(content_type):
        body = data.encode()
    else:
        import json  # noqa: PLC0415 - likewise

        body = json.dumps(data, ensure_ascii=False).encode()
        content_type = content_type or "application/json"
    return [*headers, (b"content-type", content_type.encode())], body


def _escaped(value: str) -> bytes:
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in value.encode("utf-8"))
