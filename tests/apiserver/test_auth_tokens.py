"""Service-account tokens and authentication."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ondol.api.objects import Object, Resource
from ondol.apiserver import pki
from ondol.apiserver.auth import authenticate, identity, rbac, tokens
from ondol.apiserver.auth.bearers import Bearers
from ondol.apiserver.auth.identity import User
from ondol.base import errors
from ondol.base.clock import ManualClock, rfc3339

ISSUER = "https://kubernetes.default.svc.cluster.local"


class World:
    """Objects by resource, namespace and name, a clock and the server's tokens over them."""

    def __init__(self, key: bytes) -> None:
        self.clock = ManualClock()
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.put("serviceaccounts", "shop", "web", uid="sa-1")
        self.put("pods", "shop", "web-1", uid="pod-1", spec={"serviceAccountName": "web", "nodeName": "n1"})
        self.put("pods", "shop", "other", uid="pod-2", spec={"serviceAccountName": "default"})
        self.put("secrets", "shop", "s", uid="secret-1")
        self.put("nodes", "", "n1", uid="node-1")
        self.count = 0
        self.tokens = tokens.Tokens(
            key, issuer=ISSUER, clock=self.clock, lookup=self.lookup, new_id=self.new_id
        )

    def put(self, plural: str, namespace: str, name: str, *, uid: str, **more: Any) -> None:
        metadata = {"name": name, "namespace": namespace, "uid": uid}
        self.objects[plural, namespace, name] = {"metadata": metadata, **more}

    def lookup(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return self.objects.get((resource.plural, namespace, name))

    def new_id(self) -> str:
        self.count += 1
        return f"id-{self.count}"

    def token(self, **spec: Any) -> str:
        return str(self.tokens.request({"spec": spec}, "shop", "web")["status"]["token"])

    def user(self, token: str) -> User:
        return self.tokens.verify(token)[0]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    certificates = pki.ensure(tmp_path_factory.mktemp("pki"), clock=ManualClock())
    return certificates.service_account_key_file.read_bytes()


@pytest.fixture
def world(key: bytes) -> World:
    return World(key)


def bound(kind: str, name: str, uid: str = "") -> Object:
    return {"apiVersion": "v1", "kind": kind, "name": name, **({"uid": uid} if uid else {})}


def test_a_token_proves_its_service_account(world: World) -> None:
    """Name, uid and the two groups of its kind come back."""
    user = world.user(world.token())
    assert user.name == "system:serviceaccount:shop:web"
    assert user.uid == "sa-1"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:shop")
    assert user.extra == {"authentication.kubernetes.io/credential-id": ("JTI=id-1",)}


def test_token_request_answers_with_what_was_granted(world: World) -> None:
    """Default lifetime and audiences are filled in, and the time it ends is told."""
    answer = world.tokens.request({}, "shop", "web")
    assert answer["spec"] == {"audiences": [ISSUER], "expirationSeconds": 3600}
    assert answer["status"]["expirationTimestamp"] == rfc3339(world.clock.now() + 3600)
    assert answer["metadata"]["name"] == "web"


@pytest.mark.parametrize(("seconds", "text"), [(599, "less than 10 minutes"), (2**32 + 1, "larger than 2")])
def test_lifetimes_out_of_range_are_refused(world: World, seconds: int, text: str) -> None:
    """Ten minutes is the shortest."""
    with pytest.raises(errors.Invalid, match=text):
        world.tokens.request({"spec": {"expirationSeconds": seconds}}, "shop", "web")


async def test_a_token_ends(world: World) -> None:
    """After its lifetime it proves nothing, although it was seen valid before."""
    token = world.token(expirationSeconds=600)
    world.user(token)
    await world.clock.advance(601)
    with pytest.raises(tokens.InvalidToken, match="expired"):
        world.user(token)


def test_deleting_the_service_account_revokes_its_tokens(world: World) -> None:
    """A new account of the same name does not bring them back."""
    token = world.token()
    world.user(token)
    del world.objects["serviceaccounts", "shop", "web"]
    with pytest.raises(tokens.InvalidToken, match="not found"):
        world.user(token)
    world.put("serviceaccounts", "shop", "web", uid="sa-2")
    with pytest.raises(tokens.InvalidToken, match="does not match claim"):
        world.user(token)


@pytest.mark.parametrize(("kind", "name", "plural"), [("Pod", "web-1", "pods"), ("Secret", "s", "secrets")])
def test_deleting_the_bound_object_revokes_the_token(world: World, kind: str, name: str, plural: str) -> None:
    """A token bound to a pod or secret lives no longer than that."""
    token = world.token(boundObjectRef=bound(kind, name))
    world.user(token)
    del world.objects[plural, "shop", name]
    with pytest.raises(tokens.InvalidToken, match="has been invalidated"):
        world.user(token)


def test_a_pod_bound_token_tells_pod_and_node(world: World) -> None:
    """Both names and uids are in the user's extra, as Kubernetes puts them."""
    extra = world.user(world.token(boundObjectRef=bound("Pod", "web-1"))).extra
    assert extra["authentication.kubernetes.io/pod-name"] == ("web-1",)
    assert extra["authentication.kubernetes.io/pod-uid"] == ("pod-1",)
    assert extra["authentication.kubernetes.io/node-name"] == ("n1",)
    assert extra["authentication.kubernetes.io/node-uid"] == ("node-1",)


def test_binding_is_checked_when_the_token_is_asked_for(world: World) -> None:
    """The object must exist, have the uid, and a pod must run as that account."""
    with pytest.raises(errors.NotFound):
        world.token(boundObjectRef=bound("Pod", "missing"))
    with pytest.raises(errors.Conflict, match="does not match the UID in record"):
        world.token(boundObjectRef=bound("Pod", "web-1", uid="old"))
    with pytest.raises(errors.BadRequest, match="different serviceaccount name"):
        world.token(boundObjectRef=bound("Pod", "other"))
    with pytest.raises(errors.BadRequest, match="cannot bind token to object of type"):
        world.token(boundObjectRef=bound("ConfigMap", "x"))


def test_tokens_for_another_audience_are_not_for_the_server(world: World) -> None:
    """Whoever it is for can verify it; the API server refuses it."""
    token = world.token(audiences=["vault"])
    with pytest.raises(tokens.InvalidToken, match="audiences"):
        world.tokens.verify(token)
    assert world.tokens.verify(token, ["vault", "x"])[1] == ("vault",)


def forged(world: World, key: Any, algorithm: str, **changes: Any) -> str:
    claims = jwt.decode(world.token(), options={"verify_signature": False})
    return jwt.encode({**claims, **changes}, key, algorithm)


def test_forged_tokens_are_refused(world: World, key: bytes) -> None:
    """Another key, no signature, another issuer or another subject: none is believed."""
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signing = serialization.load_pem_private_key(key, None)
    for token in (
        forged(world, stranger, "RS256"),
        forged(world, None, "none"),
        forged(world, "a-shared-secret-that-is-long-enough-for-hs256", "HS256"),
        forged(world, signing, "ES256", iss="https://elsewhere"),
        forged(world, signing, "ES256", sub="system:serviceaccount:kube-system:root"),
        world.token()[:-4] + "AAAA",
        "not-a-token",
    ):
        with pytest.raises(tokens.InvalidToken):
            world.user(token)


def test_rsa_keys_sign_too(world: World) -> None:
    """A key brought from elsewhere may be RSA; the documents say so."""
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = stranger.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    other = World(pem)
    assert other.user(other.token()).uid == "sa-1"
    assert other.tokens.jwks()["keys"][0]["alg"] == "RS256"


def test_published_keys_verify_tokens(world: World) -> None:
    """A third party needs no more than the two public documents."""
    token = world.token(audiences=["vault"])
    document = world.tokens.openid_configuration("https://127.0.0.1:6443/openid/v1/jwks")
    published = world.tokens.jwks()["keys"][0]
    assert published["kid"] == jwt.get_unverified_header(token)["kid"]
    algorithms = document["id_token_signing_alg_values_supported"]
    verifying = jwt.PyJWK(published)
    assert "d" not in published
    claims = jwt.decode(
        token,
        verifying.key,
        algorithms=algorithms,
        audience="vault",
        issuer=document["issuer"],
        options={"verify_exp": False},
    )
    assert claims["sub"] == "system:serviceaccount:shop:web"


def test_token_review_tells_whose_it_is(world: World) -> None:
    """A good token names user and audiences, a bad one an error."""
    good = Bearers([world.tokens]).review({"spec": {"token": world.token()}})["status"]
    assert good["authenticated"] is True
    assert good["user"]["username"] == "system:serviceaccount:shop:web"
    assert "system:authenticated" in good["user"]["groups"]
    assert good["audiences"] == [ISSUER]
    bad = Bearers([world.tokens]).review({"spec": {"token": "x"}})["status"]
    assert bad["authenticated"] is False
    assert "invalid bearer token" in bad["error"]


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


def test_without_credentials_one_is_anonymous(world: World) -> None:
    """Nobody is refused for saying nothing, unless anonymous requests are off."""
    assert (
        authenticate.Authenticator(Bearers([world.tokens])).authenticate({"headers": []})
        == identity.anonymous()
    )
    with pytest.raises(errors.Unauthorized):
        authenticate.Authenticator(Bearers([world.tokens]), anonymous=False).authenticate({"headers": []})


def test_each_kind_of_credential_is_understood(world: World) -> None:
    """In process, certificate and bearer token, each with the group of the authenticated."""
    who = authenticate.Authenticator(Bearers([world.tokens]))
    inside = who.authenticate({"ondol.identity": {"name": "system:ondol:control", "groups": ["g"]}})
    assert inside == User("system:ondol:control", ("g", "system:authenticated"))
    certified = who.authenticate({"ondol.certificate": {"name": "alice", "groups": ["dev"]}, "headers": []})
    assert certified == User("alice", ("dev", "system:authenticated"))
    bearer = who.authenticate({"headers": headers(authorization=f"Bearer {world.token()}")})
    assert bearer.name == "system:serviceaccount:shop:web"
    assert bearer.groups[-1] == "system:authenticated"


@pytest.mark.parametrize("value", ["Bearer x.y.z", "Bearer ", "Basic YTpi"])
def test_bad_credentials_are_not_taken_for_none(world: World, value: str) -> None:
    """Whoever presents something wrong is refused, not made anonymous."""
    with pytest.raises(errors.Unauthorized, match=r"^Unauthorized$"):
        authenticate.Authenticator(Bearers([world.tokens])).authenticate(
            {"headers": headers(authorization=value)}
        )


def allow(*allowed: tuple[str, str]) -> Any:
    def decide(_user: User, attributes: rbac.Attributes) -> rbac.Decision:
        assert attributes.verb == "impersonate"
        return rbac.Decision((attributes.full_resource, attributes.name) in allowed)

    return decide


def test_impersonation_needs_leave_for_each_part() -> None:
    """User, group and extra are asked for one by one; the refusal names the one missing."""
    request = headers(impersonate_user="bob", impersonate_group="dev", impersonate_extra_scope="x")
    with pytest.raises(errors.Forbidden, match='groups "dev" is forbidden: User "alice" cannot impersonate'):
        authenticate.impersonated(User("alice"), request, allow(("users", "bob")))
    leave = allow(("users", "bob"), ("groups", "dev"), ("userextras/scope", "x"))
    bob = authenticate.impersonated(User("alice"), request, leave)
    assert bob == User("bob", ("dev", "system:authenticated"), "", {"scope": ("x",)})


def test_impersonating_a_service_account_brings_its_groups() -> None:
    """As when it had come with its own token."""
    request = headers(impersonate_user="system:serviceaccount:shop:web")
    web = authenticate.impersonated(User("alice"), request, allow(("serviceaccounts", "web")))
    assert web.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")


def test_impersonation_of_a_group_alone_is_a_mistake() -> None:
    """There must be a user to be."""
    with pytest.raises(errors.BadRequest, match="without impersonating a user"):
        authenticate.impersonated(User("alice"), headers(impersonate_group="dev"), allow())


def test_without_impersonation_the_user_stays() -> None:
    """And nothing is asked of RBAC."""
    assert authenticate.impersonated(User("alice"), headers(accept="*/*"), allow()) == User("alice")


def test_signing_key_of_the_wrong_kind_is_reported(tmp_path: Path) -> None:
    """A key that cannot sign tokens is found at the start."""
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - only here

    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(errors.HostError, match="EC P-256 or an RSA"):
        World(pem)
