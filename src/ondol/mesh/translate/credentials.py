"""Certificates, keys and authorities as values, which of them a Gateway may use, and their resources (SDS).

A new one changes no listener, so no connection ends. Keys stand in no other resource, and the proxy shows
them to nobody. Ingresses, Gateways and DestinationRules (`origination`) have this one way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ondol.api.objects import Key
from ondol.mesh.model import istio
from ondol.mesh.translate import messages as m
from ondol.mesh.translate import wire
from ondol.mesh.translate.reach import ISTIO_SYSTEM
from ondol.mesh.xds.types import Resource

MISSING: Final = "IST0101"
UNUSABLE: Final = "IST0161"
OF_AUTHORITIES: Final = "-cacert"
"""What the name of a Secret ends with that holds the authorities for another's clients."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A chain with its key."""

    name: str
    """`namespace/secret`."""
    version: str
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def secret(self) -> str:
        """The resource of it."""
        return secret_name(self.name)


@dataclass(frozen=True, slots=True)
class Authorities:
    """Whose signature makes a client's certificate good, and which are revoked all the same."""

    name: str
    """`namespace/secret`."""
    version: str
    trusted: bytes = field(repr=False)
    revoked: bytes = field(default=b"", repr=False)

    @property
    def secret(self) -> str:
        return f"authorities|{self.name}"


@dataclass(frozen=True, slots=True)
class Content:
    """What a Secret holds for TLS. Where its present content is unusable, an earlier one may serve."""

    certificate: Certificate | None = None
    no_certificate: str = ""
    """Why the present content is no certificate."""
    authorities: Authorities | None = None
    no_authorities: str = ""
    names_authorities: bool = False
    """Whether the present content says whom to trust, usable or not."""
    users: frozenset[str] | None = None
    """The namespaces whose Gateways may use it, where it says so itself."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The Secrets that Gateways and DestinationRules name, as far as they exist."""

    contents: Mapping[Key, Content] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[object, ...]:
        """What listeners know of them: none of it changes when one is rotated."""
        return tuple(
            (key, content.certificate is not None, content.authorities is not None, content.users)
            for key, content in sorted(self.contents.items())
        )


def secret_name(certificate: str) -> str:
    """The resource of a certificate, `namespace/secret`."""
    return f"certificate|{certificate}"


# Who may use which


def places(namespace: str, name: str) -> tuple[Key, ...]:
    """Where a Gateway of a namespace finds a Secret: at home, then where Istio's gateway would look.

    `namespace/name` is that Secret; no user can write it, so only for Gateways that are generated.
    """
    elsewhere, slash, own = name.partition("/")
    if slash:
        return (Key(elsewhere, own),)
    return tuple(dict.fromkeys((Key(namespace, name), Key(ISTIO_SYSTEM, name))))


def named(namespace: str, tls: istio.ServerTLSSettings | None) -> Iterator[Key]:
    """Every Secret that the settings of a server may look at."""
    if tls is None or tls.mode not in istio.TERMINATING_MODES:
        return
    for name in tls.credentials:
        yield from places(namespace, name)
        yield from places(namespace, f"{name}{OF_AUTHORITIES}")
    if tls.ca_cert_credential_name:
        yield from places(namespace, tls.ca_cert_credential_name)


class Problem(NamedTuple):
    """Why a credential is not served, or an earlier one; under the code of the finding."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a server shows and trusts."""

    certificates: tuple[Certificate, ...] = ()
    authorities: Authorities | None = None
    problems: tuple[Problem, ...] = ()
    is_served: bool = False
    """Whether nothing lacks."""


