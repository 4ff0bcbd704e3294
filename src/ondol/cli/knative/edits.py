"""A Service as the flags ask for it: pure. Names of annotations and what is stored are those of kn.

`client.knative.dev/user-image` keeps the image as it was typed; with it, a change of something else keeps the
digest that runs (lock to digest). `client.knative.dev/updateTimestamp` makes each change a new revision.
"""

from __future__ import annotations

import copy
import random
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final

from typer import Option

from ondol.api import objects
from ondol.api.objects import Object
from ondol.cli.output import UsageError

USER_IMAGE: Final = "client.knative.dev/user-image"
UPDATED: Final = "client.knative.dev/updateTimestamp"
AUTOSCALING: Final = "autoscaling.knative.dev/"
VISIBILITY: Final = "networking.knative.dev/visibility"
API_VERSION: Final = "serving.knative.dev/v1"
_CONSONANTS: Final = "bcdfghjklmnpqrstvwxyz"
_PULL_POLICIES: Final = {name.lower(): name for name in ("Always", "Never", "IfNotPresent")}
_OF_SERVICE: Final = frozenset({"cluster_local", "label_service", "annotation_service", "lock_to_digest"})
"""Flags that make no revision."""

Texts = list[str] | None


@dataclass(frozen=True, slots=True)
class Flags:
    """What of a service is said on the command line, for `create`, `update` and `apply` alike."""

    image: Annotated[str, Option("--image", help="Image to run.")] = ""
    env: Annotated[Texts, Option("--env", "-e", help="NAME=value; NAME- takes one away.")] = None
    env_from: Annotated[Texts, Option("--env-from", help="cm:NAME or secret:NAME; with - to remove.")] = None
    env_value_from: Annotated[Texts, Option("--env-value-from", help="NAME=cm:NAME:key or secret:")] = None
    port: Annotated[str, Option("--port", "-p", help="Where the application listens: 8080, h2c:8080.")] = ""
    cmd: Annotated[str, Option("--cmd", help="Command instead of the image's entry point.")] = ""
    arg: Annotated[Texts, Option("--arg", help="Argument of the command; may be given again.")] = None
    scale: Annotated[str, Option("--scale", help="Least and most replicas: 5, 1..5, 1.. or ..5.")] = ""
    scale_min: Annotated[int | None, Option("--scale-min", min=0, help="Least replicas.")] = None
    scale_max: Annotated[int | None, Option("--scale-max", min=0, help="Most replicas; 0 is no limit.")] = (
        None
    )
    scale_init: Annotated[int | None, Option("--scale-init", min=0, help="Replicas to begin with.")] = None
    scale_activation: Annotated[int | None, Option("--scale-activation", help="Least above zero.")] = None
    scale_metric: Annotated[str, Option("--scale-metric", help="concurrency, rps, cpu or memory.")] = ""
    scale_target: Annotated[int | None, Option("--scale-target", help="What a replica can take.")] = None
    scale_utilization: Annotated[
        int | None, Option("--scale-utilization", help="How many percent of it.")
    ] = None
    scale_window: Annotated[str, Option("--scale-window", help="How long back is looked: 10s.")] = ""
    concurrency_limit: Annotated[
        int | None, Option("--concurrency-limit", min=0, help="Most requests at a time and replica.")
    ] = None
    timeout: Annotated[int | None, Option("--timeout", min=0, help="Seconds a request may take.")] = None
    request: Annotated[Texts, Option("--request", help="cpu=100m,memory=64Mi; cpu- takes it away.")] = None
    limit: Annotated[Texts, Option("--limit", help="Likewise, the most it may use.")] = None
    label: Annotated[Texts, Option("--label", "-l", help="Of service and revision: name=value, name-.")] = (
        None
    )
    label_service: Annotated[Texts, Option("--label-service", help="Of the service alone.")] = None
    label_revision: Annotated[Texts, Option("--label-revision", help="Of the revision alone.")] = None
    annotation: Annotated[
        Texts, Option("--annotation", "-a", help="Of service and revision: name=value, name-.")
    ] = None
    annotation_service: Annotated[Texts, Option("--annotation-service", help="Of the service alone.")] = None
    annotation_revision: Annotated[Texts, Option("--annotation-revision", help="Of the revision alone.")] = (
        None
    )
    service_account: Annotated[str | None, Option("--service-account", help="Whom the pods are.")] = None
    pull_secret: Annotated[str | None, Option("--pull-secret", help="Secret for the registry.")] = None
    pull_policy: Annotated[str, Option("--pull-policy", help="Always, Never or IfNotPresent.")] = ""
    user: Annotated[int | None, Option("--user", min=0, help="User id to run as.")] = None
    cluster_local: Annotated[
        bool | None, Option("--cluster-local/--no-cluster-local", help="Whether it has no name outside.")
    ] = None
    revision_name: Annotated[
        str,
        Option("--revision-name", help="Name of the revision: {{.Service}}-{{.Random 5}}-{{.Generation}}"),
    ] = ""
    lock_to_digest: Annotated[
        bool | None,
        Option(
            "--lock-to-digest/--no-lock-to-digest", help="Keep the image that runs until --image is given."
        ),
    ] = None

    @property
    def makes_revision(self) -> bool:
        return any(self._is_asked(field.name) for field in fields(self) if field.name not in _OF_SERVICE)

    @property
    def is_empty(self) -> bool:
        return not any(self._is_asked(field.name) for field in fields(self))

    def _is_asked(self, name: str) -> bool:
        return getattr(self, name) not in (None, "", [])


