"""Settings: one frozen value, read once from file, environment and flags (later ones win).

Every field can be given in `<data dir>/config.toml`, as `ONDOL_<FIELD>` in the environment, or as
the flag of the same name where a command offers it.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ondol.base import errors, names

ENVIRONMENT_PREFIX = "ONDOL_"
CONFIG_FILE = "config.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an administrator may choose; the rest is decided once and kept in the data directory."""

    data_dir: Path
    """Everything the platform keeps: certificates, objects, images, pods, traces, logs."""
    api_port: int = 6443
    """Preferred port of the API server; a free one is taken when it is in use at the first start."""
    ingress_port: int = 8080
    """Preferred port of the ingress gateway on this machine."""
    ingress_address: str = "127.0.0.1"
    """Address the ingress gateway listens on; `0.0.0.0` opens it to the network."""
    domain: str = "localhost"
    """Domain of serverless services: `<name>.<namespace>.<domain>`."""
    node_name: str = ""
    """Name of this machine's Node object; empty means the host name."""
    runtime: str = ""
    """Container runtime (`crun` or `runc`); empty means the first that works."""
    trace_sampling_percent: float = 100.0
    """Share of requests that are traced."""
    scale_to_zero_after_s: float = 60.0
    """Stable window of the autoscaler: how long without traffic before a revision goes to zero."""
    knative_features: str = ""
    """Knative's feature flags that are on besides its defaults, with commas between; `-name` is off."""
    drain_s: float = 2.0
    """Seconds a pod that was an endpoint answers on before SIGTERM; at most half its grace period."""
    log_level: str = "info"
    """Least severe log level written: debug, info, warning or error."""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _are_features(text: str) -> bool:
    from ondol.serverless.serving import podspec  # noqa: PLC0415 - only who sets it pays for it

    try:
        podspec.features(text)
    except ValueError:
        return False
    return True


_LIMITS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "api_port": (lambda port: 1 <= port <= 65535, "a port from 1 to 65535"),
    "ingress_port": (lambda port: 1 <= port <= 65535, "a port from 1 to 65535"),
    "ingress_address": (_is_address, "an IP address"),
    "domain": (names.is_dns1123_subdomain, "a DNS name"),
    "node_name": (lambda name: not name or names.is_dns1123_subdomain(name), "a DNS name"),
    "runtime": (lambda name: name in ("", "crun", "runc"), "crun, runc or empty"),
    "trace_sampling_percent": (lambda share: 0 <= share <= 100, "from 0 to 100"),
    "scale_to_zero_after_s": (lambda window_s: 6 <= window_s <= 3600, "from 6 to 3600 seconds"),
    "drain_s": (lambda wait_s: 0 <= wait_s <= 600, "from 0 to 600 seconds"),
    "knative_features": (_are_features, "names of Knative's feature flags (see docs/serverless.md)"),
    "log_level": (
        lambda level: level in ("debug", "info", "warning", "error"),
        "debug, info, warning or error",
    ),
}
"""What a value must be beyond its type, with the words that say so."""


DEFAULT_DATA_DIR: Final = Path("/var/lib/ondol")
"""One for the machine, whoever asks: only root can start a platform, with or without sudo."""


def load(
    data_dir: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings; `HostError` names the source and the field that is wrong."""
    chosen = data_dir or Path(environment.get(f"{ENVIRONMENT_PREFIX}DATA_DIR") or DEFAULT_DATA_DIR)
    chosen = chosen.expanduser().absolute()
    values: dict[str, Any] = {}
    config = chosen / CONFIG_FILE
    found = _file(config)
    if "data_dir" in found:
        raise errors.HostError(
            f"{config}: data_dir cannot be set in the file, which is in it",
            remedy=f"remove it, and use --data-dir or {ENVIRONMENT_PREFIX}DATA_DIR",
        )
    values.update(_checked(found, source=str(config)))
    given = {
        key.removeprefix(ENVIRONMENT_PREFIX).lower(): text
        for key, text in environment.items()
        if key.startswith(ENVIRONMENT_PREFIX)
    }
    known = {field.name for field in dataclasses.fields(Settings)}
    values.update(_checked({k: v for k, v in given.items() if k in known}, source="the environment"))
    given_flags = {k: v for k, v in (flags or {}).items() if v is not None}
    values.update(_checked(given_flags, source="the command line"))
    values["data_dir"] = chosen
    return Settings(**values)


def _file(config: Path) -> dict[str, Any]:
    """What the file sets; nothing if there is none."""
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except tomllib.TOMLDecodeError as error:
        raise errors.HostError(f"{config} is not valid TOML: {error}", remedy=f"edit {config}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise errors.HostError(
            f"{config} cannot be read: {error}",
            remedy="run with sudo, or choose another folder with --data-dir",
        ) from error


def _checked(found: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    hints = typing.get_type_hints(Settings)
    checked: dict[str, Any] = {}
    for key, value in found.items():
        if key not in hints:
            raise errors.HostError(
                f"{source}: unknown setting {key!r}", remedy=f"use one of: {', '.join(sorted(hints))}"
            )
        try:
            checked[key] = hints[key](value)
        except (TypeError, ValueError) as error:
            wanted = hints[key].__name__
            raise errors.HostError(
                f"{source}: setting {key} must be {wanted}, not {value!r}", remedy=f"correct {key}"
            ) from error
        fits, words = _LIMITS.get(key, (_anything, ""))
        if not fits(checked[key]):
            raise errors.HostError(
                f"{source}: setting {key} must be {words}, not {value!r}", remedy=f"correct {key}"
            )
    return checked


def _anything(_value: Any) -> bool:
    return True
