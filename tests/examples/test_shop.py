"""The shop: its services as plain processes on loopback, and its manifests held against each other."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.ports import free_port

from ondol.build import entry, project

SHOP = Path(__file__).parents[2] / "examples" / "shop"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Shop:
    """The processes of a shop, started as their images would start them."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self.ports: dict[str, int] = {}

    def start(self, name: str, *arguments: str, folder: Path = SHOP, **env: str) -> int:
        for _ in range(3):
            port = self.ports[name] = free_port()
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env={"PATH": os.environ["PATH"], "PORT": str(port), "PYTHONPATH": str(folder), **env},
                stdout=subprocess.DEVNULL,
            )
            if self._answers(name, process):
                self._running.append(process)
                return port
        raise AssertionError(f"{name} ended at its start")

    def _answers(self, name: str, process: subprocess.Popen[bytes]) -> bool:
        """Until it does; False for one that ended, as when somebody took its port meanwhile."""
        deadline = time.monotonic() + 20
        while process.poll() is None:
            try:
                if self.get(name, "/healthz")[0] == 200:
                    return True
            except OSError:
                assert time.monotonic() < deadline, f"{name} does not answer"
            time.sleep(0.02)
        return False

    def get(
        self,
        name: str,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str = "",
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=10)
        try:
            connection.request(method, path, body=body.encode(), headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, name: str, path: str, **how: Any) -> Any:
        status, body = self.get(name, path, **how)
        assert status == 200, body
        return json.loads(body)

    def stop(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            assert process.wait(timeout=20) == 0


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """Everything but the platform: each service is one process, the cache behind the cart included."""
    started = Shop()
    cache = started.start("carts", "cache.py", folder=SHOP / "cache")
    urls = {
        "CATALOG_URL": _url(started.start("catalog", "-m", "shop.catalog")),
        "REVIEWS_URL": _url(started.start("reviews-v2", "-m", "shop.reviews", REVIEWS_VERSION="v2")),
        "CART_URL": _url(started.start("cart", "-m", "shop.cart", CACHE_URL=_url(cache))),
    }
    started.start("reviews-v1", "-m", "shop.reviews")
    started.start("thumbnail", "-m", "shop.thumbnail")
    started.start("front", "-m", "shop.front", folder=SHOP, **urls)
    yield started
    started.stop()


def test_the_front_puts_a_product_together(shop: Shop) -> None:
    """One answer holds what the catalogue, the reviews and the cart say."""
    answer = shop.json("front", "/products/stove")
    assert answer["product"]["name"] == "Clay stove"
    assert answer["reviews"]["version"] == "v2"
    assert isinstance(answer["cart"], list)


def test_the_front_page_is_html_with_every_product(shop: Shop) -> None:
    """A person sees a list of links."""
    status, body = shop.get("front", "/")
    assert status == 200
    assert b"<!doctype html>" in body
    for product in ("stove", "floor", "tea"):
        assert f'href="/products/{product}"'.encode() in body


def test_the_second_version_of_reviews_adds_stars(shop: Shop) -> None:
    """The versions tell themselves apart, and only the second has stars."""
    first, second = (shop.json(f"reviews-{v}", "/reviews/tea") for v in ("v1", "v2"))
    assert (first["version"], second["version"]) == ("v1", "v2")
    assert [review["text"] for review in first["reviews"]] == [r["text"] for r in second["reviews"]]
    assert not any("stars" in review for review in first["reviews"])
    assert all(review["stars"] in range(1, 6) for review in second["reviews"])


def test_what_is_bought_is_in_the_cart_and_in_the_cache(shop: Shop) -> None:
    """The cart keeps nothing itself: what it knows is in the cache."""
    before = shop.json("cart", "/carts/guest")["items"]
    assert shop.json("front", "/buy/tea")["items"] == [*before, "tea"]
    assert shop.json("carts", "/keys/cart-guest") == [*before, "tea"]
    assert shop.json("front", "/products/floor")["cart"] == [*before, "tea"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Transfer-Encoding": "chunked"}, 411), ({"Content-Length": str(1 << 40)}, 413)],
)
def test_the_cache_takes_no_value_it_cannot_measure(shop: Shop, headers: dict[str, str], status: int) -> None:
    """A body without a length, or larger than the cache, is refused, and the connection ends."""
    with socket.create_connection(("127.0.0.1", shop.ports["carts"]), timeout=10) as client:
        lines = ["PUT /keys/odd HTTP/1.1", "Host: carts", *(f"{k}: {v}" for k, v in headers.items())]
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in answer
    assert shop.get("carts", "/keys/odd")[0] == 404


def test_thumbnails_are_pictures(shop: Shop) -> None:
    """An SVG with the product's name, the same for the same name."""
    status, body = shop.get("thumbnail", "/thumbnails/tea")
    assert status == 200
    assert body.startswith(b"<svg")
    assert b">tea</text>" in body
    assert shop.get("thumbnail", "/thumbnails/tea")[1] == body


@pytest.mark.parametrize(
    ("service", "path", "method", "body", "status"),
    [
        ("front", "/products/samovar", "GET", "", 404),
        ("front", "/nothing", "GET", "", 404),
        ("catalog", "/products/samovar", "GET", "", 404),
        ("cart", "/carts/guest", "POST", "{", 400),
        ("cart", "/carts/guest", "POST", "{}", 400),
    ],
)
def test_wrong_requests_are_answered(
    shop: Shop, *, service: str, path: str, method: str, body: str, status: int
) -> None:
    """What is not there and what makes no sense gets a status and a reason."""
    code, answer = shop.get(service, path, method=method, body=body)
    assert code == status, answer
    assert json.loads(answer)["error"]


def test_a_service_that_is_away_is_a_bad_gateway() -> None:
    """The front says which service did not answer, and goes on living."""
    shop = Shop()
    with socket.socket() as deaf:  # a port that is taken, so that nobody else listens there
        deaf.bind(("127.0.0.1", 0))
        nowhere = _url(deaf.getsockname()[1])
        shop.start("front", "-m", "shop.front", CATALOG_URL=nowhere)
        status, body = shop.get("front", "/products/tea")
        assert status == 502
        assert nowhere in json.loads(body)["error"]
        assert shop.get("front", "/healthz")[0] == 200
        shop.stop()


def test_one_connection_serves_many_requests(shop: Shop) -> None:
    """Connections are kept open, as the proxy in front of each service expects."""
    connection = http.client.HTTPConnection("127.0.0.1", shop.ports["catalog"], timeout=10)
    try:
        for _ in range(3):
            connection.request("GET", "/products")
            answer = connection.getresponse()
            answer.read()
            assert not answer.will_close
    finally:
        connection.close()


class _Recorder(BaseHTTPRequestHandler):
    """A catalogue that remembers the headers it was asked with, and takes its time."""

    seen: list[dict[str, str]] = []  # noqa: RUF012 - shared by the connections on purpose
    wait_s = 0.0

    def do_GET(self) -> None:
        self.seen.append({key.lower(): value for key, value in self.headers.items()})
        time.sleep(type(self).wait_s)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def recorder() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Recorder)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
    _Recorder.seen.clear()
    _Recorder.wait_s = 0.0


