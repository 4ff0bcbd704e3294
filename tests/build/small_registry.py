"""A registry of one thread for tests of pulling: it holds what it is handed, and misbehaves on demand."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ondol.build import oci

PASSWORD = "Basic " + base64.b64encode(b"ann:secret").decode()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Registry:
    """What is in it, how it behaves, and what it was asked."""

    address: str = ""
    documents: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """Manifests by tag and by digest, with their media types."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    auth: str = ""
    """`bearer`, `basic` or none."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each request."""
    shown: list[str] = field(default_factory=list)
    """`Authorization` of each request, empty for none."""
    answers: dict[str, Callable[[BaseHTTPRequestHandler], bool]] = field(default_factory=dict)
    """By the end of a path, what answers in the registry's place; False lets it answer itself."""

    def put(self, content: bytes) -> str:
        self.blobs[digest(content)] = content
        return digest(content)

    def put_document(self, document: Mapping[str, Any], tag: str = "", media_type: str = "") -> str:
        text = json.dumps(document).encode()
        kind = media_type or str(document.get("mediaType", ""))
        for name in filter(None, (digest(text), tag)):
            self.documents[name] = (text, kind)
        return digest(text)

    def put_image(
        self,
        tag: str = "",
        *,
        layers: Mapping[bytes, str] | None = None,
        architecture: str = "",
        media_type: str = oci.MANIFEST,
        **config: Any,
    ) -> str:
        """An image of these layers (content and media type); the digest of its manifest."""
        layers = {gzip.compress(tar({"a": b"1"}), mtime=0): f"{oci.LAYER}+gzip"} if layers is None else layers
        document = {
            "os": "linux",
            "architecture": architecture or oci.architecture(),
            "config": {"Cmd": ["/a"], **config},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        text = json.dumps(document).encode()
        parts = [oci.descriptor(kind, self.put(content), len(content)) for content, kind in layers.items()]
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": oci.descriptor(oci.CONFIG, self.put(text), len(text)),
            "layers": parts,
        }
        return self.put_document(manifest, tag)

    def paths(self, word: str) -> list[str]:
        return [path for _, path in self.asked if word in path]


class _Handler(BaseHTTPRequestHandler):
    registry: Registry

    def log_message(self, *_: Any) -> None:
        """Tests look at `asked`."""

    def do_GET(self) -> None:
        self.registry.asked.append((self.command, self.path))
        self.registry.shown.append(self.headers.get("Authorization", ""))
        path = self.path.partition("?")[0]
        for end, answer in self.registry.answers.items():
            if path.endswith(end) and answer(self):
                return
        if path == "/token":
            self._token()
        elif self._is_welcome():
            self._content(path)

    do_HEAD = do_GET  # noqa: N815 - the server calls it so

    def _token(self) -> None:
        if self.headers.get("Authorization") not in (PASSWORD, None):
            reply(self, 401, b"{}")
        else:
            name = "ann" if self.headers.get("Authorization") else "nobody"
            reply(self, 200, json.dumps({"token": f"for-{name}"}).encode())

    def _is_welcome(self) -> bool:
        proof = self.headers.get("Authorization", "")
        if self.registry.auth == "bearer" and proof != "Bearer for-ann":
            realm = f'Bearer realm="http://{self.registry.address}/token",service="small"'
            reply(self, 401, b"{}", **{"WWW-Authenticate": realm})
            return False
        if self.registry.auth == "basic" and proof != PASSWORD:
            reply(self, 401, b"{}", **{"WWW-Authenticate": 'Basic realm="small"'})
            return False
        return True

    def _content(self, path: str) -> None:
        name = path.rpartition("/")[2]
        if "/manifests/" in path and name in self.registry.documents:
            text, media_type = self.registry.documents[name]
            reply(self, 200, text, **{"Content-Type": media_type, "Docker-Content-Digest": digest(text)})
        elif "/blobs/" in path and name in self.registry.blobs:
            self._blob(self.registry.blobs[name])
        else:
            error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            reply(self, 404, json.dumps(error).encode())

    def _blob(self, content: bytes) -> None:
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        words = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        reply(self, 206 if first else 200, content[first:], **words)


def reply(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> bool:
    """Answer, and say that it was answered."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    if "Content-Length" not in headers:
        handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    if handler.command != "HEAD":
        with contextlib.suppress(OSError):
            handler.wfile.write(content)
    return True


@contextlib.contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Registry]:
    """A registry that listens on loopback inside the block; with TLS it is called `localhost`."""
    registry = Registry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"registry": registry}))
    server.daemon_threads = True
    registry.address = f"127.0.0.1:{server.server_port}"
    if tls is not None:
        registry.address = f"localhost:{server.server_port}"
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
