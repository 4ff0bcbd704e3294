"""The shop of the demo: its services as plain processes on loopback, and what its manifests say."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

SHOP = Path(__file__).parents[2] / "examples" / "shop"
TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "ondol=1",
    "x-request-id": "r-1",
    "x-tester": "yes",
}
Start = Callable[..., int]


class Stub(BaseHTTPRequestHandler):
    """Stands for a service: keeps what is put, remembers who asked how, answers when it is told to."""

    protocol_version = "HTTP/1.1"
    kept: ClassVar[dict[str, bytes]]
    seen: ClassVar[list[tuple[str, str, dict[str, str]]]]
    answers: ClassVar[dict[str, Any]]
    hold: ClassVar[threading.Event]

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.command, self.path, headers))
        self.hold.wait(10)
        if self.command == "PUT":
            self.kept[self.path] = body
            self._answer(204, b"")
        elif self.path in self.answers:
            self._answer(200, json.dumps(self.answers[self.path]).encode())
        else:
            found = self.kept.get(self.path)
            self._answer(200 if found is not None else 404, found or b"{}")

    do_GET = do_PUT = _handle  # noqa: N815 - names http.server looks for

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def stub(answers: Mapping[str, Any] | None = None) -> Iterator[tuple[int, type[Stub]]]:
    """A stub on a free port; it answers at once until its `hold` is cleared."""
    hold = threading.Event()
    hold.set()
    made = type("Made", (Stub,), {"kept": {}, "seen": [], "answers": dict(answers or {}), "hold": hold})
    with ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], made
        finally:
            hold.set()
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """One service of the shop as a process."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"shop.{module}"],
            cwd=SHOP,
            env={**os.environ, **environment, "PORT": str(self.port)},
            stdout=subprocess.DEVNULL,
        )

    def await_ready(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                if ask(self.port, "/healthz")[0] == 200:
                    return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def stop(self) -> int:
        """Its exit status, after SIGTERM if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def running(*wanted: tuple[str, Mapping[str, str]]) -> Iterator[list[Service]]:
    """Services, started side by side and ready."""
    with ExitStack() as stack:
        services = []
        for module, environment in wanted:
            service = Service(module, environment)
            stack.callback(service.process.kill)
            stack.enter_context(service.process)
            services.append(service)
        for service in services:
            service.await_ready()
        yield services
        assert [service.stop() for service in services] == [0] * len(services)


def ask(
    port: int, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b""
) -> tuple[int, Any, str]:
    """Status, body (decoded if it is JSON) and content type."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body=body or None, headers=dict(headers or {}))
        answer = connection.getresponse()
        data = answer.read()
        kind = answer.headers.get_content_type()
        return answer.status, json.loads(data) if kind == "application/json" else data, kind
    finally:
        connection.close()


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def shop() -> Iterator[dict[str, Any]]:
    """The whole shop: front, catalogue, both versions of reviews, cart, and a cache that a stub plays."""
    with stub() as (cache_port, cache):
        behind = running(
            ("catalog", {}),
            ("reviews", {"REVIEWS_VERSION": "v1"}),
            ("reviews", {"REVIEWS_VERSION": "v2"}),
            ("cart", {"CACHE_URL": url(cache_port)}),
            ("thumbnail", {}),
        )
        with behind as (catalog, v1, v2, cart, thumbnail):
            places = {"CATALOG_URL": url(catalog.port), "CART_URL": url(cart.port)}
            with running(("front", {**places, "REVIEWS_URL": url(v1.port)})) as (front,):
                yield {
                    "front": front.port,
                    "catalog": catalog.port,
                    "v1": v1.port,
                    "v2": v2.port,
                    "cart": cart.port,
                    "thumbnail": thumbnail.port,
                    "cache": cache,
                }


def test_home_lists_the_products(shop: dict[str, Any]) -> None:
    """The front page is HTML made of what the catalogue has."""
    status, page, kind = ask(shop["front"], "/")
    assert (status, kind) == (200, "text/html")
    assert b"Clay stove" in page
    assert page.count(b"<li>") == len(ask(shop["catalog"], "/products")[1])


def test_product_page_is_put_together(shop: dict[str, Any]) -> None:
    """One answer out of catalogue, reviews and cart."""
    status, page, _ = ask(shop["front"], "/products/stove")
    assert status == 200
    assert page["product"]["price"] == 240
    assert page["reviews"]["version"] == "v1"
    assert page["cart"] == []


def test_buying_fills_the_cart_in_the_cache(shop: dict[str, Any]) -> None:
    """What is bought is in the cache and on the page; the cart itself keeps nothing."""
    try:
        assert ask(shop["front"], "/buy/tea")[1] == {"customer": "guest", "items": ["tea"]}
        assert ask(shop["front"], "/buy/stove")[1]["items"] == ["tea", "stove"]
        assert shop["cache"].kept == {"/keys/cart-guest": b'["tea", "stove"]'}
        assert ask(shop["front"], "/products/tea")[1]["cart"] == ["tea", "stove"]
    finally:
        shop["cache"].kept.clear()


def test_versions_of_reviews_differ_in_stars(shop: dict[str, Any]) -> None:
    """Version 2 tells the stars, version 1 does not; both say which they are."""
    first, second = (ask(shop[name], "/reviews/stove")[1] for name in ("v1", "v2"))
    assert (first["version"], second["version"]) == ("v1", "v2")
    assert not any("stars" in review for review in first["reviews"])
    assert all(1 <= review["stars"] <= 5 for review in second["reviews"])
    assert [r["text"] for r in first["reviews"]] == [r["text"] for r in second["reviews"]]


def test_thumbnail_is_a_picture(shop: dict[str, Any]) -> None:
    """The same product has the same picture."""
    status, picture, kind = ask(shop["thumbnail"], "/thumbnails/tea")
    assert (status, kind) == (200, "image/svg+xml")
    assert b">tea</text>" in picture
    assert ask(shop["thumbnail"], "/thumbnails/tea")[1] == picture


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("front", "/nowhere"),
        ("catalog", "/products/boat"),
        ("catalog", "/products/"),
        ("v1", "/"),
        ("cart", "/"),
    ],
)
def test_what_is_not_there_is_404(shop: dict[str, Any], service: str, path: str) -> None:
    """A page or product that does not exist is told as JSON."""
    status, body, _ = ask(shop[service], path)
    assert status == 404
    assert body["error"]


