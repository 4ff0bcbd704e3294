"""The two objects each namespace has. Pure."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Object

ACCOUNT: Final = "default"
ROOT_CA: Final = "kube-root-ca.crt"


def account(namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": ACCOUNT, "namespace": namespace},
    }


def root_ca(namespace: str, certificate: str) -> Object:
    """The certificate pods verify the API server with."""
    about = "Certificate authority of the API server, for clients inside the cluster."
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": ROOT_CA,
            "namespace": namespace,
            "annotations": {"kubernetes.io/description": about},
        },
        "data": {"ca.crt": certificate},
    }
