"""What a path and a method mean."""

from __future__ import annotations

import pytest

from ondol.apiserver import requestinfo


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, ("list", "", "v1", "pods", "", "", "")),
        ("GET", "/api/v1/pods", {"watch": "true"}, ("watch", "", "v1", "pods", "", "", "")),
        ("GET", "/api/v1/pods", {"watch": "0"}, ("list", "", "v1", "pods", "", "", "")),
        ("GET", "/api/v1/pods", {"watch": "False"}, ("list", "", "v1", "pods", "", "", "")),
        ("GET", "/api/v1/watch/pods", {}, ("watch", "", "v1", "pods", "", "", "")),
        ("GET", "/api/v1/watch/namespaces/d/pods/p", {}, ("watch", "", "v1", "pods", "", "d", "p")),
        ("GET", "/api/v1/namespaces/d/pods/p", {}, ("get", "", "v1", "pods", "", "d", "p")),
        ("HEAD", "/api/v1/namespaces/d/pods/p", {}, ("get", "", "v1", "pods", "", "d", "p")),
        ("GET", "/api/v1/namespaces/d/pods/p/log", {}, ("get", "", "v1", "pods", "log", "d", "p")),
        (
            "POST",
            "/apis/apps/v1/namespaces/d/deployments",
            {},
            ("create", "apps", "v1", "deployments", "", "d", ""),
        ),
        ("PUT", "/api/v1/nodes/n/status", {}, ("update", "", "v1", "nodes", "status", "", "n")),
        ("GET", "/api/v1/namespaces", {}, ("list", "", "v1", "namespaces", "", "", "")),
        ("GET", "/api/v1/namespaces/d", {}, ("get", "", "v1", "namespaces", "", "d", "d")),
        (
            "PUT",
            "/api/v1/namespaces/d/finalize",
            {},
            ("update", "", "v1", "namespaces", "finalize", "d", "d"),
        ),
        ("DELETE", "/api/v1/namespaces/d/pods", {}, ("deletecollection", "", "v1", "pods", "", "d", "")),
        (
            "GET",
            "/api/v1/namespaces/d/pods",
            {"fieldSelector": "metadata.name=p"},
            ("list", "", "v1", "pods", "", "d", "p"),
        ),
        ("GET", "/version", {}, ("get", "", "", "", "", "", "")),
        ("GET", "/apis/apps/v1", {}, ("get", "", "", "", "", "", "")),
        ("GET", "/apis", {}, ("get", "", "", "", "", "", "")),
    ],
)
def test_paths_are_read_as_kubernetes_reads_them(
    method: str, path: str, query: dict[str, str], expected: tuple[str, ...]
) -> None:
    """Verb, group, version, resource, subresource, namespace, name."""
    info = requestinfo.parse(method, path, query)
    parts = (info.verb, info.group, info.version, info.resource, info.subresource, info.namespace, info.name)
    assert parts == expected
