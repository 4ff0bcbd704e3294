"""Bundles of trust: ConfigMaps whose certificates senders believe, as in Knative. Pure."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ondol.api import objects

Document = Mapping[str, Any]

LABEL: Final = "networking.knative.dev/trust-bundle"
"""With the value `true`, on ConfigMaps of Eventing's namespace."""
BYTES_MAX: Final = 1_000_000
"""How long all of them together may be: that much goes into one ConfigMap. What is beyond is left out."""
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")


def is_bundle(config_map: Document) -> bool:
    return objects.labels(config_map).get(LABEL) == "true"


def combined(config_maps: Iterable[Document]) -> str:
    """The certificates (PEM) of all bundles, each once, by name and key. Whatever is none is left out."""
    pieces: dict[str, None] = {}
    size = 0
    for piece in _certificates(config_maps):
        size += len(piece)
        if size > BYTES_MAX:
            break
        pieces[piece] = None
    return "".join(pieces)


def _certificates(config_maps: Iterable[Document]) -> Iterator[str]:
    bundles = sorted((each for each in config_maps if is_bundle(each)), key=objects.name)
    for bundle in bundles:
        for _, text in sorted((bundle.get("data") or {}).items()):
            for match in _CERTIFICATE.finditer(str(text)):
                with contextlib.suppress(ValueError, ssl.SSLError):
                    der = ssl.PEM_cert_to_DER_cert(match[0])
                    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
                    yield ssl.DER_cert_to_PEM_cert(der)
