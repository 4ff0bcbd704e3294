"""What a SinkBinding does to its subjects: variables in the environment of containers, and folders of theirs.

Subjects that are there are patched. New ones of Kubernetes' own kinds get the same when they are created, by
a MutatingAdmissionPolicy: the template of a Job can never be changed. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ondol.api import labels, objects, resources
from ondol.api.objects import Object, Resource
from ondol.eventing.destinations import Address
from ondol.eventing.sources import overrides, wellknown

Document: TypeAlias = Mapping[str, Any]
Variables: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Outfit:
    """What pods get: variables, and what is in folders of theirs.

    That is the Secret with a token where their sink asks for one, and the ConfigMap with the certificates of
    bundles of trust where there are any.
    """

    variables: Variables = field(default_factory=dict)
    token_secret: str = ""
    trust_map: str = ""

    @property
    def volumes(self) -> Mapping[str, Object]:
        """By their names, what is in them."""
        projected: dict[str, Object] = {}
        if self.token_secret:
            projected[TOKEN_VOLUME] = {"secret": {"name": self.token_secret}}
        if self.trust_map:
            projected[TRUST_VOLUME] = {"configMap": {"name": self.trust_map}}
        return projected


NOTHING: Final = Outfit()
WORKLOADS: Final = (
    resources.DEPLOYMENT,
    resources.STATEFUL_SET,
    resources.DAEMON_SET,
    resources.REPLICA_SET,
    resources.JOB,
)
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "ondol-sinkbinding"
DIGEST: Final = "eventing.ondol.dev/digest"
"""Annotation of a policy: what it was made of, since the server fills in the rest."""
_LISTS: Final = ("initContainers", "containers")
_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
_TYPE: Final = "Object.spec.template.spec"
TOKEN_VOLUME: Final = "oidc-token"  # noqa: S105 - a name
TOKEN_FOLDER: Final = "/oidc"  # noqa: S105 - a folder
"""Where containers find the token, in a file `token`: as in Knative."""
TRUST_VOLUME: Final = "kne-bundle-volume"
TRUST_FOLDER: Final = "/knative-custom-certs"
"""Where containers find the certificates of bundles of trust: as in Knative."""
_FOLDERS: Final = {TOKEN_VOLUME: TOKEN_FOLDER, TRUST_VOLUME: TRUST_FOLDER}
_SOURCES: Final = ("secret", "configMap")


def outfit(binding: Document, sink: Address, token_secret: str = "", trust_map: str = "") -> Outfit:
    """What the pods of a binding's subject get."""
    environment = {wellknown.SINK_VARIABLE: sink.url}
    if sink.ca_certs:
        environment[wellknown.CERTIFICATES_VARIABLE] = sink.ca_certs
    environment[wellknown.OVERRIDES_VARIABLE] = overrides.as_variable(objects.spec(binding))
    return Outfit(environment, token_secret, trust_map)


def is_subject(binding: Document, obj: Document) -> bool:
    """Whether the binding means this object, which is of its subject's kind."""
    subject = objects.spec(binding).get("subject") or {}
    if objects.namespace(obj) != objects.namespace(binding):
        return False
    if subject.get("name"):
        return bool(subject["name"] == objects.name(obj))
    return labels.from_document(subject.get("selector")).matches(objects.labels(obj))


def change(obj: Document, desired: Outfit) -> Object | None:
    """The merge patch that makes all containers so; None if they are.

    With `NOTHING` it takes away what they have. The patch is for exactly the version that was looked at.
    """
    spec = ((objects.spec(obj).get("template") or {}).get("spec")) or {}
    lists: dict[str, list[Object] | None] = {}
    for listed in _LISTS:
        containers = spec.get(listed) or []
        changed = [_container(container, desired) for container in containers]
        if changed != list(containers):
            lists[listed] = changed
    volumes = list(spec.get("volumes") or [])
    changed_volumes = _volumes(volumes, desired.volumes)
    if changed_volumes != volumes:
        lists["volumes"] = changed_volumes or None
    if not lists:
        return None
    metadata = {"uid": objects.uid(obj), "resourceVersion": objects.resource_version(obj)}
    return {"metadata": metadata, "spec": {"template": {"spec": lists}}}


def _container(container: Document, desired: Outfit) -> Object:
    """The container with these variables at the end of its environment, and no others of ours."""
    container = _with_mounts(container, desired.volumes)
    environment = list(container.get("env") or [])
    entries = [{"name": name, "value": value} for name, value in desired.variables.items()]
    own = [each for each in environment if each.get("name") in wellknown.VARIABLES]
    if [_plain(each) for each in own] == [_plain(each) for each in entries]:
        return dict(container)
    others = [each for each in environment if each.get("name") not in wellknown.VARIABLES]
    return _with_list(container, "env", [*others, *entries])


def _with_mounts(container: Document, volumes: Mapping[str, Object]) -> Object:
    """The container with the folders of these volumes, and of no others of ours."""
    mounts = list(container.get("volumeMounts") or [])
    own = [each.get("name") for each in mounts if each.get("name") in _FOLDERS]
    if own == list(volumes):
        return dict(container)
    others = [each for each in mounts if each.get("name") not in _FOLDERS]
    return _with_list(container, "volumeMounts", [*others, *map(_mount, volumes)])


def _mount(volume: str) -> Object:
    return {"name": volume, "mountPath": _FOLDERS[volume], "readOnly": True}


def _with_list(container: Document, field_name: str, entries: list[Object]) -> Object:
    """The container with a list, which is left out if it is empty."""
    rest = {key: value for key, value in container.items() if key != field_name}
    return {**rest, field_name: entries} if entries else rest


