"""Objects as documents, and the few accessors everyone needs.

An object is its JSON document (`Object`, a plain dict): unknown fields survive by construction.
Documents handed out by caches are shared: treat them as read-only, `copy.deepcopy` (or build a
patch) before changing one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Object: TypeAlias = dict[str, Any]
"""A JSON document of one API object."""


class Key(NamedTuple):
    """Namespace and name; cluster-scoped objects have the empty namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Resource:
    """What a client needs to know to address a kind: where it is served and how it is scoped."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`v1` for the core group, `group/version` otherwise."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`pods`, `deployments.apps`: how error messages name the resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, the object or its subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}{scope}/{self.plural}{tail}"


def metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    section: Mapping[str, Any] = obj.get("metadata") or {}
    return section


def name(obj: Mapping[str, Any]) -> str:
    return str(metadata(obj).get("name") or "")


def namespace(obj: Mapping[str, Any]) -> str:
    return str(metadata(obj).get("namespace") or "")


def uid(obj: Mapping[str, Any]) -> str:
    return str(metadata(obj).get("uid") or "")


def key(obj: Mapping[str, Any]) -> Key:
    return Key(namespace(obj), name(obj))


def resource_version(obj: Mapping[str, Any]) -> str:
    return str(metadata(obj).get("resourceVersion") or "")


def generation(obj: Mapping[str, Any]) -> int:
    return int(metadata(obj).get("generation") or 0)


def labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    pairs: Mapping[str, str] = metadata(obj).get("labels") or {}
    return pairs


def annotations(obj: Mapping[str, Any]) -> Mapping[str, str]:
    pairs: Mapping[str, str] = metadata(obj).get("annotations") or {}
    return pairs


def finalizers(obj: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(metadata(obj).get("finalizers") or ())


def is_deleting(obj: Mapping[str, Any]) -> bool:
    return bool(metadata(obj).get("deletionTimestamp"))


def spec(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    section: Mapping[str, Any] = obj.get("spec") or {}
    return section


def status(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    section: Mapping[str, Any] = obj.get("status") or {}
    return section


def owner_references(obj: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from metadata(obj).get("ownerReferences") or ()


def controller_of(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference marked `controller: true`, if any."""
    return next((ref for ref in owner_references(obj) if ref.get("controller")), None)


def is_controlled_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    ref = controller_of(obj)
    return ref is not None and ref.get("uid") == uid(owner)


def controller_reference(owner: Mapping[str, Any]) -> Object:
    """The owner reference that makes `owner` the controller of a child."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }
