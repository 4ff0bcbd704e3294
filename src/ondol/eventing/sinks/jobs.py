"""The Job and the Secret that a JobSink makes of an event, and the paths by which they are asked for. Pure.

The Job's name is a hash of the event's source and id: an event that comes twice is one Job.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object
from ondol.base import names
from ondol.contracts import eventing
from ondol.eventing.cloudevents import json_format
from ondol.eventing.cloudevents.event import Event

Document: TypeAlias = Mapping[str, Any]

NAME_LABEL: Final = f"{eventing.SINKS}/job-sink-name"
ID_LABEL: Final = f"{eventing.SINKS}/job-sink-id"
PATH_VARIABLE: Final = "K_EVENT_PATH"
MODE_VARIABLE: Final = "K_EXECUTION_MODE"
BATCH_MODE: Final = "batch"
EVENT_FOLDER: Final = "/etc/jobsink-event"
_VOLUME: Final = "jobsink-event"
_FILE: Final = "event"
_LISTS: Final = ("initContainers", "containers")


@dataclass(frozen=True, slots=True)
class Place:
    """An event of a JobSink, as a `Location` names it."""

    sink: Key
    source: str
    id: str

    @property
    def job_name(self) -> str:
        digest = hashlib.md5((self.source + self.id).encode(), usedforsecurity=False).hexdigest()
        return names.child_name(f"{self.sink.name}-", digest)

    def location(self) -> str:
        namespace, name, source, id_ = (
            urllib.parse.quote(part, safe="$&+=:@")
            for part in (self.sink.namespace, self.sink.name, self.source, self.id)
        )
        return f"/namespaces/{namespace}/name/{name}/sources/{source}/ids/{id_}"


def place_of(path: str) -> Place | None:
    """What a `Location` names; None if the path is none."""
    parts = path.rstrip("/").split("/")
    if len(parts) != 9 or parts[1::2][:4] != ["namespaces", "name", "sources", "ids"]:
        return None
    namespace, name, source, id_ = (urllib.parse.unquote(part) for part in parts[2::2])
    return Place(Key(namespace, name), source, id_)


def sink_of(path: str) -> Key | None:
    """The JobSink of `/<namespace>/<name>`; None if the path is none."""
    parts = path.rstrip("/").split("/")
    return Key(parts[1], parts[2]) if len(parts) == 3 and all(parts[1:]) else None


def selector(sink: Document) -> str:
    """By which labels the Jobs of a sink are found."""
    return f"{NAME_LABEL}={objects.name(sink)}"


def job(sink: Document, name: str) -> Object:
    """The Job for an event, which its containers find in a file."""
    document: Object = copy.deepcopy(dict(objects.spec(sink).get("job") or {}))
    metadata = document.setdefault("metadata", {})
    metadata.pop("generateName", None)
    metadata |= {
        "name": name,
        "namespace": objects.namespace(sink),
        "labels": {**(metadata.get("labels") or {}), **_labels(sink, name)},
        "ownerReferences": [{**objects.controller_reference(sink), "blockOwnerDeletion": False}],
    }
    document |= {"apiVersion": "batch/v1", "kind": "Job"}
    pods = document.setdefault("spec", {}).setdefault("template", {}).setdefault("spec", {})
    fill_mode(pods)
    for container in pods.get("containers") or ():
        mounts = container.setdefault("volumeMounts", [])
        mount = next((each for each in mounts if each.get("name") == _VOLUME), None)
        if mount is None:
            mount = {"name": _VOLUME, "readOnly": True, "mountPath": EVENT_FOLDER}
            mounts.append(mount)
        container.setdefault("env", []).append({"name": PATH_VARIABLE, "value": mount.get("mountPath")})
    volumes = pods.setdefault("volumes", [])
    if all(volume.get("name") != _VOLUME for volume in volumes):
        volumes.append({"name": _VOLUME, "secret": {"secretName": name}})
    return document


def fill_mode(pods: Object) -> None:
    """Tell containers that they run once, unless they are told otherwise."""
    for field in _LISTS:
        for container in pods.get(field) or ():
            environment = container.setdefault("env", [])
            if all(each.get("name") != MODE_VARIABLE for each in environment):
                environment.append({"name": MODE_VARIABLE, "value": BATCH_MODE})


def secret(sink: Document, job_document: Document, event: Event) -> Object:
    """The file that the Job's containers read: the event in JSON."""
    name = objects.name(job_document)
    owner = {**objects.controller_reference(job_document), "blockOwnerDeletion": False}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": objects.namespace(sink),
            "labels": _labels(sink, name),
            "ownerReferences": [owner],
        },
        "immutable": True,
        "type": "Opaque",
        "data": {_FILE: base64.b64encode(json_format.encode(event)).decode()},
    }


def _labels(sink: Document, name: str) -> dict[str, str]:
    return {ID_LABEL: name, NAME_LABEL: objects.name(sink)}


def progress(job_document: Document) -> tuple[int, str]:
    """The status for whoever asks after a Job, and the reason in a word."""
    if conditions.is_true(job_document, "Failed"):
        return 400, "Failed"
    if conditions.is_true(job_document, "Complete"):
        return 200, "Complete"
    return 202, ""