def new(name: str, namespace: str) -> Object:
    """A Service to which nothing has been said yet."""
    template = {"metadata": {"annotations": {}}, "spec": {"containers": [{}]}}
    return {
        "apiVersion": API_VERSION,
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": template},
    }


def edited(
    service: Mapping[str, Any],
    flags: Flags,
    *,
    stamp: str,
    rng: random.Random,
    running: Mapping[str, Any] | None = None,
) -> Object:
    """The Service with the flags applied; `running` is the revision whose digest is kept.

    `stamp` is the time for the annotation of changes, empty where the same words must give the same again.
    """
    result = copy.deepcopy(dict(service))
    template = result["spec"]["template"]
    meta = template.setdefault("metadata", {})
    container = template["spec"]["containers"][0]
    if flags.makes_revision:
        meta.pop("name", None)
        if flags.revision_name:
            meta["name"] = revision_name(flags.revision_name, result, rng)
        if stamp:
            _annotate(meta, {UPDATED: stamp}, ())
    _container(container, flags)
    _pod(template["spec"], flags)
    _scaling(meta, flags)
    _labels(result, meta, flags)
    _annotations(result, meta, flags)
    _lock(meta, container, flags, running)
    return result


def revision_name(template: str, service: Mapping[str, Any], rng: random.Random) -> str:
    """A name by kn's template, with the service's in front if it is not there."""
    service_name = objects.name(service)

    def value(match: re.Match[str]) -> str:
        word, count = match.group(1), match.group(2)
        if word == "Random" and count:
            return "".join(rng.choice(_CONSONANTS) for _ in range(int(count)))
        values = {"Service": service_name, "Generation": str(objects.generation(service) + 1)}
        if word not in values or count:
            raise UsageError(f"--revision-name: {match.group(0)} is none of Service, Generation, Random [n]")
        return values[word]

    name = re.sub(r"\{\{\s*\.(\w+)(?:\s+(\d+))?\s*\}\}", value, template)
    if "{{" in name:
        raise UsageError(f"--revision-name: {template} is no template that is known")
    return name if name.startswith(f"{service_name}-") else f"{service_name}-{name}"


