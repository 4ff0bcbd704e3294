"""Ingresses on a whole platform: real kubectl, real clients with SNI, certificates that change under load."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import certify
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually

pytestmark = pytest.mark.e2e
HOST = "shop.example"
SECURE_PORT = "jsonpath={.spec.ports[?(@.name=='https')].port}"
ADDRESS = ".status.loadBalancer.ingress[0]"


def ingress(name: str, *paths: tuple[str, str, Any], **more: Any) -> Any:
    annotations = more.pop("annotations", {})
    host = more.pop("host", HOST)
    listed = [
        {"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": {"number": 80}}}}
        for path, kind, service in paths
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"rules": [{"host": host, "http": {"paths": listed}}], **more},
    }


def secret(folder: Path, name: str, host: str = HOST) -> tuple[Any, ssl.SSLContext]:
    """A certificate for the host as a Secret, and a client that believes no other."""
    authority = certify(folder, host)
    both = (folder / "both.pem").read_bytes()
    key = both[both.index(b"-----BEGIN PRIVATE") :]
    data = {"tls.crt": base64.b64encode(authority).decode(), "tls.key": base64.b64encode(key).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "data": data,
    }
    return document, ssl.create_default_context(cadata=authority.decode())


class Client:
    """One connection to the ingress, with TLS if there is a context for it."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, host: str = HOST) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._host = host
        self._socket = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        self._stream = self._socket.makefile("rb")

    def get(self, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
        head = [f"GET {path} HTTP/1.1", f"Host: {self._host}", *headers, "", ""]
        self._socket.sendall("\r\n".join(head).encode())
        status = int(self._stream.readline().split()[1])
        fields = {}
        while line := self._stream.readline().strip():
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip()
        return status, fields, self._stream.read(int(fields.get("content-length", 0)))

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


def get(port: int, path: str, context: ssl.SSLContext | None = None, host: str = HOST) -> Any:
    client = Client(port, context, host)
    try:
        return client.get(path)
    finally:
        client.close()


@pytest.fixture
def ports(platform: Platform) -> tuple[int, int]:
    """Where HTTP and HTTPS are."""
    chosen = json.loads((platform.data_dir / "instance.json").read_text())["ports"]
    return chosen["ingress"], chosen["ingress_tls"]


@pytest.fixture
def shop(space: Kubectl) -> Iterator[Kubectl]:
    """Two services, each with a version of its own."""
    for number in ("1", "2"):
        space.apply(
            objects.deployment(f"v{number}", version=number),
            objects.service(f"v{number}", ports=[{"name": "http", "port": 80, "targetPort": objects.PORT}]),
        )
    for number in ("1", "2"):
        space("rollout", "status", f"deployment/v{number}", "--timeout=60s")
    yield space
    space("delete", "ingress", "--all")


def version(answer: Any) -> str:
    return str(json.loads(answer[2])["version"])


def is_served(port: int, path: str, context: ssl.SSLContext | None = None, expected: int = 200) -> bool:
    try:
        return bool(get(port, path, context)[0] == expected)
    except OSError:
        return False


def test_paths_lead_to_services(shop: Kubectl, ports: tuple[int, int]) -> None:
    """By the default class, the longest path first; its status says where, and events what is missing."""
    paths = (("/", "Prefix", "v1"), ("/two", "Prefix", "v2"), ("/lost", "Exact", "nobody"))
    shop.apply(ingress("web", *paths))
    assert shop.path("ingress", "web", ".spec.ingressClassName") == "ondol"
    eventually(lambda: shop.path("ingress", "web", f"{ADDRESS}.ip") == "127.0.0.1", "it has an address")
    eventually(lambda: is_served(ports[0], "/"), "it is served")
    assert version(get(ports[0], "/")) == "1"
    assert version(get(ports[0], "/two/deeper?x=1")) == "2"
    assert version(get(ports[0], "/twofold")) == "1"
    assert get(ports[0], "/lost")[0] == 503
    assert get(ports[0], "/", host="other.example")[0] == 404
    events = (
        "get",
        "events",
        "--field-selector",
        "involvedObject.name=web",
        "-o",
        "jsonpath={.items[*].message}",
    )
    eventually(lambda: "there is no Service nobody" in shop(*events), "the missing backend is told")
    shop("delete", "ingress", "web")
    eventually(lambda: not is_served(ports[0], "/"), "it is served no more")


def test_other_classes_are_left_alone(shop: Kubectl, ports: tuple[int, int]) -> None:
    """No traffic and no status for an Ingress of somebody else's class."""
    shop.apply(ingress("mine", ("/mine", "Prefix", "v1")))
    shop.apply(ingress("theirs", ("/theirs", "Prefix", "v1"), ingressClassName="nginx"))
    eventually(lambda: is_served(ports[0], "/mine"), "ours is served")
    assert get(ports[0], "/theirs")[0] == 404
    assert not shop.path("ingress", "theirs", ADDRESS)


def test_certificates_change_under_load(shop: Kubectl, ports: tuple[int, int], tmp_path: Path) -> None:
    """Connections live on, requests are answered all the while, and new connections see the new one."""
    first, trusting_first = secret(tmp_path, "shop")
    second, trusting_second = secret(tmp_path, "shop")
    shop.apply(first)
    tls = [{"hosts": [HOST], "secretName": "shop"}]
    redirect = {"nginx.ingress.kubernetes.io/ssl-redirect": "true"}
    shop.apply(ingress("web", ("/", "Prefix", "v1"), tls=tls, annotations=redirect))
    eventually(lambda: is_served(ports[1], "/", trusting_first), "the first certificate is shown")
    status, fields, _ = get(ports[0], "/x?y=1")
    assert (status, fields["location"]) == (308, f"https://{HOST}:{ports[1]}/x?y=1")

    old = Client(ports[1], trusting_first)
    codes: list[int] = []
    is_over = threading.Event()

    def load() -> None:
        while not is_over.is_set():
            codes.append(old.get("/")[0])

    loading = threading.Thread(target=load)
    loading.start()
    try:
        shop.apply(second)
        eventually(lambda: is_served(ports[1], "/", trusting_second), "the second certificate is shown")
        with pytest.raises(ssl.SSLCertVerificationError):
            get(ports[1], "/", trusting_first)
        before = len(codes)
        eventually(lambda: len(codes) > before + 20, "the connection from before lives on")
    finally:
        is_over.set()
        loading.join()
        old.close()
    assert set(codes) == {200}

    broken = {**second, "data": {**second["data"], "tls.key": first["data"]["tls.key"]}}
    shop.apply(broken)
    events = (
        "get",
        "events",
        "--field-selector",
        "involvedObject.name=web",
        "-o",
        "jsonpath={.items[*].message}",
    )
    eventually(lambda: "the former one is served" in shop(*events), "the broken one is told")
    assert is_served(ports[1], "/", trusting_second)


def test_gateways_stand_beside(shop: Kubectl, ports: tuple[int, int]) -> None:
    """A VirtualService of the same host and namespace has its paths beside those of the Ingress."""
    shop.apply(ingress("web", ("/two", "Prefix", "v2")))
    rule = {
        "apiVersion": objects.ISTIO,
        "kind": "VirtualService",
        "metadata": {"name": "web"},
        "spec": {
            "hosts": [HOST],
            "gateways": ["ondol-system/ingress"],
            "http": [{"route": [{"destination": {"host": "v1", "port": {"number": 80}}}]}],
        },
    }
    shop.apply(rule)
    eventually(lambda: is_served(ports[0], "/"), "the rule is served")
    eventually(lambda: is_served(ports[0], "/two"), "the Ingress is served")
    assert (version(get(ports[0], "/")), version(get(ports[0], "/two"))) == ("1", "2")
    shop("delete", "virtualservice", "web")


def test_names_are_resolved_by_a_real_resolver(shop: Kubectl) -> None:
    """In a pod, by its C library: a Service by its short name, a name that there is not, an ExternalName."""
    code = (
        "import socket, time; print(socket.gethostbyname('v1')); "
        "print(socket.gethostbyname('alias'))\n"
        "try: socket.gethostbyname('nobody.example.invalid')\n"
        "except OSError as e: print('no')"
    )
    alias = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "alias"},
        "spec": {"type": "ExternalName", "externalName": f"v1.{shop.namespace}.svc.cluster.local"},
    }
    shop.apply(alias, objects.pod("asker", objects.python(code), restartPolicy="Never"))
    eventually(lambda: shop.path("pod", "asker", ".status.phase") == "Succeeded", "it has asked")
    address = shop.path("service", "v1", ".spec.clusterIP")
    assert shop("logs", "asker").split() == [address, address, "no"]


