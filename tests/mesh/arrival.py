"""A real Envoy that only arrives: a listener a workload, with the filters of its policies and a fixed answer.

Connections may be plain or come with mutual TLS, by certificates that are made here.
"""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import json
import os
import re
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from google.protobuf import json_format
from tests.ports import free_port

from ondol.mesh import process
from ondol.mesh.kinds import KINDS
from ondol.mesh.model.mesh_options import DEFAULTS, MeshOptions
from ondol.mesh.policy import Call, Context, Policies, Workload, WorkloadPolicy, dialled, harden
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.registry import Rule

ROOT: Final = "istio-system"
WORKLOAD: Final = Workload("foo", {"app": "httpbin", "version": "v1"}, frozenset({"httpbin"}))
NOWHERE: Final = Context()
"""No server is a Service of the mesh."""
GREETING: Final = b"hello"
"""What the server of bytes says before anybody else does."""
_SERVED: Final = "served"
_CHOSEN: Final = "chosen"
_SERIAL: Final = itertools.count(1)
_TLS: Final = "envoy.transport_sockets.tls"
_DAY: Final = dt.timedelta(days=1)


# Objects


def rule(kind: str, spec: Mapping[str, Any], namespace: str = "foo", **meta: Any) -> Rule[Any]:
    """A typed object that was found sound."""
    serial = next(_SERIAL)
    metadata = {
        "name": f"p{serial}",
        "namespace": namespace,
        "uid": f"u{serial}",
        "generation": 1,
        "creationTimestamp": f"2026-01-01T{serial // 3600 % 24:02}:{serial // 60 % 60:02}:{serial % 60:02}Z",
        **meta,
    }
    document = {"kind": kind, "metadata": metadata, "spec": dict(spec)}
    typed = KINDS[kind].rule(document)
    KINDS[kind].check(typed.spec)
    return typed


def authorization(namespace: str = "foo", dry_run: bool = False, **spec: Any) -> Rule[Any]:
    more = {"annotations": {"istio.io/dry-run": "true"}} if dry_run else {}
    return rule("AuthorizationPolicy", spec, namespace, **more)


def policies(*rules: Rule[Any], options: MeshOptions = DEFAULTS) -> Policies:
    by_kind: dict[str, list[Rule[Any]]] = {}
    for each in rules:
        by_kind.setdefault(each.origin.kind, []).append(each)
    return Policies(by_kind, frozenset({ROOT}), options)


def policy(*rules: Rule[Any], options: MeshOptions = DEFAULTS) -> WorkloadPolicy:
    """What objects ask for at the workload `httpbin` of namespace foo."""
    return policies(*rules, options=options).of(WORKLOAD)


# Certificates and tokens


