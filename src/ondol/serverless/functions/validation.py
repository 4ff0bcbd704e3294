"""What is wrong in a `func.yaml` beyond types, what has no effect here, and what cannot be deployed. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Final

from ondol.base import quantity
from ondol.serverless.functions import values
from ondol.serverless.functions.model import Env, Function, Label, Limits, Requests, Volume

_ENV_NAME: Final = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_LABEL_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
)
_LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_DURATION: Final = re.compile(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|\d+")
_LENGTH_MAX: Final = 63


def problems(function: Function) -> list[str]:
    """Everything that is wrong, each with where it stands."""
    return [
        *_envs(function.run.envs, "run.envs", is_build=False),
        *_envs(function.build.build_envs, "build.buildEnvs", is_build=True),
        *_volumes(function.run.volumes),
        *_labels(function.deploy.labels),
        *_options(function),
        *_timeout(function.run.start_timeout),
        *_subscriptions(function),
    ]


def without_effect(function: Function) -> list[str]:
    """What the file says that changes nothing on this platform, as warnings."""
    build = function.build
    settings = {
        "build.builder": build.builder not in {"", "host"},
        "build.builderImages": bool(build.builder_images),
        "build.buildpacks": bool(build.buildpacks),
        "build.pvcSize": bool(build.pvc_size),
        "build.remoteStorageClass": bool(build.remote_storage_class),
        "build.baseImage": bool(build.base_image),
        "build.volumes": bool(build.volumes),
        "build.git": bool(build.git.url),
    }
    built = [
        f"{path} has no effect: images are built here, from the folder"
        for path, is_set in settings.items()
        if is_set
    ]
    domain = ["domain has no effect: the platform has one domain"] if function.domain else []
    return [*built, *domain]


def not_deployable(function: Function) -> str:
    """Why it cannot be deployed here; empty if it can."""
    if not function.name:
        return "the function has no name"
    if not function.runtime:
        return "the function has no runtime"
    if function.deployer not in {"", "knative"}:
        return f"deployer {function.deployer} is not supported: functions are Knative Services here"
    if function.run.kafka is not None:
        return "run.kafka is not supported: use a broker and a subscription"
    return ""


def _envs(envs: Sequence[Env], path: str, *, is_build: bool) -> Iterator[str]:
    seen: set[str] = set()
    for index, env in enumerate(envs):
        here = f"{path}[{index}]"
        if env.name is None:
            if is_build or env.value is None:
                yield f"{here} has no name"
            elif values.whole(env.value) is None:
                yield (
                    f"{here} has no name: then its value is {{{{ secret:NAME }}}} or "
                    f"{{{{ configMap:NAME }}}}, not {env.value!r}"
                )
            continue
        if env.name in seen:
            yield f"{here}: {env.name} is there twice"
        seen.add(env.name)
        if not _ENV_NAME.fullmatch(env.name):
            yield f"{here}: {env.name!r} is no name of a variable"
        if env.value is None:
            yield f"{here}: {env.name} has no value"
        elif values.is_template(env.value) and not _is_value(env.value, is_build=is_build):
            others = "" if is_build else ", {{ secret:NAME:KEY }} or {{ configMap:NAME:KEY }}"
            yield f"{here}: {env.name} is {env.value!r}; write {{{{ env:NAME }}}}{others}"


def _is_value(value: str, *, is_build: bool) -> bool:
    return values.local(value) is not None or (not is_build and values.keyed(value) is not None)


def _volumes(volumes: Sequence[Volume]) -> Iterator[str]:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"run.volumes[{index}]"
        claim, empty = volume.persistent_volume_claim, volume.empty_dir
        sources = [s for s in (volume.secret, volume.config_map, claim, empty) if s is not None]
        if len(sources) != 1:
            yield f"{here} must have one of secret, configMap, persistentVolumeClaim, emptyDir"
        if claim is not None and not claim.claim_name:
            yield f"{here}.persistentVolumeClaim has no claimName"
        if empty is not None and empty.medium not in {"", "Memory"}:
            yield f"{here}.emptyDir.medium is {empty.medium!r}: only Memory, or nothing"
        if empty is not None and empty.size_limit is not None:
            yield from _quantity(empty.size_limit, f"{here}.emptyDir.sizeLimit")
        if not volume.path:
            yield f"{here} has no path"
            continue
        path = posixpath.normpath(volume.path)
        if path in seen:
            yield f"{here}: the path {volume.path} is there twice"
        seen.add(path)


def _labels(labels: Sequence[Label]) -> Iterator[str]:
    for index, label in enumerate(labels):
        here = f"deploy.labels[{index}]"
        if label.key is None:
            yield f"{here} has no key"
        elif not _LABEL_KEY.fullmatch(label.key):
            yield f"{here}: {label.key!r} is no key of a label"
        if label.value is None:
            continue
        if values.is_template(label.value):
            if values.local(label.value) is None:
                yield f"{here}: {label.value!r}; write {{{{ env:NAME }}}}"
        elif not is_label_value(label.value):
            yield f"{here}: {label.value!r} is no value of a label"


def is_label_value(text: str) -> bool:
    return len(text) <= _LENGTH_MAX and _LABEL_VALUE.fullmatch(text) is not None


def _options(function: Function) -> Iterator[str]:
    scale, resources = function.deploy.options.scale, function.deploy.options.resources
    if scale is not None and scale.min is not None and scale.max and scale.max < scale.min:
        yield f"deploy.options.scale.max is {scale.max}, less than min, {scale.min}"
    sections: tuple[tuple[str, Requests | Limits | None], ...] = (
        ("requests", resources.requests if resources else None),
        ("limits", resources.limits if resources else None),
    )
    for word, section in sections:
        if section is not None:
            for name, text in (("cpu", section.cpu), ("memory", section.memory)):
                if text is not None:
                    yield from _quantity(text, f"deploy.options.resources.{word}.{name}")


def _quantity(text: str, path: str) -> Iterator[str]:
    try:
        quantity.parse(text)
    except ValueError:
        yield f"{path}: {text!r} is no quantity"


def _timeout(text: str) -> Iterator[str]:
    if text and not _DURATION.fullmatch(text):
        yield f"run.startTimeout: {text!r} is no duration; write 30s"


def _subscriptions(function: Function) -> Iterator[str]:
    for index, subscription in enumerate(function.deploy.subscriptions):
        if not subscription.source:
            yield f"deploy.subscriptions[{index}] has no source"