def _volumes(volumes: Sequence[Document], desired: Mapping[str, Object]) -> list[Object]:
    """The volumes with these at their end, and no others of ours."""
    own = [(each.get("name"), _source(each)) for each in volumes if each.get("name") in _FOLDERS]
    if own == list(desired.items()):
        return [dict(each) for each in volumes]
    others = [dict(each) for each in volumes if each.get("name") not in _FOLDERS]
    return [*others, *(_volume(name, source) for name, source in desired.items())]


def _volume(name: str, source: Object) -> Object:
    return {"name": name, "projected": {"sources": [source]}}


def _source(volume: Document) -> Object | None:
    """What is in a volume of ours, without what the server fills in."""
    sources = (volume.get("projected") or {}).get("sources") or [{}]
    for kind in _SOURCES:
        if inside := sources[0].get(kind):
            return {kind: {"name": inside.get("name")}}
    return None


def _plain(entry: Document) -> tuple[Any, Any]:
    """A variable as the server keeps it: a value of nothing is left out."""
    return entry.get("name"), entry.get("value") or ""


def has_policy(resource: Resource) -> bool:
    """Whether new subjects of this kind get the variables when they are created."""
    return any(resource.group_resource == each.group_resource for each in WORKLOADS)


def policy_name(binding: Document) -> str:
    return f"sinkbinding-{objects.uid(binding)}"


def policy(binding: Document, resource: Resource, desired: Outfit) -> Object:
    """The policy for subjects that are created from now on."""
    subject = objects.spec(binding).get("subject") or {}
    constraints: Object = {
        "resourceRules": [
            {
                "apiGroups": [resource.group],
                "apiVersions": ["*"],
                "operations": ["CREATE"],
                "resources": [resource.plural],
            }
        ],
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: objects.namespace(binding)}},
    }
    conditions: list[Object] = []
    if subject.get("name"):
        expression = f"has(object.metadata.name) && object.metadata.name == {_cel(subject['name'])}"
        conditions = [{"name": "subject", "expression": expression}]
    else:
        constraints["objectSelector"] = subject.get("selector") or {}
    mutations: list[Object] = []
    for name, source in desired.volumes.items():  # first: what containers mount must be there
        patch = {"expression": _volume_patch(name, source)}
        mutations.append({"patchType": "JSONPatch", "jsonPatch": patch})
    for listed in _LISTS:
        configuration = {"expression": _configuration(desired, listed)}
        mutations.append({"patchType": "ApplyConfiguration", "applyConfiguration": configuration})
    spec: Object = {
        "failurePolicy": "Ignore",
        "reinvocationPolicy": "Never",
        "matchConstraints": constraints,
        "mutations": mutations,
    }
    if conditions:
        spec["matchConditions"] = conditions
    return _cluster_object(resources.MUTATING_ADMISSION_POLICY, binding, spec)


def policy_binding(binding: Document) -> Object:
    """What puts the policy in force."""
    spec = {"policyName": policy_name(binding)}
    return _cluster_object(resources.MUTATING_ADMISSION_POLICY_BINDING, binding, spec)


def _cluster_object(resource: Resource, binding: Document, spec: Object) -> Object:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": policy_name(binding),
            "labels": {MANAGED_BY: MANAGER},
            "annotations": {
                "sources.knative.dev/sinkbinding": str(objects.key(binding)),
                DIGEST: hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest(),
            },
        },
        "spec": spec,
    }


def _configuration(desired: Outfit, field: str) -> str:
    """In CEL: the containers of one list, each with the variables, which are merged by their names."""
    entries = ", ".join(
        f"{_TYPE}.{field}.env{{name: {_cel(name)}, value: {_cel(value)}}}"
        for name, value in desired.variables.items()
    )
    mount_type = f"{_TYPE}.{field}.volumeMounts"
    listed = ", ".join(
        f"{mount_type}{{name: {_cel(name)}, mountPath: {_cel(_FOLDERS[name])}, readOnly: true}}"
        for name in desired.volumes
    )
    mounts = f", volumeMounts: [{listed}]" if listed else ""
    path = f"object.spec.template.spec.{field}"
    containers = f"{path}.map(c, {_TYPE}.{field}{{name: c.name, env: [{entries}]{mounts}}})"
    return f"has({path}) ? {_object(f'{field}: {containers}')} : Object{{}}"


def _volume_patch(name: str, source: Object) -> str:
    """In CEL: a volume of ours, as a JSON patch, for lists of sources are not merged."""
    projected = f"{_TYPE}.volumes.projected"
    [(kind, inside)] = source.items()
    reference = f"{projected}.sources.{kind}{{name: {_cel(inside['name'])}}}"
    sources = f"[{projected}.sources{{{kind}: {reference}}}]"
    volume = f"{_TYPE}.volumes{{name: {_cel(name)}, projected: {projected}{{sources: {sources}}}}}"
    path = "object.spec.template.spec.volumes"
    place = '"/spec/template/spec/volumes'
    first = f'JSONPatch{{op: "add", path: {place}", value: [{volume}]}}'
    another = f'JSONPatch{{op: "add", path: {place}/-", value: {volume}}}'
    is_there = f"{path}.exists(v, v.name == {_cel(name)})"
    return f"!has({path}) ? [{first}] : ({is_there} ? [] : [{another}])"


def _object(spec: str) -> str:
    """An object whose pods' specification is so."""
    return f"Object{{spec: Object.spec{{template: Object.spec.template{{spec: {_TYPE}{{{spec}}}}}}}}}"


def _cel(text: str) -> str:
    """A string literal of CEL, which knows JSON's escapes."""
    return json.dumps(text)


def missing_subject(resource: Resource, names: Sequence[str]) -> str:
    """The message for a subject that is not there."""
    return f'{resource.group_resource} "{", ".join(names)}" not found'
