"""What a systemd unit runs, as far as an image can say it: command, account, variables, folders. Pure.

Source: systemd.service(5), systemd.exec(5), systemd.unit(5).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_PREFIXES: Final = "@-:+!|"
_FOLDERS: Final = {
    "RuntimeDirectory": "/run",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
    "ConfigurationDirectory": "/etc",
}
_WRITABLE: Final = ("ReadWritePaths", "ReadWriteDirectories")
_OWN: Final = ("/run/", "/var/")
"""Where a folder that a service may write to is its own to make; elsewhere it is somebody's already."""
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}|\$\$")
_WHOLE_VARIABLE: Final = re.compile(r"\$(\w+)")
_YES: Final = ("yes", "true", "on", "1")

Reader = Callable[[str], str | None]
"""The text of a file of the packages by its path, None if there is none."""


class Unreadable(ValueError):
    """A unit that says what no image can: the message is the reason."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a unit runs. `folders` belong to the account `user`, which is empty for root."""

    command: tuple[str, ...]
    user: str
    group: str
    environment: Mapping[str, str]
    working_dir: str
    folders: tuple[str, ...]
    is_forking: bool
    before: str = ""
    """Commands that are run before it, a line each."""


def read(name: str, text: str, reader: Reader) -> Service:
    """The service of a unit named `name` (without its suffix); `Unreadable` if no command follows from it."""
    settings = _settings(text)
    environment = _environment(settings, reader)
    user = _last(settings, "User") or (name if _last(settings, "DynamicUser").lower() in _YES else "")
    user = "" if user == "root" else user
    return Service(
        command=_command(settings, environment),
        user=user,
        group=_last(settings, "Group") or user,
        environment=environment,
        working_dir=_working_dir(_last(settings, "WorkingDirectory")),
        folders=tuple(sorted(set(_folders(settings)))),
        is_forking=_last(settings, "Type") == "forking",
        before="\n".join(settings.get("ExecStartPre", ())),
    )


def _settings(text: str) -> dict[str, list[str]]:
    """The settings of `[Service]`; an empty value forgets those before it."""
    section, settings = "", dict[str, list[str]]()
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
        elif section == "Service" and stripped and stripped[0] not in "#;":
            key, _, value = stripped.partition("=")
            settings[key.strip()] = [*settings.get(key.strip(), ()), value.strip()] if value.strip() else []
    return settings


def _last(settings: Mapping[str, list[str]], key: str) -> str:
    return next(iter(reversed(settings.get(key, ()))), "")


def _environment(settings: Mapping[str, list[str]], reader: Reader) -> dict[str, str]:
    environment: dict[str, str] = {}
    for line in settings.get("Environment", ()):
        environment |= dict(_assignments(_words(line)))
    for path in settings.get("EnvironmentFile", ()):
        for line in (reader(path.removeprefix("-")) or "").splitlines():
            if line.strip() and line.strip()[0] not in "#;":
                name, _, value = line.strip().partition("=")
                environment |= dict(_assignments([f"{name}={''.join(_words(value, keep=True))}"]))
    return environment


def _assignments(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            yield name, value


def _words(text: str, *, keep: bool = False) -> list[str]:
    """The words of a setting without their quotes; with `keep`, the text without its outer quotes."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise Unreadable(f"the quotes in {text!r} do not end") from None
    return words if not keep or len(words) < 2 else [text]


def _command(settings: Mapping[str, list[str]], environment: Mapping[str, str]) -> tuple[str, ...]:
    line = next(iter(settings.get("ExecStart", ())), "")
    if not line:
        raise Unreadable("it starts nothing")
    prefix = line[: len(line) - len(line.lstrip(_PREFIXES))]
    program, *arguments = _words(line[len(prefix) :]) or [""]
    arguments = arguments[1:] if "@" in prefix else arguments
    words = [program, *(word for argument in arguments for word in _expanded(argument, environment))]
    return tuple(_without_specifiers(word) for word in words)


def _expanded(argument: str, environment: Mapping[str, str]) -> list[str]:
    """`$NAME` alone is as many words as it has; `${NAME}` is one part of a word."""
    if whole := _WHOLE_VARIABLE.fullmatch(argument):
        return _words(environment.get(whole[1], ""))
    return [_VARIABLE.sub(lambda m: environment.get(m[1], "") if m[1] else "$", argument)]


def _without_specifiers(word: str) -> str:
    plain = word.replace("%%", "")
    if "%" in plain:
        raise Unreadable(f"{word!r} has a specifier that only systemd can fill in")
    return word.replace("%%", "%")


def _working_dir(text: str) -> str:
    path = text.lstrip("-")
    return path if path.startswith("/") else ""


def _folders(settings: Mapping[str, list[str]]) -> Iterator[str]:
    for key, parent in _FOLDERS.items():
        for line in settings.get(key, ()):
            yield from (f"{parent}/{name.partition(':')[0]}" for name in line.split())
    for key in _WRITABLE:
        for line in settings.get(key, ()):
            for word in line.split():
                path = word.lstrip("-+").rstrip("/").replace("/var/run/", "/run/")
                if path.startswith(_OWN) and path.count("/") > 1:
                    yield path
