"""Tokens that are no service account's: of a file, and those by which machines first sign in."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from ondol import apiserver
from ondol.apiserver import pki
from ondol.apiserver.auth import bootstrap_tokens, token_file
from ondol.base import clock, errors

pytestmark = pytest.mark.anyio

SECRETS: Final = "/api/v1/namespaces/kube-system/secrets"
WHO: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
TOKEN: Final = "abcdef.0123456789abcdef"
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture
async def taking(start: Callable[..., Any], issued: pki.Pki) -> AsyncIterator[Any]:
    """A server that takes tokens of every kind."""
    config = apiserver.ApiConfig(token_file='s3cret,ann,u1,"team,ops"\n')
    key = issued.service_account_key_file.read_bytes()
    async with start(config=config, service_account_key=key) as api:
        yield api


def _secret(**changes: str) -> dict[str, Any]:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:ours",
        **changes,
    }
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items() if value}
    kind = bootstrap_tokens.SECRET_TYPE
    return {"metadata": {"name": "bootstrap-token-abcdef"}, "type": kind, "data": encoded}


async def _whoami(api: Any, token: str) -> Any:
    return await api.as_("")("POST", WHO, {}, {"authorization": f"Bearer {token}"})


async def test_a_token_of_the_file_signs_in(taking: Any) -> None:
    """With name, uid and groups of its row; another one does not."""
    answer = await _whoami(taking, "s3cret")
    assert answer.status == 201, answer.json
    assert answer.json["status"]["userInfo"] == {
        "username": "ann",
        "uid": "u1",
        "groups": ["team", "ops", "system:authenticated"],
    }
    assert (await _whoami(taking, "s3cre")).status == 401


async def test_a_bootstrap_token_signs_in_until_its_secret_goes(taking: Any) -> None:
    """As who Kubernetes says, with the groups of the Secret."""
    assert (await _whoami(taking, TOKEN)).status == 401
    await taking.post(SECRETS, _secret())
    answer = await _whoami(taking, TOKEN)
    assert answer.status == 201, answer.json
    assert answer.json["status"]["userInfo"] == {
        "username": "system:bootstrap:abcdef",
        "groups": ["system:bootstrappers", "system:bootstrappers:ours", "system:authenticated"],
    }
    await taking.delete(f"{SECRETS}/bootstrap-token-abcdef")
    assert (await _whoami(taking, TOKEN)).status == 401


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"token-secret": "other"}, "has invalid value for key token-secret"),
        ({"token-id": "other"}, "has invalid value for key token-id"),
        ({"expiration": clock.rfc3339(99)}, "has expired"),
        ({"expiration": clock.rfc3339(101)}, ""),
        ({"expiration": "soon"}, "has expired"),
        ({"usage-bootstrap-authentication": ""}, "is not marked usage-bootstrap-authentication=true"),
        (
            {"auth-extra-groups": "system:masters"},
            "has an invalid group 'system:masters' for key auth-extra-groups",
        ),
    ],
)
def test_what_makes_a_bootstrap_token_bad(changes: dict[str, str], reason: str) -> None:
    """Its Secret says so."""
    secret = _secret(**changes)
    assert bootstrap_tokens.refusal(secret, "abcdef", "0123456789abcdef", 100.0) == reason


def test_secrets_of_other_types_are_no_tokens() -> None:
    """Whoever may write Secrets of another type there makes no user."""
    refusal = bootstrap_tokens.refusal({**_secret(), "type": "Opaque"}, "abcdef", "0123456789abcdef", 0.0)
    assert refusal == "has invalid type, expected bootstrap.kubernetes.io/token"


async def test_reviews_know_every_kind_of_token(taking: Any) -> None:
    """For this server's audiences; what has none of its own is for no other server."""
    await taking.post(SECRETS, _secret())
    for token, name in (("s3cret", "ann"), (TOKEN, "system:bootstrap:abcdef")):
        status = (await taking.post(REVIEWS, {"spec": {"token": token}})).json["status"]
        assert (status["user"]["username"], status["audiences"]) == (name, [ISSUER])
        other = {"spec": {"token": token, "audiences": ["vault"]}}
        assert (await taking.post(REVIEWS, other)).json["status"]["authenticated"] is False


@pytest.mark.parametrize("text", ["a,b", 'a,b,c,"d'])
def test_a_file_that_is_none_is_refused(text: str) -> None:
    """With what is wrong; the server does not start with half of its users."""
    with pytest.raises(errors.HostError, match="token_file"):
        token_file.parse(text)


def test_rows_without_a_token_or_a_name_let_nobody_in() -> None:
    """They are told of in the log and left out, comments and empty lines too."""
    assert token_file.parse(",ann,1\nx,,1\n\n# a,b,c\n") == {}
