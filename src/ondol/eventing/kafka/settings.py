"""How a KafkaSource and a KafkaSink say by which connection a cluster is reached, with what Secrets have."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects, resources
from ondol.base import errors
from ondol.client import Client
from ondol.eventing.kafka.port import Connection, Sasl, Tls

Document = Mapping[str, Any]

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS: Final = ("PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL")
_PROTOCOL: Final = "protocol"
_MECHANISM: Final = "sasl.mechanism"
_USER: Final = "user"
_PASSWORD: Final = "password"  # noqa: S105 - the key of a Secret
_AUTHORITIES: Final = "ca.crt"
_CERTIFICATE: Final = "user.crt"
_KEY: Final = "user.key"


class Unusable(errors.OndolError):
    """What is said of a connection does not make one; a person has to mend it."""


class _Secrets:
    """The Secrets of one namespace, each read once."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._read: dict[str, Document] = {}

    async def all(self, name: str) -> dict[str, str]:
        """All keys of a Secret as text."""
        if name not in self._read:
            try:
                secret = await self._client.get(resources.SECRET, name, self._namespace)
            except errors.NotFound as error:
                raise Unusable(f"there is no Secret {self._namespace}/{name}") from error
            self._read[name] = secret.get("data") or {}
        try:
            return {key: base64.b64decode(value).decode() for key, value in self._read[name].items()}
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unusable(f"Secret {self._namespace}/{name} has a value that is no text") from error

    async def one(self, value_from: Document | None) -> str:
        """The text that a `secretKeyRef` means; nothing where there is none."""
        ref = (value_from or {}).get("secretKeyRef")
        if not ref:
            return ""
        data = await self.all(str(ref.get("name")))
        if str(ref.get("key")) not in data and not ref.get("optional"):
            raise Unusable(f"Secret {self._namespace}/{ref.get('name')} has no key {ref.get('key')}")
        return data.get(str(ref.get("key")), "")


async def of_source(source: Document, client: Client) -> Connection:
    """The connection of a KafkaSource; `Unusable` if a Secret lacks something."""
    spec, secrets = objects.spec(source), _Secrets(client, objects.namespace(source))
    net = spec.get("net") or {}
    tls = sasl = None
    if (net.get("tls") or {}).get("enable"):
        parts = [await secrets.one(net["tls"].get(field)) for field in ("caCert", "cert", "key")]
        tls = Tls(*parts)
    if (net.get("sasl") or {}).get("enable"):
        kind, user, password = [
            await secrets.one(net["sasl"].get(field)) for field in ("type", "user", "password")
        ]
        sasl = _sasl(kind, user, password)
    return Connection(tuple(map(str, spec.get("bootstrapServers") or ())), tls, sasl)


async def of_sink(sink: Document, client: Client) -> Connection:
    """The connection of a KafkaSink, whose Secret has keys of Knative's names."""
    spec = objects.spec(sink)
    servers = tuple(map(str, spec.get("bootstrapServers") or ()))
    name = (((spec.get("auth") or {}).get("secret") or {}).get("ref") or {}).get("name")
    if not name:
        return Connection(servers)
    data = await _Secrets(client, objects.namespace(sink)).all(str(name))
    protocol = data.get(_PROTOCOL, "")
    if protocol not in PROTOCOLS:
        names = ", ".join(PROTOCOLS)
        raise Unusable(f"Secret {objects.namespace(sink)}/{name}: {_PROTOCOL} must be one of {names}")
    tls = sasl = None
    if protocol.endswith("SSL"):
        tls = Tls(*(data.get(key, "") for key in (_AUTHORITIES, _CERTIFICATE, _KEY)))
    if protocol.startswith("SASL"):
        sasl = _sasl(data.get(_MECHANISM, ""), data.get(_USER, ""), data.get(_PASSWORD, ""))
    return Connection(servers, tls, sasl)


def _sasl(kind: str, user: str, password: str) -> Sasl:
    mechanism = kind.strip() or MECHANISMS[0]
    if mechanism not in MECHANISMS:
        raise Unusable(f"SASL {mechanism} is not supported: use one of {', '.join(MECHANISMS)}")
    if not user or not password:
        raise Unusable("SASL needs a user and a password")
    return Sasl(mechanism, user, password)
