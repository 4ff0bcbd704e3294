"""A node on this machine against an API server in this process, and an image made of its own programs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ondol import apiserver, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import clock, errors
from ondol.client import Client
from ondol.client.asgi import AsgiTransport, Identity
from ondol.node import agent
from ondol.node.config import NodeConfig, restart_backoff
from ondol.sdk import testing

PROGRAMS = ("sh", "sleep", "echo", "cat", "ls", "true", "false", "id", "touch", "date", "ln", "mkdir", "rm")
IMAGE = "ondol.test/tools:1"


class LayoutWriter:
    """Writes an OCI image layout, as a build would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        (self.root / "blobs" / "sha256" / digest).write_bytes(content)
        return f"sha256:{digest}"

    def image(self, name: str, layers: list[bytes], config: dict[str, Any] | None = None) -> str:
        def described(content: bytes, kind: str) -> dict[str, Any]:
            return {"mediaType": kind, "digest": self.blob(content), "size": len(content)}

        configuration = {"architecture": "amd64", "os": "linux", "config": config or {}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described(
                json.dumps(configuration).encode(), "application/vnd.oci.image.config.v1+json"
            ),
            "layers": [described(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers],
        }
        entry = described(json.dumps(manifest).encode(), manifest["mediaType"])  # type: ignore[arg-type]  # it is the string above
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
        index = self.root / "index.json"
        listed = json.loads(index.read_text())["manifests"] if index.exists() else []
        index.write_text(json.dumps({"schemaVersion": 2, "manifests": [*listed, entry]}))
        return str(entry["digest"])

    def forget(self, name: str) -> None:
        """Take a name away, as `ondol image rm` does; the blobs stay."""
        index = self.root / "index.json"
        listed = json.loads(index.read_text())["manifests"]
        rest = [e for e in listed if e["annotations"]["org.opencontainers.image.ref.name"] != name]
        index.write_text(json.dumps({"schemaVersion": 2, "manifests": rest}))


def layer(files: dict[str, bytes | Path], *, links: dict[str, str] | None = None) -> bytes:
    """A gzipped layer; files that stand for programs are executable."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            if isinstance(content, Path):
                archive.add(content.resolve(), name, recursive=False)
                continue
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if content.startswith(b"#!") else 0o644
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def tools_layer() -> bytes:
    """This machine's shell and a few programs with the libraries they need."""
    files: dict[str, bytes | Path] = {}
    for program in PROGRAMS:
        path = Path(shutil.which(program) or "")
        files[f"bin/{program}"] = path
        listed = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
        for word in listed.split():
            if word.startswith("/"):
                files[word.lstrip("/")] = Path(word)
    files["etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\napp:x:1234:1235::/:/bin/sh\n"
    files["etc/group"] = b"root:x:0:\napp:x:1235:\nextra:x:1300:app\n"
    return layer(files)


@pytest.fixture(scope="session")
def tools() -> bytes:
    return tools_layer()


@pytest.fixture
def layout(tmp_path: Path) -> Callable[[str], LayoutWriter]:
    return lambda name: LayoutWriter(tmp_path / name)


@dataclass
class NodeWorld:
    """The API, a client and a node that can be stopped and started like a process."""

    client: Client
    config: NodeConfig
    node_client: Client
    """The node's own, which may only do what nodes may."""
    clock: clock.Clock = field(default_factory=clock.SystemClock)

    @asynccontextmanager
    async def node(self) -> AsyncIterator[None]:
        async with agent.running(self.config, self.node_client, self.clock):
            yield

    def pod(self, name: str, script: str = "sleep 1000", **spec: Any) -> Object:
        container: Object = {"name": "main", "image": IMAGE, "command": ["/bin/sh", "-c", script]}
        container |= spec.pop("container", {})
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "default",
                "labels": {"istio.io/dataplane-mode": "none", **spec.pop("labels", {})},
            },
            "spec": {
                "nodeName": self.config.name,
                "containers": [container],
                "terminationGracePeriodSeconds": 1,
                **spec,
            },
        }

    async def create(self, pod: Object) -> Object:
        return await self.client.create(resources.POD, pod)

    async def get(self, name: str) -> Object:
        return await self.client.get(resources.POD, name, "default")

    async def until(self, name: str, holds: Callable[[Object], bool], timeout_s: float = 15) -> Object:
        """The pod once `holds` is true of it."""
        pod: Object = {}
        try:
            with anyio.fail_after(timeout_s):
                while True:
                    pod = await self.get(name)
                    if holds(pod):
                        return pod
                    await anyio.sleep(0.01)
        except TimeoutError:
            events = await self.client.list(resources.EVENT, "default")
            events_ = [(e["reason"], e["message"]) for e in events.items]
            raise AssertionError(f"not in time: {json.dumps(pod.get('status'))} {events_}") from None

    async def ready(self, name: str, timeout_s: float = 15) -> Object:
        return await self.until(name, lambda pod: conditions.is_true(pod, "Ready"), timeout_s)

    async def phase(self, name: str, phase: str, timeout_s: float = 15) -> Object:
        return await self.until(name, lambda pod: objects.status(pod).get("phase") == phase, timeout_s)

    async def until_deleted(self, name: str, timeout_s: float = 15) -> None:
        with anyio.fail_after(timeout_s):
            while True:
                try:
                    await self.get(name)
                except errors.NotFound:
                    return
                await anyio.sleep(0.01)

    async def absent(self, path: Path, timeout_s: float = 5) -> None:
        """Until the file system no longer has it."""
        with anyio.fail_after(timeout_s):
            while await anyio.Path(path).exists():  # noqa: ASYNC110 - a file tells nobody that it went
                await anyio.sleep(0.01)

    async def delete(self, name: str, grace_s: int | None = None) -> None:
        await self.client.delete(resources.POD, name, "default", grace_period_s=grace_s)
        await self.until_deleted(name)

    async def log(self, name: str, container: str = "main") -> str:
        pod = await self.get(name)
        folder = self.config.container_dir(objects.uid(pod), container)
        newest = max(folder.glob("*.log"), key=lambda path: int(path.stem))
        lines = [line.split(" ", 3) for line in newest.read_text().splitlines(keepends=True)]
        # A line that was written in parts is tagged so, and its parts are joined again.
        return "".join(text.removesuffix("\n") if tag == "P" else text for _, _, tag, text in lines)

    async def until_it_says(self, name: str, words: str, timeout_s: float = 15) -> None:
        """Until its log has the words.

        A process that is the first of its pod is ended by no signal for which it has set no trap yet.
        """
        with anyio.fail_after(timeout_s):
            while words not in await self.log(name):  # noqa: ASYNC110 - a file tells nobody
                await anyio.sleep(0.01)

    async def until_events(self, name: str, reasons: set[str], timeout_s: float = 10) -> None:
        """Until events with all these reasons are recorded."""
        with anyio.fail_after(timeout_s):
            while not reasons <= set(await self.events(name)):  # noqa: ASYNC110 - the API is asked again
                await anyio.sleep(0.02)

    async def events(self, name: str) -> list[str]:
        listed = await self.client.list(resources.EVENT, "default")
        return [e["reason"] for e in listed.items if e["involvedObject"]["name"] == name]