def test_a_gateway_has_tls_beside_ingresses(shop: Kubectl, ports: tuple[int, int], tmp_path: Path) -> None:
    """Istio's task of secure gateways by its instructions: the port by the Service, the Secret comes later.

    An Ingress of another host goes on at the same port, and the file of a VirtualService leads there alone.
    """
    there = replace(shop, namespace="istio-system")
    assert int(there("get", "svc", "istio-ingressgateway", "-o", SECURE_PORT)) == ports[1]
    beside, trusting_beside = secret(tmp_path, "shop")
    shop.apply(beside)
    tls = [{"hosts": [HOST], "secretName": "shop"}]
    shop.apply(ingress("web", ("/", "Prefix", "v1"), tls=tls))
    host = "gateway.example"
    server = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": [host],
        "tls": {"mode": "SIMPLE", "credentialName": "gateway"},
    }
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    meta = {"name": "secure"}
    api = "networking.istio.io/v1"
    shop.apply({"apiVersion": api, "kind": "Gateway", "metadata": meta, "spec": spec})
    route = [{"destination": {"host": "v2", "port": {"number": 80}}}]
    rule = {"hosts": [host], "gateways": ["secure"], "http": [{"route": route}]}
    shop.apply({"apiVersion": api, "kind": "VirtualService", "metadata": meta, "spec": rule})
    finding = (
        "get",
        "gw",
        "secure",
        "-o",
        "jsonpath={.status.conditions[?(@.type=='PassedAnalysis')].reason}",
    )
    eventually(lambda: shop(*finding) == "IST0101", "the missing Secret is told")
    document, trusting = secret(tmp_path, "gateway", host)
    shop.apply(document)

    def answered() -> bool:
        try:
            client = Client(ports[1], trusting, host)
        except OSError:
            return False
        status = client.get("/")[0]
        client.close()
        return status == 200

    eventually(answered, "the Gateway serves once its Secret is there")
    eventually(lambda: shop(*finding) == "NoFindings", "nothing is told any more")
    assert is_served(ports[1], "/", trusting_beside)
    shop("delete", "gw,vs", "secure")
    eventually(lambda: not answered(), "it is not served any more")
    assert is_served(ports[1], "/", trusting_beside)
