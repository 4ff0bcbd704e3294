"""Whether the account of an ApiServerSource may see what it is to watch, and in which namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ondol.api import labels, objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.client import Client
from ondol.eventing import verdicts
from ondol.eventing.sources import wellknown
from ondol.eventing.sources.reconciler import Examination
from ondol.sdk import Controller, Informer, Manager

Document: TypeAlias = Mapping[str, Any]

_REVIEW: Final = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
_VERBS: Final = ("get", "list", "watch")
_AGAIN_S: Final = 30.0
"""Rights are granted by objects that are not watched here."""
_SIBILANTS: Final = ("s", "x", "ch", "sh")


def user(source: Document) -> str:
    """As whom the source looks."""
    account = objects.spec(source).get("serviceAccountName") or "default"
    return f"system:serviceaccount:{objects.namespace(source)}:{account}"


def is_everywhere(source: Document) -> bool:
    """Whether all namespaces are meant: the selector is there and says nothing."""
    selector = objects.spec(source).get("namespaceSelector")
    return selector is not None and labels.from_document(selector).is_everything


def namespaces(source: Document, every: Iterable[Document]) -> list[str]:
    """The namespaces that a source is about."""
    selector = objects.spec(source).get("namespaceSelector")
    if selector is None:
        return [objects.namespace(source)]
    chosen = labels.from_document(selector)
    return sorted(objects.name(each) for each in every if chosen.matches(objects.labels(each)))


async def resource_of(client: Client, kind: Document) -> Resource:
    """Where a kind is served; as its name is usually made, if it is not served yet."""
    version, name = str(kind.get("apiVersion") or ""), str(kind.get("kind") or "")
    try:
        return await client.resource_for(version, name)
    except errors.NotFound:
        group, _, number = version.rpartition("/")
        return Resource(group, number, _plural(name.lower()), name)


def _plural(word: str) -> str:
    if word.endswith(_SIBILANTS):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


class Permissions:
    """Examines ApiServerSources for their reconciler."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._namespaces = manager.informer(resources.NAMESPACE)

    def watch(self, controller: Controller, sources: Informer) -> None:
        """Reconcile the sources that choose namespaces by labels when a namespace changes."""

        def keys(_namespace: Object) -> list[Key]:
            listed = sources.lister.list()
            return [objects.key(s) for s in listed if objects.spec(s).get("namespaceSelector") is not None]

        controller.watch(self._namespaces, keys, predicate=_labels_changed)

    async def examine(self, source: Object) -> Examination:
        chosen = namespaces(source, self._namespaces.lister.list())
        fields = {"namespaces": chosen}
        if objects.annotations(source).get(wellknown.SKIP_PERMISSIONS) == "true":
            return Examination({wellknown.SUFFICIENT_PERMISSIONS: verdicts.OK}, fields)
        missing = await self._missing(source, [""] if is_everywhere(source) else chosen)
        if not missing:
            return Examination({wellknown.SUFFICIENT_PERMISSIONS: verdicts.OK}, fields)
        verdict = verdicts.failed("", f"User {user(source)} cannot {', '.join(missing)}")
        return Examination({wellknown.SUFFICIENT_PERMISSIONS: verdict}, fields, _AGAIN_S)

    async def _missing(self, source: Object, places: Sequence[str]) -> list[str]:
        """What the account may not do, in Knative's words."""
        missing = []
        for kind in objects.spec(source).get("resources") or ():
            resource = await resource_of(self._client, kind)
            for namespace in places if resource.namespaced else [""]:
                verbs = [v for v in _VERBS if not await self._may(user(source), v, resource, namespace)]
                if verbs:
                    missing.append(
                        f'{", ".join(verbs)} resource "{resource.plural}" in API group "{resource.group}" '
                        f'in Namespace "{namespace}"'
                    )
        return missing

    async def _may(self, who: str, verb: str, resource: Resource, namespace: str) -> bool:
        attributes = {
            "namespace": namespace,
            "verb": verb,
            "group": resource.group,
            "resource": resource.plural,
        }
        review = await self._client.create(_REVIEW, {"spec": {"user": who, "resourceAttributes": attributes}})
        return bool(objects.status(review).get("allowed"))


def _labels_changed(old: Object | None, new: Object | None) -> bool:
    return old is None or new is None or objects.labels(old) != objects.labels(new)
