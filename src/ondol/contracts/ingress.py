"""What the mesh promises of Ingresses: the class it answers for, and the annotations it acts on."""

from __future__ import annotations

from typing import Final

from ondol.contracts import cluster

CLASS: Final = "ondol"
"""The IngressClass that every platform has from its first start."""
CONTROLLER: Final = "ondol.dev/ingress-controller"
"""Classes with this controller are the mesh's, whatever their names."""

HTTPS_GATEWAY: Final = "https.networking.k8s.io"
"""The Gateway that is there as long as any Ingress of the mesh's is: it ends TLS with their certificates."""
HTTPS: Final = f"{cluster.PLATFORM_NAMESPACE}/{HTTPS_GATEWAY}"
"""The same as a VirtualService refers to it, for a host that an Ingress has a certificate for."""

NGINX: Final = "nginx.ingress.kubernetes.io/"
REWRITE_TARGET: Final = f"{NGINX}rewrite-target"
USE_REGEX: Final = f"{NGINX}use-regex"
SSL_REDIRECT: Final = f"{NGINX}ssl-redirect"
FORCE_SSL_REDIRECT: Final = f"{NGINX}force-ssl-redirect"
ACTED_ON: Final = frozenset({REWRITE_TARGET, USE_REGEX, SSL_REDIRECT, FORCE_SSL_REDIRECT})
"""Of the annotations for ingress-nginx, those that act here too."""