def test_one_connection_serves_many_requests(shop: dict[str, Any]) -> None:
    """Connections are kept, as the proxy in front of each service expects."""
    connection = http.client.HTTPConnection("127.0.0.1", shop["catalog"], timeout=20)
    try:
        for _ in range(3):
            connection.request("GET", "/products")
            answer = connection.getresponse()
            answer.read()
            assert not answer.will_close
    finally:
        connection.close()


def test_a_service_that_is_gone_is_502() -> None:
    """The front says which call failed, and goes on serving."""
    nobody = url(free_port())
    places = {"CATALOG_URL": nobody, "REVIEWS_URL": nobody, "CART_URL": nobody}
    with running(("front", places)) as (front,):
        status, body, _ = ask(front.port, "/products/stove")
        assert status == 502
        assert body["error"]
        assert ask(front.port, "/healthz")[0] == 200


def test_an_answer_that_is_an_error_is_502() -> None:
    """A failure behind is no success in front."""
    with stub() as (port, _), running(("front", {"CATALOG_URL": url(port)})) as (front,):
        status, body, _ = ask(front.port, "/products/stove")
        assert status == 502
        assert "answered 404" in body["error"]


def test_trace_headers_are_passed_on() -> None:
    """Each call the front makes carries its caller's trace, and nothing else of the caller's."""
    answers = {"/products/stove": {}, "/reviews/stove": {}, "/carts/guest": {"items": []}}
    with stub(answers) as (port, behind):
        places = dict.fromkeys(("CATALOG_URL", "REVIEWS_URL", "CART_URL"), url(port))
        with running(("front", places)) as (front,):
            assert ask(front.port, "/products/stove", headers={**TRACE, "cookie": "secret"})[0] == 200
        assert [path for _, path, _ in behind.seen] == list(answers)
        for _, _, headers in behind.seen:
            assert TRACE.items() <= headers.items()
            assert "cookie" not in headers


def test_trace_headers_reach_the_cache() -> None:
    """The cart passes them on with its writes too."""
    with stub() as (port, cache), running(("cart", {"CACHE_URL": url(port)})) as (cart,):
        body = b'{"product": "tea"}'
        assert ask(cart.port, "/carts/guest", method="POST", body=body, headers=TRACE)[0] == 200
        assert [(method, path) for method, path, _ in cache.seen] == [
            ("GET", "/keys/cart-guest"),
            ("PUT", "/keys/cart-guest"),
        ]
        assert all(TRACE.items() <= headers.items() for _, _, headers in cache.seen)


def test_sigterm_finishes_the_request_in_flight() -> None:
    """A service told to end answers what it has begun, takes nothing new, and ends with status 0."""
    with (
        stub({"/products": []}) as (port, behind),
        running(("front", {"CATALOG_URL": url(port)})) as (front,),
    ):
        behind.hold.clear()
        answers: list[tuple[int, Any, str]] = []
        asking = threading.Thread(target=lambda: answers.append(ask(front.port, "/")))
        asking.start()
        _until(lambda: bool(behind.seen))
        front.process.send_signal(signal.SIGTERM)
        _until(lambda: _is_closed(front.port))
        assert front.process.poll() is None
        behind.hold.set()
        asking.join(20)
        assert [status for status, _, _ in answers] == [200]
        assert front.process.wait(20) == 0


