"""What the mesh promises of Ingresses: the class it answers for, and the annotations it acts on."""

from __future__ import annotations

from typing import Final

CLASS: Final = "ondol"
"""The IngressClass that every platform has from its first start."""
CONTROLLER: Final = "ondol.dev/ingress-controller"
"""Classes with this controller are the mesh's, whatever their names."""

NGINX: Final = "nginx.ingress.kubernetes.io/"
REWRITE_TARGET: Final = f"{NGINX}rewrite-target"
USE_REGEX: Final = f"{NGINX}use-regex"
SSL_REDIRECT: Final = f"{NGINX}ssl-redirect"
FORCE_SSL_REDIRECT: Final = f"{NGINX}force-ssl-redirect"
ACTED_ON: Final = frozenset({REWRITE_TARGET, USE_REGEX, SSL_REDIRECT, FORCE_SSL_REDIRECT})
"""Of the annotations for ingress-nginx, those that act here too."""
