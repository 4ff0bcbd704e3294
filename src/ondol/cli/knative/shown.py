"""Knative's objects as people read them: the columns and descriptions of kn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.api.tables.columns import age_of
from ondol.cli import output, terminal
from ondol.cli.output import Format

_SIGNS: Final = {"True": "++", "False": "!!", "Unknown": "??"}
_OWN: Final = ("serving.knative.dev/", "client.knative.dev/", "kubectl.kubernetes.io/")
Row = Callable[[Object, float], Sequence[str]]


def listed(
    items: Sequence[Object], form: Format, header: Sequence[str], row: Row, now: float, *, every: bool
) -> None:
    """Objects as a table, with their namespaces if they are of several; or as a document."""
    ordered = sorted(items, key=lambda obj: (objects.namespace(obj), objects.name(obj)))
    if form is not Format.TABLE:
        output.document({"apiVersion": "v1", "kind": "List", "items": ordered}, form)
        return
    rows = [([objects.namespace(o)] if every else []) + list(row(o, now)) for o in ordered]
    output.table([*(["NAMESPACE"] if every else []), *header], rows)


SERVICES: Final = ("NAME", "URL", "LATEST", "AGE", "CONDITIONS", "READY", "REASON")
REVISIONS: Final = (
    "NAME",
    "SERVICE",
    "TRAFFIC",
    "TAGS",
    "GENERATION",
    "AGE",
    "CONDITIONS",
    "READY",
    "REASON",
)
ROUTES: Final = ("NAME", "URL", "READY")
DOMAINS: Final = ("NAME", "URL", "READY", "KSVC")


def service_row(service: Object, now: float) -> Sequence[str]:
    status = objects.status(service)
    latest = str(status.get("latestReadyRevisionName") or "")
    return [objects.name(service), str(status.get("url") or ""), latest, *_state(service, now)]


def revision_row(revision: Object, now: float, traffic: Iterable[Mapping[str, Any]]) -> Sequence[str]:
    """`traffic` are the targets of all services; those of this revision tell its share and tags."""
    own = [target for target in traffic if target.get("revisionName") == objects.name(revision)]
    percent = sum(int(target.get("percent") or 0) for target in own)
    labels = objects.labels(revision)
    return [
        objects.name(revision),
        labels.get("serving.knative.dev/service", ""),
        f"{percent}%" if percent else "",
        ",".join(target["tag"] for target in own if target.get("tag")),
        labels.get("serving.knative.dev/configurationGeneration", ""),
        *_state(revision, now),
    ]


def route_row(route: Object, now: float) -> Sequence[str]:
    del now
    return [objects.name(route), str(objects.status(route).get("url") or ""), _ready(route)]


def domain_row(mapping: Object, now: float) -> Sequence[str]:
    del now
    reference = objects.spec(mapping).get("ref") or {}
    url = str(objects.status(mapping).get("url") or "")
    return [objects.name(mapping), url, _ready(mapping), str(reference.get("name") or "")]


def _ready(obj: Object) -> str:
    return str((conditions.get(obj, "Ready") or {}).get("status") or "<unknown>")


def _state(obj: Object, now: float) -> list[str]:
    parts = conditions.of(obj)
    good = sum(1 for part in parts if part.get("status") == "True")
    ready = conditions.get(obj, "Ready") or {}
    reason = "" if ready.get("status") == "True" else str(ready.get("reason") or "")
    return [age_of(obj, now), f"{good} OK / {len(parts)}", _ready(obj), reason]


# Descriptions


def heading(obj: Object, now: float, *more: tuple[str, object]) -> None:
    """Name, namespace, what is the author's of labels and annotations, and age."""
    fields: list[tuple[str, object]] = [("Name", objects.name(obj)), ("Namespace", objects.namespace(obj))]
    for title, pairs in (("Labels", objects.labels(obj)), ("Annotations", objects.annotations(obj))):
        own = [f"{key}={value}" for key, value in sorted(pairs.items()) if not key.startswith(_OWN)]
        fields += [(title, ", ".join(own))] if own else []
    fields += [("Age", age_of(obj, now)), *more]
    _fields(fields)


def _fields(fields: Iterable[tuple[str, object]], indent: str = "") -> None:
    present = [(title, str(value)) for title, value in fields if value not in ("", None, [])]
    width = max((len(title) for title, _ in present), default=0) + 1
    for title, value in present:
        terminal.write(f"{indent}{title + ':':<{width}}  {value}")


def state(obj: Object, now: float) -> None:
    """The conditions, each with its sign and why."""
    terminal.write("\nConditions:")
    rows = []
    for part in sorted(conditions.of(obj), key=lambda c: (c["type"] != "Ready", c["type"])):
        changed = {"metadata": {"creationTimestamp": part.get("lastTransitionTime")}}
        sign = _SIGNS.get(str(part.get("status")), "??")
        why = " ".join(str(part[key]) for key in ("reason", "message") if part.get(key))
        rows.append((f"  {sign} {part['type']}", age_of(changed, now), why))
    output.table(("  OK TYPE", "AGE", "REASON"), rows)


def traffic(service: Object, revisions: Mapping[str, Object], now: float) -> None:
    """Which revision gets which share, and what it is made of."""
    terminal.write("\nRevisions:")
    targets = list(objects.status(service).get("traffic") or ())
    for target in targets:
        name = str(target.get("revisionName") or "")
        marks = [f"#{target['tag']}"] if target.get("tag") else []
        marks += ["(latest)"] if target.get("latestRevision") else []
        share = f"{target.get('percent') or 0}%"
        _revision(share, " ".join([name, *marks]), revisions.get(name) or {}, target.get("url"), now)
    newest = str(objects.status(service).get("latestCreatedRevisionName") or "")
    revision = revisions.get(newest)
    if revision is None or any(target.get("revisionName") == newest for target in targets):
        return
    reason = (conditions.get(revision, "Ready") or {}).get("reason")
    _revision("-", f"{newest} (newest{f', {reason}' if reason else ''})", revision, None, now)


def _revision(share: str, title: str, revision: Object, url: object, now: float) -> None:
    terminal.write(f"  {share:>5}  {title}")
    container = (objects.spec(revision).get("containers") or [{}])[0]
    replicas = objects.status(revision)
    present, desired = replicas.get("actualReplicas") or 0, replicas.get("desiredReplicas") or 0
    _fields(
        [
            ("Image", container.get("image")),
            ("Replicas", f"{present}/{desired}" if revision else ""),
            ("Age", age_of(revision, now) if revision else ""),
            ("URL", url),
        ],
        indent="         ",
    )


def container(revision: Object) -> list[tuple[str, object]]:
    """What a revision is made of, for its description."""
    spec = objects.spec(revision)
    first = (spec.get("containers") or [{}])[0]
    env = [f"{e['name']}={e.get('value', '(from elsewhere)')}" for e in first.get("env") or ()]
    notes = objects.annotations(revision)
    bounds = [notes.get(f"autoscaling.knative.dev/{key}-scale") for key in ("min", "max")]
    digest = next((s.get("imageDigest") for s in objects.status(revision).get("containerStatuses") or ()), "")
    return [
        ("Image", first.get("image")),
        ("Digest", digest),
        ("Env", ", ".join(env)),
        ("Scale", f"{bounds[0] or 0}..{bounds[1] or ''}" if any(bounds) else ""),
        ("Concurrency", spec.get("containerConcurrency") or ""),
        ("Timeout", f"{spec['timeoutSeconds']}s" if spec.get("timeoutSeconds") else ""),
        ("Service", objects.labels(revision).get("serving.knative.dev/service", "")),
    ]
