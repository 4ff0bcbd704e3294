"""Volumes by their kind. What is supported is `api.volume_kinds`; here each name meets its module.

registry.of({"name": "conf", "configMap": {"name": "m"}})  # a ConfigMapVolume
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from typing import Any, Final

from ondol.api import objects, volume_kinds
from ondol.node.volumes.volume import Kind, Spec, TokenRequest, Volume, VolumeFailed

_WORD_START: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def kind(volume: Spec) -> str:
    """The field of the volume that says what it is; one that says nothing is an emptyDir."""
    return next((key for key in volume if key != "name"), "emptyDir")


@functools.cache
def load(name: str) -> Any:
    """The module of a kind or projection: `configMap` is in `config_map`."""
    return importlib.import_module(f"ondol.node.volumes.{_WORD_START.sub('_', name).lower()}")


def of(volume: Spec) -> Volume:
    """The volume; `VolumeFailed` if its kind is not supported."""
    name = kind(volume)
    if name not in volume_kinds.KINDS:
        raise VolumeFailed(f"volume {volume['name']}: type {name} is not supported on this node")
    make: Kind = load(name).KIND
    return make(str(volume["name"]), volume.get(name) or {})


def unsupported(pod: Spec) -> list[str]:
    """The fields of the pod's volumes that this node cannot make; a pod that has one is refused."""
    volumes = objects.spec(pod).get("volumes") or ()
    kinds = [(volume["name"], kind(volume)) for volume in volumes]
    missing = [f"spec.volumes[{name}].{each}" for name, each in kinds if each not in volume_kinds.KINDS]
    supported = [volume for volume in volumes if kind(volume) in volume_kinds.KINDS]
    return missing + [
        f"spec.volumes[{volume['name']}].{kind(volume)}.{part}"
        for volume in supported
        for part in of(volume).unsupported()
    ]


def projections(pod: Spec) -> Iterator[tuple[str, Spec]]:
    """Each volume's name with each source that its files come from: itself, or what it is put together of."""
    for volume in objects.spec(pod).get("volumes") or ():
        yield str(volume["name"]), volume
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield str(volume["name"]), source


def token_requests(pod: Spec) -> Iterator[TokenRequest]:
    """The service account tokens that the pod's volumes show."""
    for name, source in projections(pod):
        if token := source.get("serviceAccountToken"):
            expiration_s = int(token.get("expirationSeconds") or 3600)
            yield TokenRequest(name, token["path"], token.get("audience") or "", expiration_s)