def _container(container: Object, flags: Flags) -> None:
    if flags.image:
        container["image"] = flags.image
    if flags.port:
        container["ports"] = [_port(flags.port)]
    if flags.cmd:
        container["command"] = shlex.split(flags.cmd)
    if flags.arg:
        container["args"] = list(flags.arg)
    if flags.pull_policy:
        policy = _PULL_POLICIES.get(flags.pull_policy.lower())
        if policy is None:
            raise UsageError(f"--pull-policy is one of {', '.join(_PULL_POLICIES.values())}")
        container["imagePullPolicy"] = policy
    if flags.user is not None:
        container["securityContext"] = {**(container.get("securityContext") or {}), "runAsUser": flags.user}
    _environment(container, flags)
    for kind, texts in (("requests", flags.request), ("limits", flags.limit)):
        added, gone = _pairs(",".join(texts or ()).split(","), f"--{kind[:-1]}")
        if added or gone:
            resources = container.setdefault("resources", {})
            resources[kind] = _merged(resources.get(kind) or {}, added, gone)


def _port(text: str) -> Object:
    name, colon, number = text.rpartition(":")
    if not number.isdigit() or (colon and not name):
        raise UsageError(f"--port: {text} is not NAME:PORT or PORT, such as 8080 or h2c:8080")
    return {"containerPort": int(number), **({"name": name} if name else {})}


def _environment(container: Object, flags: Flags) -> None:
    added, gone = _pairs(flags.env or (), "--env")
    variables: list[Object] = [
        variable
        for variable in container.get("env") or ()
        if variable["name"] not in added and variable["name"] not in gone
    ]
    variables += [{"name": name, "value": value} for name, value in added.items()]
    for text in flags.env_value_from or ():
        name, _, source = text.partition("=")
        kind, key = _source(source, "--env-value-from", with_key=True)
        variables = [v for v in variables if v["name"] != name]
        variables.append({"name": name, "valueFrom": {f"{kind}KeyRef": key}})
    if variables or container.get("env"):
        container["env"] = variables
    if flags.env_from:
        listed = list(container.get("envFrom") or ())
        for text in flags.env_from:
            kind, key = _source(text.removesuffix("-"), "--env-from")
            reference = {f"{kind}Ref": key}
            listed = [each for each in listed if each != reference]
            listed += [] if text.endswith("-") else [reference]
        container["envFrom"] = listed


def _source(text: str, flag: str, *, with_key: bool = False) -> tuple[str, Object]:
    """`cm:name` or `secret:name`, with a key where one is asked for."""
    kinds = {"cm": "configMap", "config-map": "configMap", "secret": "secret", "sc": "secret"}
    kind, *parts = text.split(":")
    if kind not in kinds or len(parts) != (2 if with_key else 1) or not all(parts):
        form = "cm:NAME:KEY or secret:NAME:KEY" if with_key else "cm:NAME or secret:NAME"
        raise UsageError(f"{flag}: {text} is not {form}")
    return kinds[kind], {"name": parts[0], **({"key": parts[1]} if with_key else {})}


def _pod(spec: Object, flags: Flags) -> None:
    for field, value in (
        ("serviceAccountName", flags.service_account),
        ("timeoutSeconds", flags.timeout),
        ("containerConcurrency", flags.concurrency_limit),
    ):
        if value is not None:
            spec[field] = value
    if flags.pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": flags.pull_secret}] if flags.pull_secret else []


def _scaling(meta: Object, flags: Flags) -> None:
    least, most = flags.scale_min, flags.scale_max
    if flags.scale:
        if least is not None or most is not None:
            raise UsageError("say --scale, or --scale-min and --scale-max")
        least, most = _bounds(flags.scale)
    values = {
        "min-scale": least,
        "max-scale": most,
        "initial-scale": flags.scale_init,
        "activation-scale": flags.scale_activation,
        "metric": flags.scale_metric or None,
        "target": flags.scale_target,
        "target-utilization-percentage": flags.scale_utilization,
        "window": flags.scale_window or None,
    }
    _annotate(meta, {AUTOSCALING + key: str(value) for key, value in values.items() if value is not None}, ())


