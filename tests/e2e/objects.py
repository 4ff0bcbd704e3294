"""The objects that tests of the whole platform write, with the test application in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

IMAGE: Final = "ondol.local/probe:1"
PORT: Final = 8080
ISTIO: Final = "networking.istio.io/v1"


def container(**fields: Any) -> dict[str, Any]:
    """A container of the test's server, ready once it answers: who waits for Ready may ask it."""
    probe = {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1}
    main = {"name": "main", "image": IMAGE, "ports": [{"containerPort": PORT}]}
    return {**main, "readinessProbe": probe, **fields}


def python(code: str, **fields: Any) -> dict[str, Any]:
    """A container that runs a line of Python in place of the server."""
    return {"name": "main", "image": IMAGE, "command": ["python3", "-c", code], **fields}


def pod(
    name: str, *containers: Mapping[str, Any], labels: Mapping[str, str] | None = None, **spec: Any
) -> Any:
    metadata = {"name": name, "labels": {"app": name, **(labels or {})}}
    full = {"containers": list(containers) or [container()], "terminationGracePeriodSeconds": 5, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": full}


def deployment(name: str, *, version: str = "1", app: str = "", replicas: int = 1, **fields: Any) -> Any:
    labels = {"app": app or name, "version": f"v{version}"}
    main = container(env=[{"name": "VERSION", "value": version}], **fields)  # it ends as soon as it is told
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [main], "terminationGracePeriodSeconds": 5},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def service(name: str, **spec: Any) -> Any:
    full = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": PORT}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": full}


def virtual_service(name: str, *http: Mapping[str, Any], hosts: list[str] | None = None, **spec: Any) -> Any:
    full = {"hosts": hosts or [name], "http": list(http), **spec}
    metadata = {"name": name}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": full,
    }


def subsets(host: str, *versions: str) -> Any:
    listed = [{"name": f"v{version}", "labels": {"version": f"v{version}"}} for version in versions]
    spec = {"host": host, "subsets": listed}
    metadata = {"name": host}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": metadata,
        "spec": spec,
    }
