"""Objects to build worlds from, and a real Envoy with pods of its own for tests marked `root`."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.mesh.live import live, servers  # noqa: F401 - fixtures, for every test that names them

from ondol.api.objects import Object
from ondol.contracts import mesh
from ondol.mesh import addresses
from ondol.mesh.config import MeshConfig
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Kinds
from ondol.mesh.model.validation import Subject
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation, World

ROOTS = frozenset({"istio-system", "ondol-system"})
_SERIAL = itertools.count(1)


class Objects:
    """Collects documents as a user would write them and reads them as the controller does."""

    def __init__(self, kinds: Kinds = KINDS) -> None:
        self.kinds = kinds
        self.objects: dict[str, dict[tuple[str, str], Object]] = {}
        for name in ("default", "other"):
            self.put("Namespace", name, "", {})

    def put(self, kind: str, name: str, namespace: str, spec: Mapping[str, Any], **more: Any) -> Object:
        serial = next(_SERIAL)
        before = self.objects.setdefault(kind, {}).get((namespace, name))
        meta = {
            "name": name,
            "namespace": namespace,
            "uid": before["metadata"]["uid"] if before else str(uuid.uuid4()),
            "generation": serial,
            "resourceVersion": str(serial),
            "creationTimestamp": before["metadata"]["creationTimestamp"] if before else _time(serial),
            "labels": more.pop("labels", {}),
        }
        obj = {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": dict(spec), **more}
        self.objects[kind][namespace, name] = obj
        return obj

    def drop(self, kind: str, name: str, namespace: str = "default") -> None:
        del self.objects[kind][namespace, name]

    def service(
        self,
        name: str,
        *ports: tuple[str, int],
        namespace: str = "default",
        ip: str = "",
        endpoints: Sequence[tuple[str, int]] = (),
        pods: Sequence[str] = (),
    ) -> None:
        """A service with its slice; `pods` names the pod behind each endpoint."""
        named = ports or (("http", 80),)
        spec = {
            "clusterIP": ip or f"10.101.0.{next(_SERIAL) % 250 + 1}",
            "ports": [{"name": port, "port": number} for port, number in named],
        }
        self.put("Service", name, namespace, spec)
        self.endpoints(name, *endpoints, namespace=namespace, pods=pods, ports=[port for port, _ in named])

    def endpoints(
        self,
        name: str,
        *addresses: tuple[str, int],
        namespace: str = "default",
        pods: Sequence[str] = (),
        ports: Sequence[str] = ("http",),
    ) -> None:
        """One slice for each distinct port number, as Kubernetes makes them."""
        for owner, slice_name in list(self.objects.get("EndpointSlice", {})):
            if owner == namespace and slice_name.startswith(f"{name}-s"):
                self.drop("EndpointSlice", slice_name, namespace)
        for number in sorted({port for _, port in addresses}):
            members = []
            for index, (address, port) in enumerate(addresses):
                if port == number:
                    entry: dict[str, Any] = {"addresses": [address], "conditions": {"ready": True}}
                    if index < len(pods):
                        entry["targetRef"] = {"kind": "Pod", "name": pods[index], "namespace": namespace}
                    members.append(entry)
            self.put(
                "EndpointSlice",
                f"{name}-s{number}",
                namespace,
                {},
                labels={"kubernetes.io/service-name": name},
                addressType="IPv4",
                endpoints=members,
                ports=[{"name": port, "port": number, "protocol": "TCP"} for port in ports],
            )

    def pod(self, name: str, namespace: str = "default", **labels: str) -> Object:
        ready = [{"type": mesh.SANDBOX_READY, "status": "True"}]
        status = {"phase": "Running", "conditions": ready}
        return self.put("Pod", name, namespace, {}, labels={"app": name} | labels, status=status)

    def virtual_service(self, name: str, spec: Mapping[str, Any], namespace: str = "default") -> Object:
        return self.put("VirtualService", name, namespace, spec)

    def destination_rule(self, name: str, spec: Mapping[str, Any], namespace: str = "default") -> Object:
        return self.put("DestinationRule", name, namespace, spec)

    def service_entry(
        self, name: str, spec: Mapping[str, Any], namespace: str = "default", **labels: str
    ) -> Object:
        return self.put("ServiceEntry", name, namespace, spec, labels=labels)

    def gateway(self, name: str = "ingress", namespace: str = "ondol-system", **more: Any) -> Object:
        server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]} | more
        return self.put(
            "Gateway", name, namespace, {"selector": {"istio": "ingressgateway"}, "servers": [server]}
        )

    def of(self, kind: str) -> list[Object]:
        return list(self.objects.get(kind, {}).values())

    def world(self) -> World:
        rules: dict[str, list[Any]] = {}
        for name, kind in self.kinds.items():
            rules[name] = [kind.rule(obj) for obj in self.of(name)]
            for rule in rules[name]:
                kind.check(rule.spec, Subject(rule.namespace, rule.origin.name, roots=ROOTS))
        return World(
            namespaces=self.of("Namespace"),
            pods=self.of("Pod"),
            services=self.of("Service"),
            endpoint_slices=self.of("EndpointSlice"),
            rules=rules,
            nodes=self.of("Node"),
            addresses=addresses.allocated(self.of("ServiceEntry")),
        )


def _time(second: int) -> str:
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=second)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def objs() -> Objects:
    return Objects()


@pytest.fixture(scope="session")
def new_objects() -> Callable[[], Objects]:
    """For tests that need a world for each of many examples."""
    return Objects


@pytest.fixture
def mesh_config(tmp_path: Path) -> MeshConfig:
    return MeshConfig(
        netns_dir=Path("/run/netns"),
        xds_address=f"unix:{tmp_path}/xds.sock",
        admin_address=f"unix:{tmp_path}/admin.sock",
        bootstrap_file=tmp_path / "envoy.json",
    )


@pytest.fixture
def translate(mesh_config: MeshConfig) -> Callable[[Objects], Translation]:
    """Translates with one translator, so that later calls meet what earlier ones remembered."""
    translator = Translator(mesh_config)
    return lambda documents: translator.translate(documents.world())
