"""A `Function` as the text of its file, in the order and with the header of Knative's own tool. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import yaml

from ondol.serverless.functions.model import Function

_SCHEMA: Final = "https://raw.githubusercontent.com/knative/func/main/schema/func_yaml-schema.json"
_HEADER: Final = f"# $schema: {_SCHEMA}\n# yaml-language-server: $schema={_SCHEMA}\n"


class _Dumper(yaml.SafeDumper):
    """YAML as Go's encoder writes it: lists are indented, and times are no texts in quotes."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the class attribute that PyYAML looks at
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        _ = indentless
        super().increase_indent(flow, False)


def text(function: Function) -> str:
    """The file's text; what is empty is left out."""
    document: dict[str, Any] = _filled(msgspec.to_builtins(function))
    return _HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def _filled(value: Any) -> Any:
    """Without sections that say nothing."""
    if isinstance(value, dict):
        filled = {key: _filled(item) for key, item in value.items()}
        return {key: item for key, item in filled.items() if item not in ({}, [], None)}
    if isinstance(value, list):
        return [_filled(item) for item in value]
    return value
