"""What the HTTP reader at arrival does with paths and hosts before rules look at them, and why. Pure.

Rules see one spelling of a path, and the application must get just that one. As in Istio, Envoy resolves
`.` and `..` (written `%2e` too), turns backslashes into slashes, and refuses what has a fragment or a null
byte (BASE).
Where rules look at paths more is done, for `//admin` and `/x%2f..%2fadmin` are `/admin` to many an
application and not to a rule: slashes are merged, and an escaped slash is answered by a redirect to the path
without it. So no path is changed behind the caller's back, and applications for which `%2F` has a meaning
of its own keep it wherever no rule looks at paths. `pathNormalization` of the mesh's configuration replaces
this choice by Istio's words.

A segment `..;`, which some servers read as `..`, is denied where rules look at paths (`rbac`).
Parameters behind a name (`/admin;x`) are for the application: `/admin` names just the path without.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Final

from ondol.mesh.model.mesh_options import Normalization
from ondol.mesh.policy.workload import WorkloadPolicy
from ondol.mesh.translate import messages as m

_ESCAPED_SLASH: Final = re.compile(r"%2f|%5c", re.IGNORECASE)
_ESCAPED_DOT: Final = re.compile(r"%2e", re.IGNORECASE)
_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_WITH_PARAMETERS: Final = re.compile(r"(\.\.?);.*")
_UNRESERVED: Final = frozenset(f"{string.ascii_letters}{string.digits}-._~")


@dataclass(frozen=True, slots=True)
class Reading:
    """How paths are read; the default is BASE."""

    normalizes: bool = True
    merges_slashes: bool = False
    escaped_slashes: str = "KEEP_UNCHANGED"
    """What is done with them, in Envoy's words."""


_BY_NAME: Final[dict[Normalization, Reading]] = {
    "NONE": Reading(normalizes=False),
    "BASE": Reading(),
    "MERGE_SLASHES": Reading(merges_slashes=True),
    "DECODE_AND_MERGE_SLASHES": Reading(merges_slashes=True, escaped_slashes="UNESCAPE_AND_FORWARD"),
}
STRICT: Final = Reading(merges_slashes=True, escaped_slashes="UNESCAPE_AND_REDIRECT")


def reading(policy: WorkloadPolicy) -> Reading:
    """How paths are read on their way to a workload."""
    if policy.options.normalization != "DEFAULT":
        return _BY_NAME[policy.options.normalization]
    return STRICT if policy.looks_at_paths else Reading()


def harden(manager: m.hcm.HttpConnectionManager, policy: WorkloadPolicy) -> None:
    """Set what the rules of a workload count on, in the HTTP reader before them."""
    how = reading(policy)
    manager.normalize_path.value = how.normalizes
    manager.merge_slashes = how.merges_slashes
    m.parse({"pathWithEscapedSlashesAction": how.escaped_slashes}, manager)
    manager.strip_trailing_host_dot = True


def path(written: str, how: Reading) -> str | None:
    """A path as rules see it, without its query; None where it is refused or redirected instead.

    A few characters that Envoy escapes, such as `|`, stay as they are written.
    """
    plain = written.partition("?")[0]
    if "#" in written or "\0" in plain or "%00" in plain:
        return None
    if how.escaped_slashes != "KEEP_UNCHANGED" and _ESCAPED_SLASH.search(plain):
        if how.escaped_slashes == "UNESCAPE_AND_REDIRECT":
            return None
        plain = _ESCAPED_SLASH.sub("/", plain)
    if how.normalizes:
        plain = _without_dots(plain.replace("\\", "/"))
    return re.sub("/{2,}", "/", plain) if how.merges_slashes else plain


def _plain(escaped: re.Match[str]) -> str:
    """What need not be escaped, without."""
    character = chr(int(escaped[1], 16))
    return character if character in _UNRESERVED else escaped[0]


def _without_dots(plain: str) -> str:
    """Segments `.` and `..` resolved, as browsers do."""
    kept: list[str] = []
    segments = plain.split("/")[1:]
    for index, segment in enumerate(segments):
        meant = _WITH_PARAMETERS.sub(r"\1", segment)
        meant = _ESCAPED_DOT.sub(".", meant)
        is_last = index == len(segments) - 1
        if meant == "..":
            kept = kept[:-1]
        elif meant != ".":
            kept.append(_ESCAPED.sub(_plain, segment))
            continue
        if is_last:
            kept.append("")
    return "/" + "/".join(kept)
