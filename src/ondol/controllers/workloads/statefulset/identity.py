"""Who a StatefulSet's pods are: their ordinals, names, labels, host names and claims. Pure.

A pod keeps its identity through every replacement: `web-0` is followed by another `web-0` with the same host
name and the same claims.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.controllers.workloads.history import REVISION_LABEL
from ondol.controllers.workloads.podcontrol import pod_from_template

POD_NAME: Final = "statefulset.kubernetes.io/pod-name"
POD_INDEX: Final = "apps.kubernetes.io/pod-index"
_MEMBER: Final = re.compile(r"(.*)-([0-9]+)", re.DOTALL)
_ORDINAL_MAX: Final = 2**31 - 1


def replicas(stateful_set: Mapping[str, Any]) -> int:
    count = objects.spec(stateful_set).get("replicas")
    return 1 if count is None else int(count)


def ordinals(stateful_set: Mapping[str, Any]) -> range:
    """Those of the pods there should be, from `spec.ordinals.start` on."""
    start = int((objects.spec(stateful_set).get("ordinals") or {}).get("start") or 0)
    return range(start, start + replicas(stateful_set))


def ordinal(pod: Mapping[str, Any]) -> int:
    """The number at the end of the pod's name; -1 where there is none."""
    match = _MEMBER.fullmatch(objects.name(pod))
    number = int(match[2]) if match else -1
    return number if number <= _ORDINAL_MAX else -1


def is_member(stateful_set: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the pod has a name of the set's: others are not adopted, whatever their labels."""
    match = _MEMBER.fullmatch(objects.name(pod))
    return match is not None and match[1] == objects.name(stateful_set)


def pod_name(stateful_set: Mapping[str, Any], number: int) -> str:
    return f"{objects.name(stateful_set)}-{number}"


def claim_name(stateful_set: Mapping[str, Any], template: Mapping[str, Any], number: int) -> str:
    return f"{objects.name(template)}-{objects.name(stateful_set)}-{number}"


def claim_templates(stateful_set: Mapping[str, Any]) -> list[Object]:
    return list(objects.spec(stateful_set).get("volumeClaimTemplates") or ())


def claims(stateful_set: Mapping[str, Any], number: int) -> list[Object]:
    """The claims of one pod as they are created: of the templates, with the labels of the set's selector."""
    selected = (objects.spec(stateful_set).get("selector") or {}).get("matchLabels") or {}
    documents = []
    for template in claim_templates(stateful_set):
        claim: Object = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": copy.deepcopy(dict(objects.metadata(template))),
            "spec": copy.deepcopy(dict(objects.spec(template))),
        }
        claim["metadata"] |= {
            "name": claim_name(stateful_set, template, number),
            "namespace": objects.namespace(stateful_set),
            "labels": {**objects.labels(template), **selected},
        }
        documents.append(claim)
    return documents


def volumes(stateful_set: Mapping[str, Any], number: int, others: Any) -> list[Object]:
    """The volumes of one pod: its claims under their templates' names, then what else it has."""
    own = {
        objects.name(each): {
            "name": objects.name(each),
            "persistentVolumeClaim": {"claimName": claim_name(stateful_set, each, number)},
        }
        for each in claim_templates(stateful_set)
    }
    return [*own.values(), *(volume for volume in others or () if volume.get("name") not in own)]


def pod(stateful_set: Object, template: Mapping[str, Any], revision: str, number: int) -> Object:
    """A new pod of the template, which is that of the revision of this name."""
    name = pod_name(stateful_set, number)
    document = pod_from_template(
        stateful_set,
        template,
        name=name,
        labels={**_labels(name, number), REVISION_LABEL: revision},
    )
    spec = document["spec"]
    spec["hostname"] = name
    spec.pop("subdomain", None)
    if service := objects.spec(stateful_set).get("serviceName"):
        spec["subdomain"] = service
    if listed := volumes(stateful_set, number, spec.get("volumes")):
        spec["volumes"] = listed
    return document


def _labels(name: str, number: int) -> dict[str, str]:
    return {POD_NAME: name, POD_INDEX: str(number)}


def revision(pod: Mapping[str, Any]) -> str:
    """The name of the revision the pod was made from; empty where it does not say."""
    return objects.labels(pod).get(REVISION_LABEL, "")


def correction(stateful_set: Mapping[str, Any], pod: Mapping[str, Any]) -> Object:
    """The patch that gives a pod (an adopted one, say) its identity; empty when it has it.

    Volumes of a pod cannot change: the server refuses that part, and its words are told in an event.
    """
    number = ordinal(pod)
    patch: Object = {}
    if objects.labels(pod).get(POD_NAME) != objects.name(pod):
        patch["metadata"] = {"labels": _labels(objects.name(pod), number)}
    if not _has_claims(stateful_set, pod, number):
        patch["spec"] = {"volumes": volumes(stateful_set, number, objects.spec(pod).get("volumes"))}
    return patch


def _has_claims(stateful_set: Mapping[str, Any], pod: Mapping[str, Any], number: int) -> bool:
    mounted = {
        volume.get("name"): (volume.get("persistentVolumeClaim") or {}).get("claimName")
        for volume in objects.spec(pod).get("volumes") or ()
    }
    return all(
        mounted.get(objects.name(template)) == claim_name(stateful_set, template, number)
        for template in claim_templates(stateful_set)
    )
