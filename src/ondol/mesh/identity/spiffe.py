"""SPIFFE identities of workloads: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. Pure.

Sources: the SPIFFE ID standard, section 2; Istio's naming of Kubernetes service accounts.
"""

from __future__ import annotations

from typing import Final

from ondol.api import objects
from ondol.api.objects import Object

SCHEME: Final = "spiffe://"
DEFAULT_ACCOUNT: Final = "default"


def identity(trust_domain: str, namespace: str, account: str) -> str:
    """The identity of whatever runs as a service account."""
    return f"{of_namespace(trust_domain, namespace)}{account}"


def of_namespace(trust_domain: str, namespace: str) -> str:
    """What all identities of a namespace begin with."""
    return f"{SCHEME}{trust_domain}/ns/{namespace}/sa/"


def account(pod: Object) -> str:
    """The service account that a pod runs as."""
    return str(objects.spec(pod).get("serviceAccountName") or DEFAULT_ACCOUNT)
