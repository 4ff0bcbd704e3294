"""Tokens of OpenID Connect: whose are taken, what claims make of the user, and issuers that are away."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import anyio
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from ondol import apiserver
from ondol.apiserver import pki
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.oidc import configuration
from ondol.apiserver.auth.tokens import InvalidToken
from ondol.apiserver.ports import HttpsTarget
from ondol.base import errors
from ondol.base.clock import ManualClock

pytestmark = pytest.mark.anyio

URL: Final = "https://issuer.example.com"
WHO: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
VERSION: Final = "apiserver.config.k8s.io/v1"
NOW: Final = ManualClock().now()


class _Issuer:
    """An issuer with one key at a time, which may hang."""

    def __init__(self) -> None:
        self.asked = 0
        self.hangs = False
        self.rotate("one")

    def rotate(self, key_id: str) -> None:
        self.key_id, self.key = key_id, ec.generate_private_key(ec.SECP256R1())

    async def get(self, target: HttpsTarget) -> tuple[int, bytes]:
        if self.hangs:
            await anyio.sleep_forever()
        self.asked += 1
        if target.url == f"{URL}/.well-known/openid-configuration":
            return 200, msgspec.json.encode({"issuer": URL, "jwks_uri": f"{URL}/keys"})
        if target.url != f"{URL}/keys":
            return 404, b"{}"
        key = msgspec.json.decode(ECAlgorithm.to_jwk(self.key.public_key()))
        return 200, msgspec.json.encode({"keys": [{**key, "kid": self.key_id, "use": "sig"}]})

    def token(self, **claims: Any) -> str:
        own = {"iss": URL, "aud": "ondol", "sub": "ann", "groups": ["team"], "exp": NOW + 600, **claims}
        return jwt.encode(own, self.key, "ES256", headers={"kid": self.key_id})


def _config(*, anonymous: Any = None, mappings: Any = None, **more: Any) -> dict[str, Any]:
    names = {"username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"claim": "groups", "prefix": ""}}
    issuer = {"url": URL, "audiences": ["ondol"], **more.pop("issuer", {})}
    document: dict[str, Any] = {"apiVersion": VERSION, "kind": "AuthenticationConfiguration"}
    document["jwt"] = [{"issuer": issuer, "claimMappings": mappings or names, **more}]
    return {**document, "anonymous": anonymous} if anonymous is not None else document


def _serving(start: Callable[..., Any], issued: pki.Pki, issuer: _Issuer, **more: Any) -> Any:
    text = msgspec.json.encode(_config(**more)).decode()
    key = issued.service_account_key_file.read_bytes()
    return start(config=apiserver.ApiConfig(authentication=text), service_account_key=key, getter=issuer)


async def _whoami(api: Any, token: str) -> Any:
    return await api.as_("")("POST", WHO, {}, {"authorization": f"Bearer {token}"})


async def test_a_token_of_the_issuer_signs_in(start: Callable[..., Any], issued: pki.Pki) -> None:
    """As who its claims say, until it expires; for TokenReview likewise."""
    issuer = _Issuer()
    async with _serving(start, issued, issuer) as api:
        await api.settle()
        answer = await _whoami(api, issuer.token())
        assert answer.status == 201, answer.json
        user = {"username": "oidc:ann", "groups": ["team", "system:authenticated"]}
        assert answer.json["status"]["userInfo"] == user
        review = (await api.post(REVIEWS, {"spec": {"token": issuer.token()}})).json["status"]
        assert review["user"] == user
        await api.clock.advance(601.0)
        assert (await _whoami(api, issuer.token())).status == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"iss": "https://else.example.com"},
        {"nbf": NOW + 900},
        {"exp": NOW - 1},
        {"sub": ""},
    ],
)
async def test_tokens_that_prove_nothing(
    start: Callable[..., Any], issued: pki.Pki, claims: dict[str, Any]
) -> None:
    """For others, by others, not yet or no longer valid, of nobody."""
    issuer = _Issuer()
    async with _serving(start, issued, issuer) as api:
        await api.settle()
        assert (await _whoami(api, issuer.token(**claims))).status == 401


async def test_another_key_under_the_same_name_proves_nothing(
    start: Callable[..., Any], issued: pki.Pki
) -> None:
    """The signature is looked at, and no token is signed by none."""
    issuer, forger = _Issuer(), _Issuer()
    async with _serving(start, issued, issuer) as api:
        await api.settle()
        assert (await _whoami(api, forger.token())).status == 401
        unsigned = jwt.encode({"iss": URL, "aud": "ondol", "sub": "ann", "exp": NOW + 9}, "", "none")
        assert (await _whoami(api, unsigned)).status == 401


async def test_a_new_key_is_fetched_when_a_token_names_it(start: Callable[..., Any], issued: pki.Pki) -> None:
    """At once, but not for every token with a name that is none."""
    issuer = _Issuer()
    async with _serving(start, issued, issuer) as api:
        await api.settle()
        await api.clock.advance(20.0)
        issuer.rotate("two")
        assert (await _whoami(api, issuer.token())).status == 201
        asked = issuer.asked
        issuer.key_id = "none"
        for _ in range(3):
            assert (await _whoami(api, issuer.token())).status == 401
        assert issuer.asked == asked


async def test_a_token_of_a_withdrawn_key_is_soon_believed_no_more(
    start: Callable[..., Any], issued: pki.Pki
) -> None:
    """What was verified once is verified anew after ten seconds, by the keys there are then."""
    issuer = _Issuer()
    async with _serving(start, issued, issuer) as api:
        await api.settle()
        await api.clock.advance(20.0)
        former = issuer.token()
        assert (await _whoami(api, former)).status == 201
        issuer.rotate("two")
        assert (await _whoami(api, issuer.token())).status == 201
        await api.clock.advance(11.0)
        assert (await _whoami(api, former)).status == 401
        assert (await _whoami(api, issuer.token())).status == 201


async def test_an_issuer_that_hangs_stops_nobody_else(start: Callable[..., Any], issued: pki.Pki) -> None:
    """Its tokens are refused after ten seconds, and taken once it answers."""
    issuer = _Issuer()
    issuer.hangs = True
    async with _serving(start, issued, issuer) as api:
        await api.settle()
        answers: list[int] = []

        async def ask() -> None:
            answers.append((await _whoami(api, issuer.token())).status)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await api.settle()
            assert (await api.get("/api/v1/namespaces/default")).status == 200
            assert answers == []
            for _ in range(3):
                await api.clock.advance(10.0)
                await api.settle()
        assert answers == [401]
        issuer.hangs = False
        for _ in range(3):
            await api.clock.advance(10.0)
            await api.settle()
        assert (await _whoami(api, issuer.token())).status == 201


async def test_who_is_anonymous_is_said_by_paths(start: Callable[..., Any], issued: pki.Pki) -> None:
    """Elsewhere, who says nothing is refused."""
    anonymous = {"enabled": True, "conditions": [{"path": "/livez"}]}
    async with _serving(start, issued, _Issuer(), anonymous=anonymous) as api:
        assert (await api.as_("").get("/livez")).status == 200
        assert (await api.as_("").get("/version")).status == 401
    async with _serving(start, issued, _Issuer(), anonymous={"enabled": False}) as api:
        assert (await api.as_("").get("/livez")).status == 401


CLAIMS: Final = {"sub": "ann", "email": "a@b.cd", "email_verified": True, "roles": ["x"], "org": "o", "n": 1}


def _mapped(claims: dict[str, Any], **more: Any) -> User:
    read = configuration.Configuration(_config(**more), "https://own.example.com")
    return read.issuers[0][1].user(claims)


@pytest.mark.parametrize(
    ("more", "user"),
    [
        ({}, User("oidc:ann")),
        (
            {"mappings": {"username": {"claim": "email", "prefix": ""}, "uid": {"claim": "org"}}},
            User("a@b.cd", (), "o"),
        ),
        (
            {
                "mappings": {
                    "username": {"expression": "'u:' + claims.sub"},
                    "groups": {"expression": "claims.roles.map(r, 'g:' + r)"},
                    "uid": {"expression": "claims.sub"},
                    "extra": [{"key": "example.com/org", "valueExpression": "claims.org"}],
                }
            },
            User("u:ann", ("g:x",), "ann", {"example.com/org": ("o",)}),
        ),
        ({"claimValidationRules": [{"claim": "org", "requiredValue": "o"}]}, User("oidc:ann")),
        ({"claimValidationRules": [{"expression": "claims.n == 1"}]}, User("oidc:ann")),
        (
            {"userValidationRules": [{"expression": "!user.username.startsWith('system:')"}]},
            User("oidc:ann"),
        ),
    ],
)
def test_claims_make_the_user(more: dict[str, Any], user: User) -> None:
    """By names of claims or by expressions."""
    assert _mapped(CLAIMS, **more) == user


@pytest.mark.parametrize(
    ("claims", "more", "message"),
    [
        (
            {"org": "p"},
            {"claimValidationRules": [{"claim": "org", "requiredValue": "o"}]},
            "required claim org value does not match",
        ),
        (
            {"n": 2},
            {"claimValidationRules": [{"expression": "claims.n == 1", "message": "n must be one"}]},
            "n must be one",
        ),
        ({}, {"claimValidationRules": [{"expression": "claims.none == 1"}]}, "resulted in error"),
        (
            {},
            {"userValidationRules": [{"expression": "user.username != 'oidc:ann'", "message": "not ann"}]},
            "error evaluating user info: not ann",
        ),
        (
            {"email_verified": False},
            {"mappings": {"username": {"claim": "email", "prefix": ""}}},
            "email not verified",
        ),
        ({"groups": [1]}, {}, "groups must be a string or a list of strings"),
    ],
)
def test_what_does_not_hold_lets_nobody_in(
    claims: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    """With the reason, which the log tells and the caller does not see."""
    with pytest.raises(InvalidToken, match=message):
        _mapped({**CLAIMS, **claims}, **more)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"issuer": {"url": "http://x"}}, "URL scheme must be https"),
        ({"issuer": {"audiences": []}}, "at least one is required"),
        ({"issuer": {"audiences": ["a", "b"]}}, "must be MatchAny"),
        ({"issuer": {"url": "https://own.example.com"}}, "must not overlap"),
        ({"issuer": {"egressSelectorType": "cluster"}}, "unknown field"),
        ({"mappings": {"username": {"claim": "sub"}}}, "prefix is required when claim is set"),
        ({"mappings": {"username": {}}}, "claim or expression is required"),
        ({"mappings": {"username": {"expression": "claims.sub +"}}}, "compilation failed"),
        ({"mappings": {"username": {"expression": "claims.email"}}}, "claims.email_verified must be used"),
        ({"claimValidationRules": [{}]}, "claim or expression is required"),
        ({"anonymous": {"enabled": False, "conditions": [{"path": "/"}]}}, "enabled should be set to true"),
    ],
)
def test_a_configuration_that_is_none_is_refused(more: dict[str, Any], message: str) -> None:
    """With what is wrong: the server does not start with rules that it does not follow."""
    with pytest.raises(errors.HostError, match=message):
        configuration.Configuration(_config(**more), "https://own.example.com")


def test_numbers_are_no_names() -> None:
    """A claim that is no text names nobody."""
    with pytest.raises(InvalidToken, match="no user name"):
        _mapped({"sub": math.pi})