def _key() -> bytes:
    """What service account tokens are signed with."""
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _config(tmp_path: Path) -> NodeConfig:
    number = uuid.uuid4().int
    subnet = f"10.{200 + number % 40}.{number // 40 % 250}.0/24"
    return NodeConfig(
        instance=f"{number % 16**6:06x}",
        name="node-under-test",
        data_dir=tmp_path / "data",
        host_ip="192.0.2.2",
        pod_cidr=subnet,
        api_token="secret",
        mesh_patience_s=0.3,
        eviction_hard="",  # how full this machine is changes nothing
        restart_backoff=restart_backoff(1.0),
    )


@pytest.fixture
def node_config(tmp_path: Path) -> Iterator[NodeConfig]:
    if os.geteuid() != 0 or shutil.which("conmon") is None:
        pytest.skip("needs root and conmon")
    config = _config(tmp_path)
    yield config
    agent.remove(config)


@pytest.fixture
def image(node_config: NodeConfig, tools: bytes) -> str:
    """The name of an image in the node's store."""
    writer = LayoutWriter(node_config.data_dir / "images")
    writer.image(IMAGE, [tools], {"Cmd": ["/bin/sh"], "Env": ["FROM=image"]})
    return IMAGE


@pytest.fixture
async def world(node_config: NodeConfig, image: str, tmp_path: Path) -> AsyncIterator[NodeWorld]:
    async with AsyncExitStack() as stack:
        log = store.open_memory()
        stack.callback(log.close)
        app = apiserver.build(
            apiserver.ApiConfig(), log, clock.SystemClock(), random.Random(1), service_account_key=_key()
        )
        inner = await stack.enter_async_context(testing.World(app))
        root = {"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {"ca.crt": "none"}}
        await inner.client.create(resources.CONFIG_MAP, root)
        account: Identity = {"name": f"system:node:{node_config.name}", "groups": ["system:nodes"]}
        own = Client(AsgiTransport(app, clock=clock.SystemClock(), identity=account), field_manager="kubelet")
        yield NodeWorld(inner.client, node_config, own)
