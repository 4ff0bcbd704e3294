"""The Knative Service of a function, with the labels and annotations of Knative's own tool. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ondol.api.objects import Object
from ondol.base import errors
from ondol.contracts import serving
from ondol.serverless.functions import validation, values, wellknown
from ondol.serverless.functions.model import Env, Function, Label, Options, Volume

_AUTOSCALING: Final = "autoscaling.knative.dev/"
_OPEN_ADDRESS: Final = {"name": "ADDRESS", "value": "0.0.0.0"}  # where images of other builders listen
_HEALTH: Final = {"liveness": wellknown.LIVENESS_PATH, "readiness": wellknown.READINESS_PATH}
_NO_HEALTH: Final = {"liveness": "", "readiness": ""}  # any program: it is ready once it listens
_SECURITY: Final = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def document(function: Function, image: str, namespace: str, environment: Mapping[str, str]) -> Object:
    """What to apply; `environment` gives what `{{ env:X }}` stands for. `HostError` if it lacks one."""
    labels = _labels(function, environment)
    annotations = {
        wellknown.DEPLOYER_ANNOTATION: wellknown.DEPLOYER,
        **({wellknown.CREATED_ANNOTATION: function.created} if function.created else {}),
        **function.deploy.annotations,
    }
    spec = _pod_spec(function, image, environment)
    return {
        "apiVersion": f"{serving.GROUP}/v1",
        "kind": "Service",
        "metadata": {
            "name": function.name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {k: v for k, v in annotations.items() if not k.startswith(_AUTOSCALING)},
        },
        "spec": {
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {**annotations, **_scaling(function.deploy.options)},
                },
                "spec": spec,
            }
        },
    }


def _labels(function: Function, environment: Mapping[str, str]) -> dict[str, str]:
    own = {
        wellknown.FUNCTION_LABEL: "true",
        wellknown.NAME_LABEL: function.name,
        wellknown.RUNTIME_LABEL: function.runtime,
    }
    return {**dict(_label(label, environment) for label in function.deploy.labels), **own}


def _label(label: Label, environment: Mapping[str, str]) -> tuple[str, str]:
    value = values.resolved(label.value or "", environment)
    if not validation.is_label_value(value):
        raise errors.HostError(
            f"the label {label.key} would be {value!r}, which is no value of a label",
            remedy="set the environment variable it is taken from to another value",
        )
    return label.key or "", value


def _scaling(options: Options) -> dict[str, str]:
    scale = options.scale
    if scale is None:
        return {}
    chosen = {
        "min-scale": scale.min,
        "max-scale": scale.max,
        "metric": scale.metric,
        "target": scale.target,
        "target-utilization-percentage": scale.utilization,
    }
    return {
        _AUTOSCALING + key: f"{value:g}" if isinstance(value, float) else str(value)
        for key, value in chosen.items()
        if value is not None
    }


def _pod_spec(function: Function, image: str, environment: Mapping[str, str]) -> dict[str, Any]:
    deploy, resources = function.deploy, function.deploy.options.resources
    limits = resources.limits if resources else None
    variables, sources = environment_of(function.run.envs, environment)
    if not any(variable["name"] == "ADDRESS" for variable in variables):
        variables.insert(0, dict(_OPEN_ADDRESS))
    volumes, mounts = _volumes(function.run.volumes)
    usual = _NO_HEALTH if function.runtime == wellknown.EXECUTABLE else _HEALTH
    container: dict[str, Any] = {
        "image": image,
        "env": variables,
        "securityContext": _SECURITY,
        "livenessProbe": _probe(deploy.health_endpoints.liveness or usual["liveness"]),
        "readinessProbe": _probe(deploy.health_endpoints.readiness or usual["readiness"]),
        "resources": _resources(function),
        "envFrom": sources,
        "volumeMounts": mounts,
    }
    spec: dict[str, Any] = {
        "containers": [{key: value for key, value in container.items() if value}],
        "volumes": volumes,
        "serviceAccountName": deploy.service_account_name,
        "imagePullSecrets": [{"name": deploy.image_pull_secret}] if deploy.image_pull_secret else [],
        "containerConcurrency": limits.concurrency if limits else None,
    }
    return {key: value for key, value in spec.items() if value not in (None, "", [])}


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path}} if path else {}


def _resources(function: Function) -> dict[str, Any]:
    resources = function.deploy.options.resources
    if resources is None:
        return {}
    sections = {"requests": resources.requests, "limits": resources.limits}
    named = {
        word: {
            name: text
            for name, text in (("cpu", section.cpu), ("memory", section.memory))
            if text is not None
        }
        for word, section in sections.items()
        if section is not None
    }
    return {word: amounts for word, amounts in named.items() if amounts}


def environment_of(
    envs: Sequence[Env], environment: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`env` and `envFrom` of a container."""
    variables: list[dict[str, Any]] = []
    sources: list[dict[str, Any]] = []
    for env in envs:
        value = env.value or ""
        if env.name is None:
            if (whole := values.whole(value)) is not None:
                sources.append({f"{whole.kind}Ref": {"name": whole.name}})
        elif (reference := values.keyed(value)) is not None:
            source = {"name": reference.name, "key": reference.key}
            variables.append({"name": env.name, "valueFrom": {f"{reference.kind}KeyRef": source}})
        else:
            variables.append({"name": env.name, "value": values.resolved(value, environment)})
    return variables, sources


def _volumes(volumes: Sequence[Volume]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes, each once however often it is mounted, and where they are mounted."""
    named: dict[str, dict[str, Any]] = {}
    mounts: list[dict[str, Any]] = []
    for index, volume in enumerate(volumes):
        name, source = _volume(volume, index)
        named[name] = {"name": name, **source}
        claim = volume.persistent_volume_claim
        read_only = {"readOnly": True} if claim is not None and claim.read_only else {}
        mounts.append({"name": name, "mountPath": volume.path, **read_only})
    return list(named.values()), mounts


def _volume(volume: Volume, index: int) -> tuple[str, dict[str, Any]]:
    if volume.secret is not None:
        return f"secret-{volume.secret}", {"secret": {"secretName": volume.secret}}
    if volume.config_map is not None:
        return f"config-map-{volume.config_map}", {"configMap": {"name": volume.config_map}}
    if (claim := volume.persistent_volume_claim) is not None:
        read_only = {"readOnly": True} if claim.read_only else {}
        return f"pvc-{claim.claim_name}", {
            "persistentVolumeClaim": {"claimName": claim.claim_name, **read_only}
        }
    empty = volume.empty_dir
    medium = {"medium": empty.medium} if empty and empty.medium else {}
    limit = {"sizeLimit": empty.size_limit} if empty and empty.size_limit else {}
    return f"empty-dir-{index}", {"emptyDir": {**medium, **limit}}


def another(function: Function, live: Mapping[str, Any]) -> str:
    """Why the Service of that name is not this function's; empty if it is."""
    metadata = live.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if labels.get(wellknown.FUNCTION_LABEL) != "true":
        return "is no function"
    created = annotations.get(wellknown.CREATED_ANNOTATION, "")
    if created and function.created and _instant(created) != _instant(function.created):
        return f"is another function of that name, created {created}"
    return ""


def _instant(text: str) -> str:
    """A time in one spelling, whichever tool has written it; what is none, as it is."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except ValueError:
        return text
