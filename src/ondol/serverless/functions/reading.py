"""`func.yaml` read: text in; a checked `Function` and warnings out, or one line of what is wrong. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec
import yaml

from ondol.base import errors
from ondol.serverless.functions import migrations, validation, wellknown
from ondol.serverless.functions.model import Function

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")
_WHERE: Final = re.compile(r"(.*) - at `\$\.?([^`]*)`")
_DEPTH_MAX: Final = 100
"""Of lists and maps within each other; a function has some ten."""


class Malformed(errors.HostError):
    """A `func.yaml` that cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class Read:
    """A function, and what of its file has no effect."""

    function: Function
    warnings: tuple[str, ...]


class _TooDeep(yaml.YAMLError):
    """More lists and maps within each other than any function has."""


class _Loader(yaml.SafeLoader):
    """Scalars stay text, as the fields decide what they are; only nothing is nothing."""

    _depth = 0

    yaml_implicit_resolvers = {  # noqa: RUF012 - the class attribute that PyYAML looks at
        first: [(tag, pattern) for tag, pattern in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Counted, for how deep the interpreter goes is not always the same."""
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise _TooDeep
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read(text: str, place: str = wellknown.FILE) -> Read:
    """The function of a file's text; `Malformed` names `place` and what is wrong there."""
    document = _document(text, place)
    version = _version(document, place)
    document = migrations.migrated(document, version)
    document["specVersion"] = wellknown.SPEC_VERSION
    unknown = sorted(_unknown(document, Function, ""))
    try:
        function = msgspec.convert(document, Function, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(f"{place}: {_spelled(str(error))}", remedy=f"correct {place}") from error
    if problems := validation.problems(function):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise Malformed(f"{place}: {problems[0]}{more}", remedy=f"correct {place}")
    warnings = [f"{place}: there is no field {path}: it is ignored" for path in unknown]
    return Read(function, (*warnings, *(f"{place}: {text}" for text in validation.without_effect(function))))


def _document(text: str, place: str) -> dict[str, Any]:
    try:
        loaded = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, with fewer types
        document = _without_nothing(loaded, {})
    except (_TooDeep, RecursionError) as error:  # the latter of an alias within itself
        raise Malformed(f"{place} is nested too deeply", remedy=f"correct {place}") from error
    except yaml.YAMLError as error:
        raise Malformed(
            f"{place} is not valid YAML: {' '.join(str(error).split())}", remedy=f"correct {place}"
        ) from error
    if not isinstance(document, dict):
        raise Malformed(f"{place} is not a map of fields", remedy=f"correct {place}")
    if "created" not in document and "name" in document and "runtime" in document:
        document["created"] = ""  # from before functions were dated
    return document


def _without_nothing(value: Any, done: dict[int, Any]) -> Any:
    """A copy without what is nothing. What aliases repeat is copied once, or a bomb of them would burst."""
    if not isinstance(value, dict | list):
        return value
    if id(value) not in done:
        if isinstance(value, dict):
            copied: Any = {str(k): _without_nothing(v, done) for k, v in value.items() if v is not None}
        else:
            copied = [_without_nothing(item, done) for item in value if item is not None]
        done[id(value)] = copied
    return done[id(value)]


def _version(document: Mapping[str, Any], place: str) -> tuple[int, ...]:
    text = str(document.get("specVersion") or document.get("version") or "0.0.0")
    match = _VERSION.fullmatch(text)
    if match is None:
        raise Malformed(f"{place}: specVersion {text!r} is no version", remedy=f"correct {place}")
    version = tuple(int(number) for number in match.groups())
    newest = tuple(int(number) for number in wellknown.SPEC_VERSION.split("."))
    if version > newest:
        raise Malformed(
            f"{place}: specVersion {text} is newer than {wellknown.SPEC_VERSION}, the newest that this "
            "ondol understands",
            remedy="use a newer ondol",
        )
    return version


def _spelled(message: str) -> str:
    """`Expected …: deploy.options.scale.min` of how msgspec words it."""
    match = _WHERE.fullmatch(message)
    if match is None:
        return message.replace("Object missing", "there is no")
    what, where = match.groups()
    return f"{where}: {what[:1].lower()}{what[1:]}" if where else what


def _unknown(document: Any, kind: Any, path: str) -> Iterator[str]:
    """The paths of fields that the model does not have."""
    for inner in (kind, *get_args(kind)) if get_origin(kind) is not None else (kind,):
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            if isinstance(document, dict):
                yield from _unknown_in(document, inner, path)
            elif isinstance(document, list):
                for index, item in enumerate(document):
                    if isinstance(item, dict):
                        yield from _unknown_in(item, inner, f"{path}[{index}]")


def _unknown_in(document: Mapping[str, Any], kind: type[msgspec.Struct], path: str) -> Iterator[str]:
    hints = get_type_hints(kind)
    fields = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}
    for key, value in document.items():
        here = f"{path}.{key}" if path else key
        if key not in fields:
            yield here
        else:
            yield from _unknown(value, fields[key], here)
