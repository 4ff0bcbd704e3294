"""Files of earlier versions of `func.yaml` as today's: documents in, documents out. Pure.

Before 0.34.0 what is now below `build`, `run` and `deploy` stood at the top, before 0.35.0 `invoke` was
`invocation.format`, and before 0.36.0 a claim was misspelt; `builder` once was the image of a builder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_MOVED: Final = {
    "git": "build",
    "builderImages": "build",
    "buildpacks": "build",
    "buildEnvs": "build",
    "volumes": "run",
    "envs": "run",
    "annotations": "deploy",
    "options": "deploy",
    "labels": "deploy",
    "healthEndpoints": "deploy",
}
_IMAGE_BUILDERS: Final = (0, 23, 0)
_SECTIONS: Final = (0, 34, 0)
_INVOKE: Final = (0, 35, 0)
_CLAIM: Final = (0, 36, 0)
_USUAL_IMAGE: Final = "gcr.io/paketo-buildpacks/builder:base"


def migrated(document: Mapping[str, Any], version: tuple[int, ...]) -> dict[str, Any]:
    """The document in the newest form; `version` is that of its own."""
    today = dict(document)
    if version < _IMAGE_BUILDERS:
        image = today.pop("builder", "")
        today.pop("builders", None)
        if image and image != _USUAL_IMAGE:
            today.setdefault("builderImages", {})["pack"] = image
    if version < _SECTIONS:
        today = _in_sections(today)
    if version < _INVOKE:
        form = (today.pop("invocation", None) or {}).get("format", "")
        if form not in {"", "http"}:
            today["invoke"] = form
    if version < _CLAIM:
        for volume in (today.get("run") or {}).get("volumes") or ():
            if "presistentVolumeClaim" in volume:
                volume["persistentVolumeClaim"] = volume.pop("presistentVolumeClaim")
    today.pop("version", None)
    return today


def _in_sections(document: dict[str, Any]) -> dict[str, Any]:
    today = {key: value for key, value in document.items() if key not in _MOVED}
    for key, section in _MOVED.items():
        if key in document:
            today[section] = {**(today.get(section) or {}), key: document[key]}
    if builder := today.pop("builder", ""):
        today["build"] = {**(today.get("build") or {}), "builder": builder}
    if namespace := today.pop("namespace", ""):
        today["deploy"] = {**(today.get("deploy") or {}), "namespace": namespace}
    return today