class Authority:
    """Makes certificates of workloads, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "authority")])
        certificate = self._sign(self._key, self._name, x509.BasicConstraints(ca=True, path_length=None))
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._files: dict[str, Path] = {}
        self._clients: dict[str, ssl.SSLContext] = {}

    def _sign(
        self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - _DAY,
            not_valid_after=now + _DAY,
        )
        for each in extensions:
            builder = builder.add_extension(each, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def identity(self, principal: str) -> Path:
        """The file with the key and certificate of `domain/ns/namespace/sa/account`."""
        if principal not in self._files:
            key = ec.generate_private_key(ec.SECP256R1())
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{principal}")])
            certificate = self._sign(key, x509.Name([]), names)
            path = self._folder / f"{len(self._files)}.pem"
            path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
                + certificate.public_bytes(serialization.Encoding.PEM)
            )
            self._files[principal] = path
        return self._files[principal]

    def client(self, principal: str) -> ssl.SSLContext:
        if principal not in self._clients:
            self._clients[principal] = self._client(principal)
        return self._clients[principal]

    def _client(self, principal: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.file))
        context.check_hostname = False
        context.load_cert_chain(self.identity(principal))
        return context


class Issuer:
    """Makes tokens, and publishes its key."""

    def __init__(self, name: str = "issuer@foo") -> None:
        self.name = name
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        self.jwks = json.dumps({"keys": [{**public, "kid": name, "alg": "RS256", "use": "sig"}]})

    def token(self, **claims: Any) -> str:
        defaults = {"iss": self.name, "sub": "sub", "exp": int(time.time()) + 3600}
        return jwt.encode(defaults | claims, self._key, algorithm="RS256", headers={"kid": self.name})

    @staticmethod
    def claims(token: str) -> dict[str, Any]:
        body = token.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return claims


# The proxy


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, or 0 where the connection was closed without one."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


class Arrival:
    """Envoy with a listener a workload; `plan` adds one, `start` starts it with all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Of its own: Envoy shares its ports with another that has the same, and tests run beside each other.
        process_id = os.getpid()
        parts = (process_id // 250 % 250 + 1, process_id % 250 + 1, next(_SERIAL) % 250 + 1)
        self.address = f"127.{parts[0]}.{parts[1]}.{parts[2]}"
        self.authority = Authority(folder)
        self._admin = folder / "admin.sock"
        self._listeners: list[Any] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._clusters: dict[str, Any] = {}
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Greeter)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.add(static_cluster(_SERVED, self._server.server_address[1]))
        self.add(
            m.cluster.Cluster(
                name=_CHOSEN,
                type=m.cluster.Cluster.ORIGINAL_DST,
                lb_policy=m.cluster.Cluster.CLUSTER_PROVIDED,
            )
        )

    def plan(
        self,
        asked: WorkloadPolicy,
        context: Context = NOWHERE,
        *,
        port: int = 0,
        of_http: bool = True,
        unread: bool = False,
        echo: Sequence[str] = (),
    ) -> int:
        """A listener with the filters; its port. `echo` names request headers to be told in the answer."""
        port = port or free_port()
        listener = m.listener.Listener(name=str(port), address=m.socket(self.address, port))
        inspector = m.any_of(m.tls_inspector.TlsInspector())
        listener.listener_filters.add(name="envoy.filters.listener.tls_inspector", typed_config=inspector)
        if not of_http:
            listener.listener_filters_timeout.CopyFrom(m.duration(10))
            listener.continue_on_listener_filters_timeout = True
        if of_http:
            with_tls = without = self._http(asked, context, echo)
        else:
            decides = asked.network_filters(context, unread=unread)
            with_tls, without = (self._bytes(decides, is_secure=each) for each in (True, False))
        secure = m.listener_components.FilterChain(filters=with_tls)
        secure.filter_chain_match.transport_protocol = "tls"
        secure.transport_socket.CopyFrom(self._server_tls())
        listener.filter_chains.append(secure)
        listener.filter_chains.append(m.listener_components.FilterChain(filters=without))
        self._listeners.append(json_format.MessageToDict(listener))
        for cluster in asked.jwks_clusters(context):
            self.add(cluster)
        return port

    def add(self, cluster: m.cluster.Cluster) -> None:
        self._clusters[cluster.name] = json_format.MessageToDict(cluster)

    def _server_tls(self) -> m.base.TransportSocket:
        tls = m.tls.DownstreamTlsContext()
        tls.require_client_certificate.value = True
        pair = str(self.authority.identity("cluster.local/ns/foo/sa/httpbin"))
        own = tls.common_tls_context.tls_certificates.add()
        own.certificate_chain.filename = own.private_key.filename = pair
        tls.common_tls_context.validation_context.trusted_ca.filename = str(self.authority.file)
        return m.base.TransportSocket(name=_TLS, typed_config=m.any_of(tls))

    def _bytes(
        self, decides: Sequence[m.listener_components.Filter], *, is_secure: bool
    ) -> list[m.listener_components.Filter]:
        onwards = f"'127.0.0.1:{self._server.server_address[1]}'"
        chooser = dialled.chooser(decides, has_identity=is_secure, onwards=onwards)
        proxy = m.tcp_proxy.TcpProxy(stat_prefix="arrival", cluster=_SERVED if chooser is None else _CHOSEN)
        if is_secure:
            dialled.after_the_handshake(proxy)
        name = "envoy.filters.network.tcp_proxy"
        carrier = m.listener_components.Filter(name=name, typed_config=m.any_of(proxy))
        return [*([] if chooser is None else [chooser]), *decides, carrier]

    @staticmethod
    def _http(
        asked: WorkloadPolicy, context: Context, echo: Sequence[str]
    ) -> list[m.listener_components.Filter]:
        manager = m.hcm.HttpConnectionManager(stat_prefix="arrival")
        manager.http_filters.extend(asked.http_filters(context))
        router = m.any_of(m.router.Router())
        manager.http_filters.append(m.hcm.HttpFilter(name="envoy.filters.http.router", typed_config=router))
        harden(manager, asked)
        host = manager.route_config.virtual_hosts.add(name="all", domains=["*"])
        route = host.routes.add()
        route.match.prefix = "/"
        route.direct_response.status = 200
        route.direct_response.body.inline_string = "taken"
        for name in (":path", *echo):
            added = route.response_headers_to_add.add()
            added.header.key, added.header.value = f"seen-{name.strip(':')}", f"%REQ({name})%"
        name = "envoy.filters.network.http_connection_manager"
        return [m.listener_components.Filter(name=name, typed_config=m.any_of(manager))]

    def start(self) -> None:
        path = self._folder / "envoy.json"
        document = {
            "node": {"id": "arrival", "cluster": "arrival"},
            "admin": {"address": {"pipe": {"path": str(self._admin)}}},
            "static_resources": {"listeners": self._listeners, "clusters": list(self._clusters.values())},
        }
        path.write_text(json.dumps(document))
        log = self._folder / "envoy.log"
        envoy = str(Path(sys.executable).with_name("envoy"))
        words = ["-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        with log.open("wb") as output:
            self._process = subprocess.Popen([envoy, *words], stdout=output, stderr=output)
        for _ in range(300):
            if self._process.poll() is not None:
                raise AssertionError(f"Envoy ended: {log.read_text()[-3000:]}")
            if b"LIVE" in self._ask("/ready"):
                return
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"Envoy does not become ready: {log.read_text()[-3000:]}")

    def _ask(self, path: str) -> bytes:
        try:
            return process.admin_get(f"unix:{self._admin}", path)[1]
        except OSError:
            return b""

    def counter(self, name: str) -> int:
        """The sum of counters whose names end so."""
        lines = self._ask("/stats").decode().splitlines()
        return sum(int(line.rpartition(": ")[2]) for line in lines if line.partition(": ")[0].endswith(name))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def _connected(self, call: Call, port: int) -> Iterator[socket.socket]:
        source = (call.source_ip, 0)
        plain = socket.create_connection((self.address, port), 10, source_address=source)
        if not call.principal:
            with plain:
                yield plain
            return
        context = self.authority.client(call.principal)
        with context.wrap_socket(plain, server_hostname=call.sni or None) as secure:
            yield secure

    def send(self, call: Call, port: int, token: str = "") -> Answer:
        """Make the call, its path byte for byte; of bytes, the answer's body is what was heard first."""
        try:
            with self._connected(call, port) as connection:
                if not call.is_http:
                    return _greeted(connection)
                lines = [f"{call.method} {call.path} HTTP/1.1", f"Host: {call.host}", "Connection: close"]
                lines += [f"{name}: {value}" for name, value in call.headers.items()]
                if call.remote_ip:
                    lines.append(f"X-Forwarded-For: {call.remote_ip}")
                if token:
                    lines.append(f"Authorization: Bearer {token}")
                connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
                return _answer(_read(connection))
        except (ConnectionError, ssl.SSLError):
            return Answer(0)


