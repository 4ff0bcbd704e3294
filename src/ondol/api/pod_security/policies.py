"""Policies: a level and a version each for enforcing, auditing and warning, from a namespace's labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ondol.base.errors import Cause

PREFIX: Final = "pod-security.kubernetes.io/"
PRIVILEGED: Final = "privileged"
BASELINE: Final = "baseline"
RESTRICTED: Final = "restricted"
LEVELS: Final = (PRIVILEGED, BASELINE, RESTRICTED)
"""From the loosest to the strictest."""
LATEST: Final = "latest"
_VERSION: Final = re.compile(r"v1\.(0|[1-9][0-9]{0,8})")


class LevelVersion(NamedTuple):
    """How strict, by the standards of which release (`latest` or `v1.<minor>`)."""

    level: str = PRIVILEGED
    version: str = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"

    @property
    def minor(self) -> int | None:
        """The minor release, or None for the latest."""
        return None if self.version == LATEST else int(self.version.removeprefix("v1."))

    def is_stricter_than(self, other: LevelVersion) -> bool:
        return LEVELS.index(self.level) > LEVELS.index(other.level)


_UNRESTRICTED: Final = LevelVersion()


@dataclass(frozen=True, slots=True)
class Policy:
    """What a namespace holds its pods to."""

    enforce: LevelVersion = _UNRESTRICTED
    audit: LevelVersion = _UNRESTRICTED
    warn: LevelVersion = _UNRESTRICTED

    @property
    def is_privileged(self) -> bool:
        """Whether nothing is enforced, recorded or warned of."""
        return {self.enforce.level, self.audit.level, self.warn.level} == {PRIVILEGED}


@dataclass(frozen=True, slots=True)
class Settings:
    """The policy of namespaces without labels of their own, and the exemptions."""

    defaults: Policy = field(default_factory=Policy)
    exempt_users: frozenset[str] = frozenset()
    exempt_namespaces: frozenset[str] = frozenset()
    exempt_runtime_classes: frozenset[str] = frozenset()


def parse_level_version(text: str) -> LevelVersion:
    """From `level` or `level:version`; `ValueError` if it is neither."""
    level, colon, version = text.partition(":")
    if level not in LEVELS or (colon and not _is_version(version)):
        raise ValueError(f"{text!r} is no level such as baseline or restricted:v1.34")
    return LevelVersion(level, version or LATEST)


def of_labels(labels: Mapping[str, str], defaults: Policy) -> tuple[Policy, list[Cause]]:
    """The policy, and what is wrong with the labels.

    A level that cannot be read is enforced as the strictest, and neither audited nor warned of.
    """
    causes: list[Cause] = []
    enforce = _mode(labels, "enforce", defaults.enforce, RESTRICTED, causes)
    audit = _mode(labels, "audit", defaults.audit, PRIVILEGED, causes)
    warn = _mode(labels, "warn", defaults.warn, PRIVILEGED, causes)
    is_set = labels.get(f"{PREFIX}enforce") in LEVELS
    if is_set and f"{PREFIX}warn" not in labels and enforce.is_stricter_than(warn):
        version = warn.version if f"{PREFIX}warn-version" in labels else enforce.version
        warn = LevelVersion(enforce.level, version)
    return Policy(enforce, audit, warn), causes


def _mode(
    labels: Mapping[str, str], mode: str, default: LevelVersion, unreadable: str, causes: list[Cause]
) -> LevelVersion:
    standard = default
    if (level := labels.get(f"{PREFIX}{mode}")) is not None:
        standard = LevelVersion(level if level in LEVELS else unreadable, standard.version)
        if level not in LEVELS:
            causes.append(_cause(mode, level, f"must be one of {', '.join(LEVELS)}"))
    if (version := labels.get(f"{PREFIX}{mode}-version")) is not None:
        standard = LevelVersion(standard.level, version if _is_version(version) else LATEST)
        if not _is_version(version):
            causes.append(_cause(f"{mode}-version", version, 'must be "latest" or "v1.x"'))
    return standard


def _is_version(text: str) -> bool:
    return text == LATEST or _VERSION.fullmatch(text) is not None


def _cause(label: str, value: str, detail: str) -> Cause:
    return Cause(
        "FieldValueInvalid", f'Invalid value: "{value}": {detail}', f"metadata.labels[{PREFIX}{label}]"
    )


def ignored(namespace: str, labels: Mapping[str, str], policy: Policy, defaults: Policy) -> str:
    """What the author of labels on an exempt namespace should know, or nothing."""
    if policy.is_privileged or policy == defaults:
        return ""
    modes = (("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn))
    modes_set = [
        f"{mode}={standard}"
        for mode, standard in modes
        if standard.level != PRIVILEGED and {f"{PREFIX}{mode}", f"{PREFIX}{mode}-version"} & labels.keys()
    ]
    return (
        f'namespace "{namespace}" is exempt from Pod Security, and the policy ({", ".join(modes_set)}) '
        "will be ignored"
    )