def _bounds(text: str) -> tuple[int | None, int | None]:
    if text.isdigit():
        return int(text), int(text)
    match = re.fullmatch(r"(\d*)\.\.(\d*)", text)
    if match is None or text == "..":
        raise UsageError(f"--scale: {text} is neither x..y nor x")
    least, most = (int(part) if part else None for part in match.groups())
    return least, most


def _labels(service: Object, meta: Object, flags: Flags) -> None:
    both = _pairs(flags.label or (), "--label")
    for owner, own, flag in (
        (service["metadata"], flags.label_service, "--label-service"),
        (meta, flags.label_revision, "--label-revision"),
    ):
        added, gone = _pairs(own or (), flag)
        change = _merged({}, both[0], ()) | added, {*both[1], *gone} - added.keys()
        if any(change):
            owner["labels"] = _merged(owner.get("labels") or {}, *change)
    if flags.cluster_local is not None:
        local = {VISIBILITY: "cluster-local"} if flags.cluster_local else {}
        before = service["metadata"].get("labels") or {}
        service["metadata"]["labels"] = _merged(before, local, () if local else (VISIBILITY,))


def _annotations(service: Object, meta: Object, flags: Flags) -> None:
    added, gone = _pairs(flags.annotation or (), "--annotation")
    of_revision, gone_there = _pairs(flags.annotation_revision or (), "--annotation-revision")
    _annotate(meta, added | of_revision, (*gone, *gone_there))
    own, gone_here = _pairs(flags.annotation_service or (), "--annotation-service")
    if wrong := next((key for key in own if key.startswith(AUTOSCALING)), ""):
        raise UsageError(f"a service has no annotation {wrong}: give it with --annotation-revision")
    common = {key: value for key, value in added.items() if not key.startswith(AUTOSCALING)}
    _annotate(service["metadata"], common | own, (*gone, *gone_here))


def _lock(meta: Object, container: Object, flags: Flags, running: Mapping[str, Any] | None) -> None:
    """Keep in mind which image was typed, and have the same digest again while no other is."""
    if flags.lock_to_digest is False:
        _annotate(meta, {}, (USER_IMAGE,))
        return
    locked = USER_IMAGE in (meta.get("annotations") or {})
    if flags.image or (flags.lock_to_digest and not locked):
        image = str(container.get("image") or "")
        _annotate(meta, {} if "@" in image else {USER_IMAGE: image}, ())
    elif locked and flags.makes_revision and running is not None:
        container["image"] = _digest(running, container) or container["image"]


def _digest(running: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    """The image that the container of the revision runs, if the two name the same one."""
    own = (objects.spec(running).get("containers") or [{}])[0]
    if own.get("image") != container.get("image"):
        return ""
    statuses = objects.status(running).get("containerStatuses") or ()
    digest = next((s.get("imageDigest") for s in statuses if s.get("name") == own.get("name")), "")
    return str(digest) if digest and "@" in str(digest) else ""


def _annotate(meta: Object, added: Mapping[str, str], gone: Iterable[str]) -> None:
    before = meta.get("annotations") or {}
    if after := _merged(before, added, gone):
        meta["annotations"] = after
    else:
        meta.pop("annotations", None)


def _merged(before: Mapping[str, str], added: Mapping[str, str], gone: Iterable[str]) -> dict[str, str]:
    left_out = set(gone)
    return {key: value for key, value in {**before, **added}.items() if key not in left_out}


def _pairs(texts: Sequence[str], flag: str) -> tuple[dict[str, str], list[str]]:
    """What `name=value` sets, and what `name-` takes away."""
    added: dict[str, str] = {}
    gone: list[str] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name:
            added[name] = value
        elif name.endswith("-") and not equals:
            gone.append(name[:-1])
        elif text:
            raise UsageError(f"{flag}: {text} is not name=value (or name- to take it away)")
    return added, gone
