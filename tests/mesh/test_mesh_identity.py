"""Authorities that can issue and those that cannot, and what becomes of certificates with time."""

from __future__ import annotations

import base64
import datetime as dt
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from ondol import apiserver, store
from ondol.api import resources
from ondol.base.clock import SystemClock
from ondol.mesh.identity import authority
from ondol.mesh.identity.feed import CACERTS, OWN, AuthorityFeed
from ondol.mesh.identity.issuer import LIFETIME_S, Issuer
from ondol.sdk.testing import World

pytestmark = pytest.mark.anyio

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
PEM = serialization.Encoding.PEM
WEB = "spiffe://cluster.local/ns/default/sa/web"
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority's certificate with its key."""

    certificate: x509.Certificate
    private: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    @property
    def key(self) -> bytes:
        return self.private.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def usable(self, *chain: Signer, root: Signer | None = None) -> authority.Authority:
        roots = b"" if root is None else root.pem
        return authority.read(self.pem, self.key, b"".join(each.pem for each in chain), roots)

    def secret(self, key: Any, root: Signer | None = None) -> dict[str, Any]:
        """The Secret of that name with it."""
        contents = {"ca-cert.pem": self.pem, "ca-key.pem": self.key}
        if root is not None:
            contents["root-cert.pem"] = root.pem
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": key.name, "namespace": key.namespace},
            "data": {name: base64.b64encode(content).decode() for name, content in contents.items()},
        }


def signer(
    name: str, by: Signer | None = None, *, end: dt.datetime = NOW + 100 * DAY, key: Key | None = None
) -> Signer:
    """A new one, a root or signed by another; valid since a hundred days before NOW."""
    private = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 10000 * DAY)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    with_ = private if by is None else by.private
    algorithm = None if isinstance(with_, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Signer(certificate.sign(with_, algorithm), private)


def test_a_chain_leads_to_a_root() -> None:
    """However it is ordered, and with or without the root within."""
    root = signer("root")
    middle = signer("middle", root)
    own = signer("own", middle)
    assert own.usable(own, middle, root=root).chain == own.pem + middle.pem
    own.usable(middle, own, root, root=root)
    middle.usable(root=root)
    assert root.usable().chain == b""


def test_what_leads_nowhere_is_no_authority() -> None:
    """What it issues would be believed by nobody: every call of the mesh would fail."""
    root, other = signer("root"), signer("other")
    middle = signer("middle", root)
    own = signer("own", middle)
    for each, chain, trusted in (
        (own, (own,), root),
        (own, (own, middle), other),
        (root, (), signer("root")),
    ):
        with pytest.raises(authority.Unusable, match="does not lead to a root"):
            each.usable(*chain, root=trusted)


def test_a_key_that_signs_otherwise_is_refused() -> None:
    """Not every proxy and library takes such certificates."""
    with pytest.raises(authority.Unusable, match="neither RSA nor"):
        signer("root", key=ed25519.Ed25519PrivateKey.generate()).usable()


def test_certificates_are_renewed_at_half_of_their_life() -> None:
    """And when the clock was set back to before they are good."""
    issuer, now = Issuer(), NOW.timestamp()
    issuer.use(signer("root").usable())
    first = issuer.certificates([WEB], now)[WEB]
    due = now + LIFETIME_S / 2
    assert issuer.next_renewal() == due
    for later in (now - 30, now, due - 1):
        assert not issuer.is_due(later)
        assert issuer.certificates([WEB], later)[WEB] == first
    assert issuer.is_due(due)
    second = issuer.certificates([WEB], due)[WEB]
    assert second != first
    assert issuer.is_due(now)
    assert issuer.certificates([WEB], now)[WEB].not_after < second.not_after


def test_an_authority_that_ends_takes_nobody_with_it() -> None:
    """Its last certificates live as long as it does; then there are no others, and no error."""
    issuer, end = Issuer(), NOW + DAY
    issuer.use(signer("root", end=end).usable())
    issuer.certificates([WEB], (end - DAY / 2).timestamp())
    last = issuer.certificates([WEB], (end - DAY / 8).timestamp())
    assert last[WEB].not_after == end.timestamp()
    assert issuer.next_renewal() is None, "one that is issued later would not live longer"
    after = (end + DAY).timestamp()
    assert issuer.certificates([WEB, f"{WEB}2"], after) == last
    assert not issuer.is_due(after)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(1))
    async with World(app) as world:
        if await world.get(resources.NAMESPACE, OWN.namespace) is None:
            await world.client.create(resources.NAMESPACE, {"metadata": {"name": OWN.namespace}})
        yield world


