"""ServiceAccount: every pod runs as one, and finds its token, the authority and its namespace mounted.

Follows `plugin/pkg/admission/serviceaccount`.
"""

from __future__ import annotations

from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors, names

DEFAULT: Final = "default"
MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA: Final = "kube-root-ca.crt"
_VOLUME_PREFIX: Final = "kube-api-access-"
# An hour and seven seconds: the odd number marks tokens nobody asked for.
_EXPIRATION_S: Final = 3607
_FILE_MODE: Final = 0o644


def admit(parts: Parts, context: Context, request: Request) -> None:
    del context
    if request.operation != "create" or request.subresource:
        return
    spec = request.new["spec"]
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = parts.state.lookup(resources.SERVICE_ACCOUNT, request.namespace, name)
    if account is None:
        raise _missing(request, name)
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(secret) for secret in account["imagePullSecrets"]]
    if _automounts(spec, account):
        _mount(parts, spec)


def _missing(request: Request, account: str) -> errors.Forbidden:
    pod = objects.name(request.new)
    return errors.Forbidden(
        f'pods "{pod}" is forbidden: error looking up service account {request.namespace}/{account}: '
        f'serviceaccount "{account}" not found',
        details={"name": pod, "kind": "pods"},
    )


def _automounts(spec: Object, account: Object) -> bool:
    for holder in (spec, account):
        automounts = holder.get("automountServiceAccountToken")
        if automounts is not None:
            return bool(automounts)
    return True


def _mount(parts: Parts, spec: Any) -> None:
    """Mount the volume in each container that has nothing at the path yet."""
    volumes = spec.setdefault("volumes", [])
    existing = next((v["name"] for v in volumes if v["name"].startswith(_VOLUME_PREFIX)), "")
    name = existing or _VOLUME_PREFIX + names.random_suffix(parts.rng, 5)
    mounted = False
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        mounts = container.setdefault("volumeMounts", [])
        if not any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
            mounts.append({"name": name, "readOnly": True, "mountPath": MOUNT_PATH})
            mounted = True
    if mounted and not existing:
        volumes.append(_volume(name))
    if not volumes:
        del spec["volumes"]


def _volume(name: str) -> Object:
    token = {"expirationSeconds": _EXPIRATION_S, "path": "token"}
    authority = {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": token},
        {"configMap": authority},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": _FILE_MODE}}
