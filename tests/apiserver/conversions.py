"""A kind in two versions and what converts it: `spec.hostPort` in v1, `spec.host` and `spec.port` in v2."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import anyio
import msgspec

from ondol.api.objects import Object
from ondol.apiserver.ports import HttpsTarget

CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CRD: Final = f"{CRDS}/routes.example.org"
V1: Final = "/apis/example.org/v1/namespaces/default/routes"
V2: Final = "/apis/example.org/v2/namespaces/default/routes"
_TEXT: Final = {"type": "string"}


def _version(name: str, spec: Object, **fields: Any) -> Object:
    properties = {
        "spec": {"type": "object", "properties": {**spec, "size": {"type": "integer"}}},
        "status": {"type": "object", "properties": {"size": {"type": "integer"}, "phase": _TEXT}},
    }
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    return {
        "name": name,
        "served": True,
        "storage": False,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
        "subresources": {"status": {}, "scale": scale},
        **fields,
    }


def definition(storage: str = "v1", **webhook: Any) -> Object:
    """Of routes, stored in v1 unless it is said otherwise."""
    first = _version("v1", {"hostPort": _TEXT, "zone": _TEXT, "note": {"type": "string", "default": "of v1"}})
    second = _version(
        "v2",
        {
            "host": _TEXT,
            "port": _TEXT,
            "note": _TEXT,
            "only": _TEXT,
            "zone": {"type": "string", "default": "of v2"},
        },
        additionalPrinterColumns=[{"name": "Host", "type": "string", "jsonPath": ".spec.host"}],
        selectableFields=[{"jsonPath": ".spec.host"}],
    )
    versions = [{**version, "storage": version["name"] == storage} for version in (first, second)]
    called = {
        "conversionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://hooks.test/convert"},
        **webhook,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "routes.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"plural": "routes", "singular": "route", "kind": "Route", "listKind": "RouteList"},
            "versions": versions,
            "conversion": {"strategy": "Webhook", "webhook": called},
        },
    }


def route(name: str, host: str = "a.test", **metadata: Any) -> Object:
    """In v1."""
    return {
        "apiVersion": "example.org/v1",
        "kind": "Route",
        "metadata": {"name": name, **metadata},
        "spec": {"hostPort": f"{host}:80"},
    }


def route_v2(name: str, host: str = "a.test", **metadata: Any) -> Object:
    return {
        "apiVersion": "example.org/v2",
        "kind": "Route",
        "metadata": {"name": name, **metadata},
        "spec": {"host": host, "port": "80"},
    }


def _converted(obj: Object, desired: str) -> Object:
    spec = dict(obj.get("spec") or {})
    if desired.endswith("/v2") and "hostPort" in spec:
        spec["host"], _, spec["port"] = spec.pop("hostPort").partition(":")
    elif desired.endswith("/v1") and "host" in spec:
        spec["hostPort"] = f"{spec.pop('host')}:{spec.pop('port')}"
    return {**obj, "apiVersion": desired, "spec": spec}


class Hook:
    """Converts, as a `Poster`. What it answers may be changed on its way by `spoil`."""

    def __init__(self) -> None:
        self.calls: list[Object] = []
        self.targets: list[HttpsTarget] = []
        self.spoil: Callable[[Object], Any] = lambda review: review
        self.status = 200
        self.waits: anyio.Event | None = None
        """What it waits for before it answers."""
        self.failure: OSError | None = None
        self.patch: list[Object] = []
        """What it does to objects as an admission webhook; `admitted` are those it was shown."""
        self.admitted: list[Object] = []

    @property
    def asked(self) -> list[tuple[str, list[str]]]:
        """Of each call the version asked for, and the names of the objects."""
        return [
            (
                call["request"]["desiredAPIVersion"].rpartition("/")[2],
                [obj["metadata"].get("name", "") for obj in call["request"]["objects"]],
            )
            for call in self.calls
        ]

    async def post(self, target: HttpsTarget, body: bytes) -> tuple[int, bytes]:
        review = msgspec.json.decode(body)
        if review["kind"] == "AdmissionReview":
            return 200, msgspec.json.encode(self._admit(review))
        self.calls.append(review)
        self.targets.append(target)
        if self.waits is not None:
            await self.waits.wait()
        if self.failure is not None:
            raise self.failure
        request = review["request"]
        response = {
            "uid": request["uid"],
            "result": {"status": "Success"},
            "convertedObjects": [_converted(o, request["desiredAPIVersion"]) for o in request["objects"]],
        }
        answer = {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}
        spoilt = self.spoil(answer)
        return self.status, spoilt if isinstance(spoilt, bytes) else msgspec.json.encode(spoilt)

    def _admit(self, review: Object) -> Object:
        self.admitted.append(review["request"]["object"])
        patch = base64.b64encode(msgspec.json.encode(self.patch)).decode()
        response = {
            "uid": review["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": patch,
        }
        return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}