class Certified:
    """A feed that is asked anew whenever it says that something has changed, as the mesh does."""

    def __init__(self, world: World) -> None:
        self.manager = world.manager("mesh")
        self.feed = AuthorityFeed(self.manager, self._ask)
        self.manager.add_runnable(self.feed.run, "authority")
        self.asked = 0
        self.issued: dict[str, authority.Issued] = {}

    def _ask(self) -> None:
        self.asked += 1
        self.issued = dict(self.feed.certificates([WEB], "cluster.local"))

    async def start(self, world: World) -> None:
        await world.start(self.manager)
        await world.eventually(self._is_synced, why="its Secrets to be there")
        self._ask()

    async def _is_synced(self) -> bool:
        return self.manager.idle

    @property
    def issuers(self) -> str:
        """Who issued what there is now."""
        return x509.load_pem_x509_certificate(self.issued[WEB].chain).issuer.rfc4514_string()


@pytest.fixture
async def certified(world: World) -> Certified:
    return Certified(world)


async def test_one_that_cannot_be_used_leaves_the_one_before(world: World, certified: Certified) -> None:
    """Whatever is wrong with the Secret of the administrator's."""
    first, second = signer("first"), signer("second")
    await world.client.create(resources.SECRET, first.secret(CACERTS), CACERTS.namespace)
    await certified.start(world)
    assert certified.issuers == "CN=first"
    await world.client.create(resources.SECRET, signer("own").secret(OWN), OWN.namespace)
    ended = signer("ended", end=NOW - 9000 * DAY)
    for wrong in (ended.secret(CACERTS), signer("own").secret(CACERTS, root=second)):
        asked = certified.asked
        await world.client.patch(
            resources.SECRET, CACERTS.name, CACERTS.namespace, patch={"data": wrong["data"]}
        )
        await world.run_until_stable()
        assert certified.asked > asked
        assert certified.issuers == "CN=first"
    good = second.secret(CACERTS, root=second)
    await world.client.patch(resources.SECRET, CACERTS.name, CACERTS.namespace, patch={"data": good["data"]})
    await world.run_until_stable()
    assert certified.issuers == "CN=second"
    assert first.pem in certified.feed.roots(), "who has not changed yet is still believed"


async def test_without_a_usable_one_there_is_the_meshs_own(world: World, certified: Certified) -> None:
    """As if none had been given: calls between workloads do not end for it."""
    ended = signer("ended", end=NOW - 9000 * DAY)
    await world.client.create(resources.SECRET, ended.secret(CACERTS), CACERTS.namespace)
    await certified.start(world)
    await world.run_until_stable()
    assert certified.issuers == "O=cluster.local"


async def test_who_waits_for_an_authority_does_nothing_else(world: World, certified: Certified) -> None:
    """A root of its own that cannot be used is not replaced, and not looked at without end."""
    ended = signer("ended", end=NOW - 9000 * DAY)
    await world.client.create(resources.SECRET, ended.secret(OWN), OWN.namespace)
    await certified.start(world)
    await world.run_until_stable()
    asked = certified.asked
    await anyio.sleep(1.0)
    assert certified.asked == asked <= 5
    assert certified.issued == {}
    good = signer("good").secret(OWN)
    await world.client.patch(resources.SECRET, OWN.name, OWN.namespace, patch={"data": good["data"]})
    await world.run_until_stable()
    assert certified.issuers == "CN=good"