class _Greeter(socketserver.BaseRequestHandler):
    """Speaks first, and sends back what it gets."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            self.request.sendall(GREETING)
            while data := self.request.recv(1000):
                self.request.sendall(data)


def _greeted(connection: socket.socket) -> Answer:
    """Listen before a word is said; Envoy's own rules look at a connection with its first bytes."""
    heard = connection.recv(100)
    if not heard:
        return Answer(0)
    with suppress(ConnectionError, ssl.SSLError):
        connection.sendall(b"taken")
        return Answer(200 if connection.recv(100) == b"taken" else 0, body=heard.decode())
    return Answer(0, body=heard.decode())


def _read(connection: socket.socket) -> bytes:
    """One answer: the proxy takes a second to close what it was asked to close."""
    received = b""
    while part := connection.recv(65536):
        received += part
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            break
    return received


def _answer(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    if not first:
        return Answer(0)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return Answer(int(first.split(" ")[1]), headers, body.decode("latin-1"))


def static_cluster(name: str, port: int, *, http2: bool = False) -> m.cluster.Cluster:
    """A cluster of one server on this machine."""
    cluster = m.cluster.Cluster(name=name, type=m.cluster.Cluster.STATIC, connect_timeout=m.duration(1000))
    cluster.load_assignment.cluster_name = name
    place = cluster.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    place.address.CopyFrom(m.socket("127.0.0.1", port))
    if http2:
        options = m.http_options.HttpProtocolOptions()
        options.explicit_http_config.http2_protocol_options.SetInParent()
        key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster.typed_extension_protocol_options[key].CopyFrom(m.any_of(options))
    return cluster
