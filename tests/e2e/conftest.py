"""Fixtures of the end-to-end tests, and the way by which they share one harness module."""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

# Test folders are not packages; the tests here share one module all the same, under its full name.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.e2e import harness

_numbers: Final = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def kubectl_caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Goes with the session's other temporary files, whoever makes a kubectl."""
    folder = tmp_path_factory.mktemp("kubectl")
    harness.keep_caches_in(folder)
    return folder


@pytest.fixture
def collected() -> Iterator[None]:
    """What a client of others has left open is collected in its own test, not in one that comes later."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def kubectl_version() -> harness.Version:
    """The real kubectl's version; without one the test is skipped."""
    return harness.kubectl_version()


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.ApiServer]:
    """An API server of this test module's own."""
    server = harness.ApiServer(tmp_path_factory.mktemp("api"))
    server.start()
    yield server
    alive = server.alive()
    output = server.process.text if server.process else ""
    server.close()
    assert alive, f"the API server did not survive the tests:\n{output}"
    assert "Traceback" not in output, output


@pytest.fixture(scope="module")
def admin(api_server: harness.ApiServer, kubectl_version: harness.Version) -> harness.Kubectl:
    """The real kubectl as the administrator of the API server."""
    return harness.Kubectl(api_server.kubeconfig, kubectl_version)


@pytest.fixture
def kubectl(admin: harness.Kubectl) -> harness.Kubectl:
    """The real kubectl in a namespace of the test's own."""
    namespace = f"t{next(_numbers)}"
    admin("create", "namespace", namespace)
    return admin.inside(namespace)


@pytest.fixture
def http(api_server: harness.ApiServer) -> harness.Http:
    """Raw HTTPS as the administrator of the API server."""
    return harness.Http(api_server.kubeconfig)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Platform]:
    """A whole platform, as `ondol up --detach` starts it, with the test application's image."""
    harness.need_host()
    started = harness.Platform(tmp_path_factory.mktemp("platform") / "data")
    try:
        started.up()
        started("image", "build", harness.HERE / "app", "--tag", "probe:1")
        yield started
    finally:
        started.down()


@pytest.fixture(scope="session")
def cluster(platform: harness.Platform, kubectl_version: harness.Version) -> harness.Kubectl:
    """The real kubectl as the administrator of the platform."""
    return harness.Kubectl(platform.kubeconfig, kubectl_version)


@pytest.fixture(scope="module")
def space(cluster: harness.Kubectl) -> Iterator[harness.Kubectl]:
    """The real kubectl in a namespace of this test module on the platform."""
    namespace = f"e{next(_numbers)}"
    cluster("create", "namespace", namespace)
    yield cluster.inside(namespace)
    cluster("delete", "namespace", namespace, "--wait=false")