def test_headers_of_a_trace_are_passed_on(recorder: ThreadingHTTPServer) -> None:
    """With these headers the proxy joins the hops of one request; others stay where they are."""
    shop = Shop()
    shop.start("front", "-m", "shop.front", CATALOG_URL=_url(recorder.server_port))
    headers = {"traceparent": TRACEPARENT, "b3": "1-2-1", "x-request-id": "r1", "x-tester": "yes"}
    assert shop.get("front", "/", headers={**headers, "authorization": "secret"})[0] == 200
    shop.stop()
    assert headers.items() <= _Recorder.seen[0].items()
    assert "authorization" not in _Recorder.seen[0]


def test_sigterm_lets_requests_end_and_drops_idle_connections(recorder: ThreadingHTTPServer) -> None:
    """A request under way is answered in full; a connection that is only kept open holds nothing up."""
    _Recorder.wait_s = 1.0
    shop = Shop()
    port = shop.start("front", "-m", "shop.front", CATALOG_URL=_url(recorder.server_port))
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    idle.request("GET", "/healthz")
    assert idle.getresponse().read()
    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: answers.append(shop.get("front", "/")))
    asking.start()
    while not _Recorder.seen:
        time.sleep(0.01)
    shop.stop()
    asking.join()
    idle.close()
    assert answers[0][0] == 200


# --- the manifests


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    listed = []
    for file in sorted((SHOP / "manifests").glob("*.yaml")):
        listed += [document for document in yaml.safe_load_all(file.read_text()) if document]
    return listed


def _of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {d["metadata"]["name"]: d for d in documents if d["kind"] == kind}


def _template(deployment: Mapping[str, Any]) -> dict[str, Any]:
    template: dict[str, Any] = deployment["spec"]["template"]
    return template


def test_everything_is_in_the_shops_namespace(documents: list[dict[str, Any]]) -> None:
    """One namespace holds it all, and is made first."""
    assert documents[0]["kind"] == "Namespace"
    name = documents[0]["metadata"]["name"]
    assert {d["metadata"].get("namespace") for d in documents[1:]} == {name}
    keys = [(d["kind"], d["metadata"]["name"]) for d in documents]
    assert len(set(keys)) == len(keys)