def resolved(tls: istio.ServerTLSSettings, namespace: str, credentials: Credentials) -> Resolved:
    """The certificates and authorities for a server of a Gateway of a namespace."""
    resolver = _Resolver(namespace, credentials)
    certificates = [resolver.certificate(name) for name in tls.credentials]
    authorities, needs = None, tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL")
    if needs and tls.ca_cert_credential_name:
        authorities = resolver.authorities(places(namespace, tls.ca_cert_credential_name))
    elif needs:
        authorities = resolver.authorities(resolver.beside(tls.credentials))
    served = tuple(each for each in certificates if each is not None)
    is_served = len(served) == len(certificates) > 0 and (authorities is not None or not needs)
    return Resolved(served, authorities, tuple(resolver.problems), is_served)


class _Resolver:
    def __init__(self, namespace: str, credentials: Credentials) -> None:
        self._namespace = namespace
        self._contents = credentials.contents
        self.problems: list[Problem] = []

    def _content(self, keys: Iterable[Key]) -> tuple[Key, Content] | None:
        for key in keys:
            content = self._contents.get(key)
            if content is not None and self._may_use(key, content):
                return key, content
        return None

    def _may_use(self, key: Key, content: Content) -> bool:
        at_home = key.namespace == self._namespace
        return at_home or content.users is None or self._namespace in content.users

    def _lacks(self, keys: Iterable[Key], what: str) -> None:
        listed = tuple(keys)
        for key in listed:
            if key in self._contents:
                text = f"Secret {key} is for Gateways of other namespaces"
                self.problems.append(Problem(MISSING, text))
                return
        names = " nor ".join(map(str, listed))
        text = f"there is no Secret {names} of type kubernetes.io/tls or Opaque{what}"
        self.problems.append(Problem(MISSING, text))

    def _kept(self, key: Key, why: str, *, former: bool) -> None:
        kept = "; the former one is served" if former else ""
        self.problems.append(Problem(UNUSABLE, f"Secret {key}: {why}{kept}"))

    def certificate(self, name: str) -> Certificate | None:
        keys = places(self._namespace, name)
        stored = self._content(keys)
        if stored is None:
            self._lacks(keys, "")
            return None
        key, content = stored
        if content.no_certificate:
            self._kept(key, content.no_certificate, former=content.certificate is not None)
        return content.certificate

    def beside(self, names: Iterable[str]) -> tuple[Key, ...]:
        """Where the authorities of a certificate are: in a Secret of its name's, or in its own."""
        keys: list[Key] = []
        for name in names:
            stored = self._content(places(self._namespace, name))
            if stored is not None:
                key = stored[0]
                keys += [Key(key.namespace, f"{key.name}{OF_AUTHORITIES}"), key]
        return tuple(keys)

    def authorities(self, keys: tuple[Key, ...]) -> Authorities | None:
        stored = self._content(keys)
        if stored is None:
            if keys:
                self._lacks(keys, ", with the authorities of clients")
            return None
        key, content = stored
        if content.no_authorities:
            self._kept(key, content.no_authorities, former=content.authorities is not None)
        return content.authorities


# For the proxy


def certificate_resource(certificate: Certificate, name: str = "") -> Resource:
    """Under the name that listeners ask for, or another."""
    name = name or certificate.secret
    served = m.tls_common.TlsCertificate(
        certificate_chain=m.base.DataSource(inline_bytes=certificate.chain),
        private_key=m.base.DataSource(inline_bytes=certificate.key),
    )
    message = m.tls_secret.Secret(name=name, tls_certificate=served)
    return Resource(name, certificate.version, wire.encode(message))


def authorities_resource(authorities: Authorities, name: str = "") -> Resource:
    """Under the name that listeners ask for, or another."""
    name = name or authorities.secret
    message = m.tls_secret.Secret(name=name)
    message.validation_context.trusted_ca.inline_bytes = authorities.trusted
    if authorities.revoked:
        message.validation_context.crl.inline_bytes = authorities.revoked
        # Lists are of the authority that signed clients, seldom of each above it.
        message.validation_context.only_verify_leaf_cert_crl = True
    return Resource(name, authorities.version, wire.encode(message))
