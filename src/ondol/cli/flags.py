"""Options that several commands share, as the fields of a dataclass: a command takes them as one argument."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer reads it: each parameter that is a dataclass is the options of its fields."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    options: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in groups:
            options[name] = parameter.replace(annotation=hints[name])
            continue
        of_fields = typing.get_type_hints(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            options[field.name] = inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=of_fields[field.name],
            )
    ordered = sorted(options.values(), key=lambda option: option.kind)

    @functools.wraps(function)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            own = {field.name: values.pop(field.name) for field in dataclasses.fields(group)}
            values[name] = group(**own)
        function(**values)

    vars(call)["__signature__"] = inspect.Signature(ordered)
    call.__annotations__ = {option.name: option.annotation for option in ordered}
    return call