def test_services_find_their_pods(documents: list[dict[str, Any]]) -> None:
    """Every Service selects the pods of some Deployment, at a port that they have, by name."""
    deployments = _of_kind(documents, "Deployment").values()
    for name, service in _of_kind(documents, "Service").items():
        if service["apiVersion"] != "v1":
            continue
        selector = service["spec"]["selector"].items()
        chosen = [d for d in deployments if selector <= _template(d)["metadata"]["labels"].items()]
        assert chosen, name
        for deployment in chosen:
            ports = {p["name"] for c in _template(deployment)["spec"]["containers"] for p in c["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_deployments_select_their_own_pods_and_probe_them(documents: list[dict[str, Any]]) -> None:
    """No two Deployments share pods; each has a readiness probe at a port of its own."""
    deployments = _of_kind(documents, "Deployment")
    assert set(deployments) >= {"front", "catalog", "cart", "reviews-v1", "reviews-v2"}
    for name, deployment in deployments.items():
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        matching = [
            n for n, d in deployments.items() if selector <= _template(d)["metadata"]["labels"].items()
        ]
        assert matching == [name]
        container = _template(deployment)["spec"]["containers"][0]
        probe = container["readinessProbe"]["httpGet"]
        assert probe["path"] == "/healthz"
        assert probe["port"] in {port["name"] for port in container["ports"]}


def test_images_are_built_from_here_and_modules_exist(documents: list[dict[str, Any]]) -> None:
    """Every image is one this folder builds, and every module that a pod runs is in it."""
    assert entry.find(project.read(SHOP), {"shop/front.py"}, python="python3").arguments == (
        "-m",
        "shop.front",
    )
    pods = [_template(d)["spec"] for d in _of_kind(documents, "Deployment").values()]
    pods += [
        d["spec"]["template"]["spec"] for d in documents if d["apiVersion"].startswith("serving.knative.dev")
    ]
    for pod in pods:
        container = pod["containers"][0]
        assert container["image"] == "ondol.local/shop/app:latest"
        flag, module = container["args"]
        assert flag == "-m"
        assert (SHOP / f"{module.replace('.', '/')}.py").is_file()


def test_traffic_rules_name_what_is_there(documents: list[dict[str, Any]]) -> None:
    """Hosts are Services, subsets are labels of pods, weights are whole, testers get version 2."""
    services = _of_kind([d for d in documents if d["apiVersion"] == "v1"], "Service")
    rules = _of_kind(documents, "DestinationRule")
    labels = [_template(d)["metadata"]["labels"].items() for d in _of_kind(documents, "Deployment").values()]
    subsets = {
        (rule["spec"]["host"], subset["name"]): subset["labels"].items()
        for rule in rules.values()
        for subset in rule["spec"]["subsets"]
    }
    for selector in subsets.values():
        assert any(selector <= labels_ for labels_ in labels)
    for virtual in _of_kind(documents, "VirtualService").values():
        for route in virtual["spec"]["http"]:
            for destination in (part["destination"] for part in route["route"]):
                assert destination["host"] in services
                if "subset" in destination:
                    assert (destination["host"], destination["subset"]) in subsets
            weights = [part.get("weight", 100) for part in route["route"]]
            assert sum(weights) == 100
    testers, everyone = _of_kind(documents, "VirtualService")["reviews"]["spec"]["http"]
    assert testers["match"][0]["headers"]["x-tester"] == {"exact": "yes"}
    assert testers["route"][0]["destination"]["subset"] == "v2"
    assert [(p["destination"]["subset"], p["weight"]) for p in everyone["route"]] == [("v1", 90), ("v2", 10)]
    assert everyone["timeout"]
    assert everyone["retries"]["attempts"]


def test_the_shop_is_reached_from_outside_and_has_its_cache(documents: list[dict[str, Any]]) -> None:
    """The ingress host leads to the front; the cart's default address is the custom resource's name."""
    virtual = _of_kind(documents, "VirtualService")["shop"]["spec"]
    assert virtual["hosts"] == ["shop.localhost"]
    assert virtual["gateways"] == ["ondol-system/ingress"]
    cache = _of_kind(documents, "Cache")["carts"]
    assert cache["apiVersion"] == "shop.ondol.dev/v1"
    assert '"http://carts"' in (SHOP / "shop" / "cart.py").read_text()


def test_images_are_those_the_readme_builds(documents: list[dict[str, Any]]) -> None:
    """What the manifests run is what the README says to build, from folders that exist."""
    readme = (SHOP / "README.md").read_text()
    built = dict(re.findall(r"ondol image build (\S+) --tag (\S+)", readme))
    run = {
        container["image"]
        for document in documents
        for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    }
    assert run
    assert run <= set(built.values())
    assert all((SHOP.parents[1] / folder).is_dir() for folder in built)


def test_services_call_each_other_by_the_names_of_the_manifests(documents: list[dict[str, Any]]) -> None:
    """Each address that is built in is a Service of the manifests, or the cache's."""
    source = "".join(file.read_text() for file in sorted((SHOP / "shop").glob("*.py")))
    called = set(re.findall(r'_URL", "http://([a-z]+)"', source))
    assert called == {"catalog", "reviews", "cart", "carts"}
    assert called <= {d["metadata"]["name"] for d in documents if d["kind"] in ("Service", "Cache")}
