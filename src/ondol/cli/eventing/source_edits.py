"""Sources as the flags ask for them. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeAlias

from typer import Option

from ondol.api import objects
from ondol.api.objects import Object
from ondol.cli.eventing import words
from ondol.cli.output import UsageError

Fields: TypeAlias = Callable[[Object], list[tuple[str, object]]]
Texts: TypeAlias = list[str] | None


class Flags(Protocol):
    """What was said of a source."""

    def apply(self, source: Object) -> None:
        """Change it so, in place."""
        ...


def override(source: Object, texts: Sequence[str]) -> None:
    """Attributes that every event gets."""
    if texts:
        before = (source["spec"].get("ceOverrides") or {}).get("extensions") or {}
        changed = words.changed(before, texts, "--ce-override")
        source["spec"]["ceOverrides"] = {"extensions": changed}


@dataclass(frozen=True, slots=True)
class Ping:
    """When events are sent, and with which data."""

    schedule: Annotated[str, Option("--schedule", help="When, as cron has it: */2 * * * *.")] = ""
    data: Annotated[str, Option("--data", "-d", help="What is sent, as JSON; or in base 64.")] = ""
    encoding: Annotated[str, Option("--encoding", "-e", help="How data is written: text or base64.")] = ""

    def apply(self, source: Object) -> None:
        spec = source["spec"]
        if self.schedule:
            spec["schedule"] = self.schedule
        if self.encoding not in ("", "text", "base64"):
            raise UsageError(f"--encoding: {self.encoding} is neither text nor base64")
        if self.data:
            field = "dataBase64" if self._is_base64 else "data"
            spec.pop("data" if field == "dataBase64" else "dataBase64", None)
            spec[field] = self.data

    @property
    def _is_base64(self) -> bool:
        if self.encoding:
            return self.encoding == "base64"
        try:
            base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Whose changes are sent."""

    resource: Annotated[
        Texts, Option("--resource", help="Kind:apiVersion[:label=value]; with - after it, no more.")
    ] = None
    mode: Annotated[str, Option("--mode", help="Reference, or Resource for whole objects.")] = ""
    service_account: Annotated[str, Option("--service-account", help="As whom they are read.")] = ""

    def apply(self, source: Object) -> None:
        spec = source["spec"]
        for text in self.resource or ():
            watched = words.api_resource(text.removesuffix("-"))
            kept = [each for each in spec.get("resources") or () if not _is_same(each, watched)]
            spec["resources"] = kept if text.endswith("-") else [*kept, watched]
        if self.mode:
            spec["mode"] = self.mode
        if self.service_account:
            spec["serviceAccountName"] = self.service_account


def _is_same(one: Object, other: Object) -> bool:
    return all(one.get(field) == other.get(field) for field in ("apiVersion", "kind"))


@dataclass(frozen=True, slots=True)
class Binding:
    """Which workloads are bound."""

    subject: Annotated[
        str, Option("--subject", help="Kind:apiVersion:name, or with labels in place of the name.")
    ] = ""

    def apply(self, source: Object) -> None:
        if self.subject:
            source["spec"]["subject"] = words.subject(self.subject, objects.namespace(source))


@dataclass(frozen=True, slots=True)
class Container:
    """What runs."""

    image: Annotated[str, Option("--image", help="Image to run.")] = ""
    env: Annotated[Texts, Option("--env", "-e", help="NAME=value; NAME- takes one away.")] = None
    arg: Annotated[Texts, Option("--arg", help="Argument of the command; may be given again.")] = None
    cmd: Annotated[Texts, Option("--cmd", help="Command instead of the image's entry point.")] = None
    service_account: Annotated[str, Option("--service-account", help="As whom it runs.")] = ""

    def apply(self, source: Object) -> None:
        pod = source["spec"].setdefault("template", {}).setdefault("spec", {})
        containers = pod.setdefault("containers", [{"name": "user-container"}])
        first = containers[0]
        if self.image:
            first["image"] = self.image
        if self.arg:
            first["args"] = list(self.arg)
        if self.cmd:
            first["command"] = list(self.cmd)
        if self.env:
            self._set_environment(first)
        if self.service_account:
            pod["serviceAccountName"] = self.service_account

    def _set_environment(self, container: Object) -> None:
        added: dict[str, str] = {}
        removed: set[str] = set()
        for text in self.env or ():
            name, equals, value = text.partition("=")
            if equals and name:
                added[name] = value
            elif text.endswith("-") and len(text) > 1:
                removed.add(text[:-1])
            else:
                raise UsageError(f"--env: {text} is neither NAME=value nor NAME-")
        gone = removed | added.keys()
        kept = [each for each in container.get("env") or () if each["name"] not in gone]
        container["env"] = [*kept, *({"name": name, "value": value} for name, value in added.items())]


@dataclass(frozen=True, slots=True)
class Kafka:
    """Which topics are read, and how."""

    servers: Annotated[
        Texts, Option("--servers", help="Server of the cluster as host:port; may be given again.")
    ] = None
    topics: Annotated[Texts, Option("--topics", help="Topic to read; may be given again.")] = None
    consumergroup: Annotated[str, Option("--consumergroup", help="As which group; a new one.")] = ""
    consumers: Annotated[int | None, Option("--consumers", min=0, help="How many consumers; 1.")] = None
    initial_offset: Annotated[
        str, Option("--initial-offset", help="Where a new group begins: latest or earliest.")
    ] = ""
    ordering: Annotated[str, Option("--ordering", help="ordered (the default) or unordered.")] = ""

    def apply(self, source: Object) -> None:
        spec = source["spec"]
        for field, texts in (("bootstrapServers", self.servers), ("topics", self.topics)):
            listed = [part.strip() for text in texts or () for part in text.split(",") if part.strip()]
            if listed:
                spec[field] = listed
            elif field not in spec:
                raise UsageError(f"--{'servers' if field == 'bootstrapServers' else field} is required")
        values = {
            "consumerGroup": self.consumergroup,
            "initialOffset": self.initial_offset,
            "ordering": self.ordering,
        }
        spec |= {field: value for field, value in values.items() if value}
        if self.consumers is not None:
            spec["consumers"] = self.consumers


def ping_fields(source: Object) -> list[tuple[str, object]]:
    return [("Schedule", source["spec"].get("schedule", ""))]


def apiserver_fields(source: Object) -> list[tuple[str, object]]:
    watched = [
        f"{each.get('kind')}:{each.get('apiVersion')}" for each in source["spec"].get("resources") or ()
    ]
    return [("Resources", ",".join(watched))]


def binding_fields(source: Object) -> list[tuple[str, object]]:
    subject = source["spec"].get("subject") or {}
    labels = (subject.get("selector") or {}).get("matchLabels") or {}
    named = subject.get("name") or ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return [("Subject", f"{subject['kind']}:{subject['apiVersion']}:{named}" if subject else "")]


def container_fields(source: Object) -> list[tuple[str, object]]:
    containers = ((source["spec"].get("template") or {}).get("spec") or {}).get("containers") or [{}]
    return [("Image", containers[0].get("image", ""))]


def kafka_fields(source: Object) -> list[tuple[str, object]]:
    spec = source["spec"]
    return [
        ("Topics", ",".join(spec.get("topics") or ())),
        ("Servers", ",".join(spec.get("bootstrapServers") or ())),
        ("Group", spec.get("consumerGroup", "")),
    ]