def _until(test: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not test():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_closed(port: int) -> bool:
    """Whether nothing accepts there any more (a full backlog would still take the connection)."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


# --- manifests


def documents() -> list[dict[str, Any]]:
    """Every manifest, in the order in which they are applied."""
    return [
        document
        for file in sorted((SHOP / "manifests").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]


def of_kind(kind: str, api_version: str = "") -> list[dict[str, Any]]:
    return [d for d in documents() if d["kind"] == kind and d["apiVersion"].startswith(api_version)]


def containers() -> list[dict[str, Any]]:
    workloads = [*of_kind("Deployment"), *of_kind("Service", "serving.knative.dev/")]
    return [c for w in workloads for c in w["spec"]["template"]["spec"]["containers"]]


def pod_labels() -> list[dict[str, str]]:
    return [d["spec"]["template"]["metadata"]["labels"] for d in of_kind("Deployment")]


def matching(selector: Mapping[str, str]) -> Sequence[dict[str, str]]:
    return [labels for labels in pod_labels() if selector.items() <= labels.items()]


def test_manifests_are_whole_and_in_one_namespace() -> None:
    """Each names its kind and version; the namespace comes first, and everything is in it."""
    found = documents()
    assert all({"apiVersion", "kind", "metadata"} <= set(d) for d in found)
    assert (found[0]["kind"], found[0]["metadata"]["name"]) == ("Namespace", "shop")
    assert {d["metadata"].get("namespace") for d in found[1:]} == {"shop"}
    names = [(d["apiVersion"], d["kind"], d["metadata"]["name"]) for d in found]
    assert len(set(names)) == len(names)


def test_selectors_find_their_pods() -> None:
    """Each Deployment selects its own template alone, each Service somebody, by ports that exist."""
    for deployment in of_kind("Deployment"):
        own = deployment["spec"]["template"]["metadata"]["labels"]
        assert matching(deployment["spec"]["selector"]["matchLabels"]) == [own]
    for service in of_kind("Service", "v1"):
        selector = service["spec"]["selector"]
        assert matching(selector), service["metadata"]["name"]
        for deployment in of_kind("Deployment"):
            if selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items():
                ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
                assert {p["targetPort"] for p in service["spec"]["ports"]} <= {p["name"] for p in ports}


def test_routes_lead_to_services_and_subsets_to_pods() -> None:
    """Each destination is a Service, each subset is defined and selects pods of that Service."""
    services = {s["metadata"]["name"]: s["spec"]["selector"] for s in of_kind("Service", "v1")}
    subsets = {
        (rule["spec"]["host"], subset["name"]): subset["labels"]
        for rule in of_kind("DestinationRule")
        for subset in rule["spec"]["subsets"]
    }
    assert all(matching({**services[host], **labels}) for (host, _), labels in subsets.items())
    for virtual_service in of_kind("VirtualService"):
        for rule in virtual_service["spec"]["http"]:
            for route in rule["route"]:
                host, subset = route["destination"]["host"], route["destination"].get("subset")
                assert host in services
                assert subset is None or (host, subset) in subsets
            weights = [route.get("weight", 100) for route in rule["route"]]
            assert sum(weights) == 100


def test_images_are_those_the_readme_builds() -> None:
    """What the manifests run is what the README says to build from this folder."""
    readme = (SHOP / "README.md").read_text(encoding="utf-8")
    built = dict(re.findall(r"ondol image build (\S+) --tag (\S+)", readme))
    assert {c["image"] for c in containers()} <= set(built.values())
    assert all((SHOP.parents[1] / folder).is_dir() for folder in built)


def test_every_module_that_runs_exists() -> None:
    """The arguments of each container name a module of the shop."""
    for container in containers():
        flag, module = container["args"]
        assert flag == "-m"
        assert (SHOP / f"{module.replace('.', '/')}.py").is_file()


def test_services_call_each_other_by_the_names_of_the_manifests() -> None:
    """Addresses that are built in are Services of the manifests, or the cache's."""
    source = "".join(file.read_text(encoding="utf-8") for file in (SHOP / "shop").glob("*.py"))
    called = set(re.findall(r'_URL", "http://([a-z]+)"', source))
    made = {d["metadata"]["name"] for d in [*of_kind("Service", "v1"), *of_kind("Cache")]}
    assert called == {"catalog", "reviews", "cart", "carts"}
    assert called <= made


def test_services_are_careful_guests() -> None:
    """Each Deployment has a probe and says what memory it needs at most."""
    for deployment in of_kind("Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["resources"]["limits"]["memory"]
