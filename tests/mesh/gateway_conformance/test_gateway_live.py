"""The same tables with a real Envoy, an API server, and backends that say what arrived."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import ssl
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.certificates import certify
from tests.mesh import live as mesh_live
from tests.mesh.gateway_conformance import tables
from tests.mesh.gateway_conformance.tables import Case
from tests.mesh.live import Live, live, servers

from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.client import PatchType
from ondol.contracts import mesh as mesh_contract
from ondol.mesh.gateway_api import names

__all__ = ["live", "servers"]

pytestmark = mesh_live.MARKS

SCRIPT = str(Path(__file__).with_name("backends.py"))
KINDS = {
    each.kind: each for each in (names.GATEWAY, names.LISTENER_SET, *names.ROUTES, names.REFERENCE_GRANT)
}
FIRST_PORT = 9301
PATIENCE_S = 8.0


class Connection(http.client.HTTPConnection):
    """Over TLS that asks for a name, whoever answers; without a name over none."""

    def __init__(self, address: str, port: int, name: str) -> None:
        super().__init__(address, port, timeout=10)
        self._name = name

    def connect(self) -> None:
        super().connect()
        if self._name:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=self._name)


class Stage:
    """The base of the tables, up and running; cases come and go."""

    def __init__(self, live: Live, folder: Path) -> None:
        self.live = live
        self.client = live.client
        self.log = folder / "requests.log"
        self.addresses: dict[str, str] = {}
        """Of Services, by `namespace/name`."""
        self._pods: dict[str, str] = {}
        self._secrets: set[str] = set()
        self.ports = {
            f"{service['name']}:{port[1]}": FIRST_PORT + 10 * index + number
            for index, service in enumerate(tables.BASE["services"])
            for number, port in enumerate(service["ports"])
        }

    @contextlib.contextmanager
    def backends(self) -> Iterator[None]:
        listed = [
            f"{'h2:' if place.endswith(':8081') else ''}{place.partition(':')[0]}={port}"
            for place, port in self.ports.items()
        ]
        command = ["ip", "netns", "exec", self.live.servers.name, sys.executable, SCRIPT]
        process = subprocess.Popen(
            [*command, self.live.servers.address, str(self.log), *listed], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        try:
            yield
        finally:
            process.kill()
            process.communicate()

    async def set_up(self) -> None:
        for name, labels in tables.BASE["namespaces"].items():
            metadata = {"name": name, "labels": labels}
            document = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
            await self.client.create(resources.NAMESPACE, document)
        for number, service in enumerate(tables.BASE["services"]):
            of, slice_ = tables.service_objects(number, service)
            namespace = objects.namespace(of)
            for each in (of, slice_):
                del each["metadata"]["resourceVersion"]
            del of["spec"]["clusterIP"]
            written = await self.client.create(resources.SERVICE, of, namespace)
            self.addresses[service["name"]] = objects.spec(written)["clusterIP"]
            for port, (_, number_, _) in zip(slice_["ports"], service["ports"], strict=True):
                port["port"] = self.ports[f"{service['name']}:{number_}"]
            for endpoint in slice_["endpoints"]:
                endpoint["addresses"] = [self.live.servers.address]
            await self.client.create(resources.ENDPOINT_SLICE, slice_, namespace)

    async def caller(self, namespace: str) -> str:
        """A pod of the namespace that calls."""
        if namespace not in self._pods:
            name = f"caller-{namespace}"
            metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
            spec = {"nodeName": "here", "containers": [{"name": "main", "image": "none"}]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            written = await self.client.create(resources.POD, pod, namespace)
            self.live.pods[name] = objects.uid(written)
            self.live.make_namespace(name)
            ready = conditions.set((), mesh_contract.SANDBOX_READY, "True", now=time.time())
            status = {"status": {"phase": "Pending", "conditions": ready}}
            await self.client.patch(
                resources.POD,
                name,
                namespace,
                patch=status,
                patch_type=PatchType.STRATEGIC,
                subresource="status",
            )
            self._pods[namespace] = name
        return self._pods[namespace]

    async def hold(self, name: str) -> None:
        """A Secret with a certificate that signs itself."""
        if name in self._secrets:
            return
        self._secrets.add(name)
        namespace, _, plain = name.partition("/")
        trusted = certify(self.log.parent, "a.example")
        both = (self.log.parent / "both.pem").read_bytes()
        data = {"tls.crt": trusted, "tls.key": both[both.index(b"-----BEGIN PRIVATE") :]}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": plain},
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }
        await self.client.create(resources.SECRET, secret, namespace)

    async def apply(self, case: Case) -> list[tuple[Any, Key]]:
        """The case's objects, the oldest first, as far as the API's clock can tell them apart."""
        for name in case.document.get("secrets") or ():
            await self.hold(name)
        listed = [each for kind in KINDS for each in case.objects().get(kind, ())]
        ages = sorted(
            {objects.metadata(each)["creationTimestamp"] for each in listed if "Route" in each["kind"]}
        )
        applied = []
        for age in ages or [""]:
            if age != (ages or [""])[0]:
                await asyncio.sleep(1.1)
            for each in listed:
                created = objects.metadata(each)["creationTimestamp"]
                if created == age or ("Route" not in each["kind"] and age == (ages or [""])[0]):
                    metadata = {"name": objects.name(each), "namespace": objects.namespace(each)}
                    document = {**each, "metadata": metadata}
                    await self.client.apply(KINDS[each["kind"]], document)
                    applied.append((KINDS[each["kind"]], objects.key(each)))
        return applied

    async def remove(self, applied: list[tuple[Any, Key]]) -> None:
        for resource, key in applied:
            with contextlib.suppress(errors.NotFound):
                await self.client.delete(resource, key.name, key.namespace)

    # Requests

    async def send(self, request: Mapping[str, Any], id_: str) -> dict[str, Any]:
        headers = {**(request.get("headers") or {}), "x-id": id_}
        if request.get("upgrade"):
            headers |= {"connection": "upgrade", "upgrade": "websocket"}
        if "from" not in request:
            return await anyio.to_thread.run_sync(self._outside, request, headers)
        pod = await self.caller(request["from"])
        host = request["host"]
        name = host[1:] if host.startswith("@") else _service(host, request["from"])
        call = {
            "address": self.addresses[name],
            "host": self.addresses[name] if host.startswith("@") else host,
            "port": request["port"],
            "path": request.get("path", "/"),
            "method": request.get("method", "GET"),
            "headers": headers,
        }
        answer = (await self.live.call(pod, call))[0]
        return {
            "status": answer["status"],
            "headers": {name.lower(): value for name, value in answer.get("headers", {}).items()},
            "body": answer.get("seen"),
        }

    def _outside(self, request: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        name = request.get("tls", request.get("stream", ""))
        port = request.get("port", 443 if "tls" in request else 80)
        config = self.live.config
        number = {80: config.ingress_port, 443: config.ingress_tls_port}.get(port, port)
        connection = Connection("127.0.0.1", number, name)
        all_headers = {"host": request.get("host", name or "anything.example"), **headers}
        try:
            connection.request(request.get("method", "GET"), request.get("path", "/"), headers=all_headers)
            response = connection.getresponse()
            body = response.read() if response.status != 101 else b""
        except (OSError, http.client.HTTPException):
            return {"status": 0, "headers": {}, "body": None}
        finally:
            connection.close()
        return {
            "status": response.status,
            "headers": {name.lower(): value for name, value in response.getheaders()},
            "body": json.loads(body) if body.startswith(b"{") else None,
        }

    async def check(self, request: Mapping[str, Any]) -> str:
        """What is otherwise than the table says, or nothing."""
        if "weights" in request:
            return await self._check_weights(request)
        id_ = uuid.uuid4().hex
        answer = await self.send(request, id_)
        if request.get("upgrade"):
            return "" if answer["status"] == 101 else f"no upgrade: {answer}"
        expected = request.get("status", 200)
        if answer["status"] != expected:
            return f"status {answer['status']}, not {expected}"
        if "location" in request and answer["headers"].get("location") != request["location"]:
            return f"location {answer['headers'].get('location')}"
        for name, value in (request.get("answer") or {}).items():
            if answer["headers"].get(name) != value:
                return f"answer's {name} is {answer['headers'].get(name)}"
        if "backend" in request and not request.get("h2"):
            return self._check_arrival(request, answer["body"] or {}, id_)
        return ""

    def _check_arrival(self, request: Mapping[str, Any], body: Mapping[str, Any], id_: str) -> str:
        if body.get("backend") != request["backend"]:
            return f"backend {body.get('backend')}"
        arrives = request.get("arrives") or {}
        if "path" in arrives and body["path"] != arrives["path"]:
            return f"path {body['path']}"
        if "host" in arrives and body["headers"]["host"] != arrives["host"]:
            return f"host {body['headers']['host']}"
        for name, value in (arrives.get("headers") or {}).items():
            if body["headers"].get(name) != value:
                return f"{name} arrives as {body['headers'].get(name)}"
        for mirror, share in (request.get("mirrors") or {}).items():
            time.sleep(0.2)
            if share == 100 and f"{mirror} {id_}\n" not in self.log.read_text():
                return f"no copy at {mirror}"
        return ""

    async def _check_weights(self, request: Mapping[str, Any]) -> str:
        count = 200
        if "from" in request:
            count = 60
        answers = [await self.send(request, uuid.uuid4().hex) for _ in range(count)]
        counted = Counter(
            "none" if each["status"] == 500 else str((each["body"] or {}).get("backend")) for each in answers
        )
        total = sum(request["weights"].values())
        for name, weight in request["weights"].items():
            if abs(counted[name] / count - weight / total) > 0.2:
                return f"shares {dict(counted)}"
        return "" if set(counted) <= set(request["weights"]) else f"shares {dict(counted)}"


def _service(host: str, namespace: str) -> str:
    parts = host.split(".")
    return f"{parts[1] if len(parts) > 1 else namespace}/{parts[0]}"


async def _eventually(stage: Stage, case: Case) -> list[str]:
    """The requests that do not become what the table says in time."""
    wrong = []
    for request in case.requests:
        if request.get("only") == "pure" or "chance" in request:
            continue
        ends = time.monotonic() + PATIENCE_S
        while True:
            problem = await stage.check(request)
            if not problem or time.monotonic() > ends:
                break
            await asyncio.sleep(0.1)
        if problem:
            wrong.append(f"{case.name}: {dict(request)}: {problem}")
    return wrong


async def _untold(stage: Stage, case: Case) -> list[str]:
    """The conditions of Routes that do not become what the table says in time."""
    wrong = []
    for name, parents in (case.document.get("status") or {}).items():
        kind = next(each.get("kind", "HTTPRoute") for each in case.document["routes"] if each["name"] == name)
        namespace, _, plain = name.partition("/")
        ends = time.monotonic() + PATIENCE_S
        while True:
            route = await stage.client.get(KINDS[kind], plain, namespace)
            problem = _difference(objects.status(route).get("parents") or (), parents)
            if not problem or time.monotonic() > ends:
                break
            await asyncio.sleep(0.1)
        if problem:
            wrong.append(f"{case.name}: {name}: {problem}")
    return wrong


def _difference(reported: Any, parents: Any) -> str:
    if len(reported) != len(parents):
        return f"{len(reported)} parents"
    for each, expected in zip(reported, parents, strict=True):
        by_type: dict[str, Object] = {c["type"]: c for c in each["conditions"]}
        for type_ in ("Accepted", "ResolvedRefs"):
            reason = str(expected.get(type_, ""))
            status = "False" if reason.startswith("-") else "True"
            if reason and (by_type[type_]["status"], by_type[type_]["reason"]) != (
                status,
                reason.lstrip("-"),
            ):
                return str(by_type[type_])
    return ""


@pytest.mark.parametrize("area", ["core", "extended", "grpc", "mesh", "tls"])
async def test_the_proxy_does_what_the_tables_say(area: str, live: Live, tmp_path: Path) -> None:
    """Every request of every case of an area, one case after the other, and what Routes are told."""
    stage = Stage(live, tmp_path)
    with stage.backends():
        await stage.set_up()
        for gateway in tables.BASE["gateways"]:
            document = tables.named("Gateway", gateway, gatewayClassName="ondol")
            document["metadata"] = {key: document["metadata"][key] for key in ("name", "namespace")}
            await stage.client.apply(names.GATEWAY, document)
        wrong = []
        for case in tables.cases(area):
            applied = [
                each for each in await stage.apply(case) if each[1].name not in ("same", "all", "back")
            ]
            wrong += await _eventually(stage, case)
            wrong += await _untold(stage, case)
            await stage.remove(applied)
        assert not wrong, "\n".join(wrong)
