"""The keys of a ConfigMap or Secret as files: all of them, or those that are chosen. Pure."""

from __future__ import annotations

from ondol.node import value_sources
from ondol.node.volumes import written
from ondol.node.volumes.volume import File, Payload, Spec, VolumeFailed


def files(noun: str, name: str, source: Spec, obj: Spec | None, mode: int) -> Payload:
    """`noun` is how messages call the object; `obj` is None if there is none."""
    if obj is None:
        if source.get("optional"):
            return {}
        raise VolumeFailed(f'{noun} "{name}" not found')
    values = value_sources.decoded(obj)
    if not source.get("items"):
        return {key: File(value, mode) for key, value in values.items()}
    chosen: Payload = {}
    for item in source["items"]:
        if item["key"] in values:
            chosen[item["path"]] = File(values[item["key"]], written.mode(item.get("mode"), mode))
        elif not source.get("optional"):
            raise VolumeFailed(f"{noun} {name} has no key {item['key']}")
    return chosen
