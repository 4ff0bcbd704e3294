"""What the commands for Eventing's kinds share: destinations, creating, changing, listing, describing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from typer import Option

from ondol.api import conditions, objects
from ondol.api.objects import Object, Resource
from ondol.api.tables.columns import age_of
from ondol.base import errors
from ondol.cli import terminal
from ondol.cli.eventing import words
from ondol.cli.knative import shown, viewing, waiting
from ondol.cli.knative.commands import Session, Where
from ondol.cli.knative.waiting import Patience
from ondol.cli.output import Format

_TRIES: Final = 5

SinkOption = Annotated[
    str,
    Option(
        "--sink",
        "-s",
        help="Who gets the events: ksvc:NAME (or just NAME), svc:NAME, broker:NAME, channel:NAME, a URI; "
        "with :NAMESPACE for another one.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Hurry(Patience):
    """As `Patience`, for what may well be made before what it needs: it is waited for only if asked."""

    wait: Annotated[bool, Option("--wait/--no-wait", help="Wait until it is ready.")] = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """How events are delivered."""

    dl_sink: Annotated[str, Option("--dl-sink", help="Who gets events that are given up.")] = ""
    retry: Annotated[int | None, Option("--retry", min=0, help="How often an event is sent again.")] = None
    timeout: Annotated[str, Option("--timeout", help="How long an attempt may take: PT30S.")] = ""
    backoff_policy: Annotated[str, Option("--backoff-policy", help="linear or exponential.")] = ""
    backoff_delay: Annotated[str, Option("--backoff-delay", help="The first wait: PT0.2S.")] = ""
    retry_after_max: Annotated[
        str, Option("--retry-after-max", help="At most so long Retry-After is heeded: PT1M.")
    ] = ""

    async def fields(self, session: Session) -> Object:
        """What was said, as a DeliverySpec."""
        texts = {
            "timeout": self.timeout,
            "backoffPolicy": self.backoff_policy,
            "backoffDelay": self.backoff_delay,
            "retryAfterMax": self.retry_after_max,
        }
        spec: Object = {field: text for field, text in texts.items() if text}
        if self.retry is not None:
            spec["retry"] = self.retry
        if self.dl_sink:
            spec["deadLetterSink"] = await destination(session, self.dl_sink)
        return spec


async def destination(session: Session, text: str) -> Object:
    """A sink as a Destination; it must be there, so that nobody mistypes it."""
    typed = words.sink(text, session.namespace)
    if typed.uri:
        return {"uri": typed.uri}
    served = () if typed.kind in words.SINKS else await session.client.discover()
    resource = words.resource_of(typed, served)
    await session.client.get(resource, typed.name, typed.namespace)
    return {"ref": words.reference(resource, typed.name, typed.namespace)}


def document(resource: Resource, name: str, session: Session, spec: Mapping[str, Any]) -> Object:
    """An object to be created."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": session.namespace},
        "spec": dict(spec),
    }


async def created(session: Session, resource: Resource, obj: Object, patience: Patience) -> None:
    """Create it, wait if that is asked for, and say so."""
    await session.client.create(resource, obj)
    await _report(session, resource, objects.name(obj), patience, "created")


async def updated(
    session: Session,
    resource: Resource,
    name: str,
    change: Callable[[Object], None],
    patience: Patience,
) -> None:
    """Change it as it is now; `change` does so in place."""
    for attempt in range(_TRIES):
        live = copy.deepcopy(await session.client.get(resource, name, session.namespace))
        change(live)
        try:
            await session.client.update(resource, live)
        except errors.Conflict:
            if attempt + 1 == _TRIES:
                raise
        else:
            break
    await _report(session, resource, name, patience, "updated")


async def _report(session: Session, resource: Resource, name: str, patience: Patience, done: str) -> None:
    if patience.wait:
        await waiting.until_ready(session.client, resource, name, session.namespace, patience)
    terminal.write(f"{resource.kind} '{name}' successfully {done} in namespace '{session.namespace}'.")


def described(
    where: Where,
    resource: Resource,
    name: str,
    form: Format,
    fields: Callable[[Object], Sequence[tuple[str, object]]],
) -> None:
    """Show one object with its conditions."""
    viewing.described(where, resource, name, form, lambda obj, now: shown.heading(obj, now, *fields(obj)))


def ready(obj: Object) -> list[str]:
    """The columns READY and REASON."""
    condition = conditions.get(obj, "Ready") or {}
    reason = "" if condition.get("status") == "True" else str(condition.get("reason") or "")
    return [str(condition.get("status") or "<unknown>"), reason]


def state(obj: Object, now: float) -> list[str]:
    """The columns AGE, CONDITIONS, READY and REASON."""
    parts = conditions.of(obj)
    good = sum(1 for part in parts if part.get("status") == "True")
    return [age_of(obj, now), f"{good} OK / {len(parts)}", *ready(obj)]


def url(obj: Object) -> str:
    """Where it takes events in."""
    return str((objects.status(obj).get("address") or {}).get("url") or "")


def delivery(spec: Mapping[str, Any]) -> list[tuple[str, object]]:
    """How it delivers, for a description."""
    own = spec.get("delivery") or {}
    return [
        ("Retries", own.get("retry", "")),
        ("Back-off", " ".join(str(own[f]) for f in ("backoffPolicy", "backoffDelay") if own.get(f))),
        ("Timeout", own.get("timeout", "")),
        ("Dead letters", words.shown(own.get("deadLetterSink"))),
    ]
