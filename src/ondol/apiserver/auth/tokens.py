"""Service-account tokens: issue (TokenRequest), verify and publish the keys.

A token is a JWT with Kubernetes' claims. Verification checks signature, issuer, audience and times,
and then that the service account, and the pod, secret or node the token is bound to, still exist
with the same uid, so that deleting one of them revokes the token at once.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from ondol.api import objects, resources, status
from ondol.api.objects import Object, Resource
from ondol.apiserver.auth import identity
from ondol.apiserver.auth.identity import Lookup, User
from ondol.base import clock as clocks
from ondol.base import errors

DEFAULT_EXPIRATION_S: Final = 3600
MINIMUM_EXPIRATION_S: Final = 600
MAXIMUM_EXPIRATION_S: Final = 2**32
_PRIVATE: Final = "kubernetes.io"
_EXTRA: Final = "authentication.kubernetes.io"
# Things deleted longer ago than this are gone for the token, as in Kubernetes.
_DELETED_LEEWAY_S: Final = 60.0
_CACHED_MAX: Final = 1024

TOKEN_REQUEST: Final = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
_BINDABLE: Final[Mapping[tuple[str, str], Resource]] = {
    ("v1", "Pod"): resources.POD,
    ("v1", "Secret"): resources.SECRET,
    ("v1", "Node"): resources.NODE,
}


class InvalidToken(errors.OndolError):
    """The token does not prove what it claims; the text may be shown to the caller."""


@dataclass(frozen=True, slots=True)
class _Claims:
    namespace: str
    account: Mapping[str, str]
    bound: Mapping[str, Mapping[str, str]]
    audiences: tuple[str, ...]
    not_before: float
    expiry: float
    token_id: str


class Tokens:
    """The signing key with what belongs to it: issuer, the server's own audiences and its objects."""

    def __init__(
        self,
        key_pem: bytes,
        *,
        issuer: str,
        audiences: Sequence[str] = (),
        clock: clocks.Clock,
        lookup: Lookup,
        new_id: Callable[[], str],
    ) -> None:
        self._key = _private_key(key_pem)
        self._public = self._key.public_key()
        self._algorithm = "ES256" if isinstance(self._key, ec.EllipticCurvePrivateKey) else "RS256"
        self.key_id = _key_id(self._public)
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._clock = clock
        self._lookup = lookup
        self._new_id = new_id
        self._verified: dict[str, _Claims] = {}

    def request(self, document: Object, namespace: str, name: str) -> Object:
        """Answer a TokenRequest for a service account: the document with its token in the status."""
        account = self._lookup(resources.SERVICE_ACCOUNT, namespace, name)
        if account is None:
            raise status.not_found(resources.SERVICE_ACCOUNT, name)
        self._check_metadata(document, account)
        spec = document.get("spec") or {}
        audiences = tuple(spec.get("audiences") or ()) or self.audiences
        expiration_s = _expiration_s(spec)
        bound = self._bound(spec.get("boundObjectRef"), namespace, name)
        now = self._clock.now()
        token = self._sign(account, audiences, expiration_s, bound, now)
        granted = {**spec, "audiences": list(audiences), "expirationSeconds": expiration_s}
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {
                **(document.get("metadata") or {}),
                "name": name,
                "namespace": namespace,
                "uid": objects.uid(account),
                "creationTimestamp": clocks.rfc3339(now),
            },
            "spec": granted,
            "status": {"token": token, "expirationTimestamp": clocks.rfc3339(now + expiration_s)},
        }

    def _check_metadata(self, document: Object, account: Object) -> None:
        for field in ("name", "namespace"):
            value = objects.metadata(document).get(field)
            if value and value != objects.metadata(account)[field]:
                message = f'Invalid value: "{value}": must match the service account {field} if specified'
                cause = errors.Cause("FieldValueInvalid", message, f"metadata.{field}")
                raise status.invalid(TOKEN_REQUEST, objects.name(account), [cause])
        value = objects.uid(document)
        if value and value != objects.uid(account):
            raise status.conflict(
                TOKEN_REQUEST,
                objects.name(account),
                f"the UID in the token request ({value}) does not match the UID of the service account "
                f"({objects.uid(account)})",
            )

    def _bound(self, reference: Mapping[str, Any] | None, namespace: str, account: str) -> Object:
        """The claims that tie the token to an object, which must exist and have the asked-for uid."""
        if not reference:
            return {}
        api_version, kind = reference.get("apiVersion") or "", reference.get("kind") or ""
        resource = _BINDABLE.get((api_version, kind))
        if resource is None:
            raise errors.BadRequest(f"cannot bind token to object of type {api_version}, Kind={kind}")
        name = reference.get("name") or ""
        bound = self._lookup(resource, namespace if resource.namespaced else "", name)
        if bound is None:
            raise status.not_found(resource, name)
        if kind == "Pod" and objects.spec(bound).get("serviceAccountName") != account:
            raise errors.BadRequest(
                f'cannot bind token for serviceaccount "{account}" to pod running with different '
                "serviceaccount name."
            )
        if reference.get("uid") and reference["uid"] != objects.uid(bound):
            raise status.conflict(
                resource,
                name,
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in "
                "record. The object might have been deleted and then recreated",
            )
        return self._bound_claims(kind.lower(), bound)

    def _bound_claims(self, kind: str, bound: Object) -> Object:
        claims: Object = {kind: {"name": objects.name(bound), "uid": objects.uid(bound)}}
        node_name = objects.spec(bound).get("nodeName") if kind == "pod" else None
        if node_name:
            node = self._lookup(resources.NODE, "", node_name)
            claims["node"] = {"name": node_name, **({"uid": objects.uid(node)} if node else {})}
        return claims

    def _sign(
        self, account: Object, audiences: Sequence[str], expiration_s: int, bound: Object, now: float
    ) -> str:
        namespace, name = objects.namespace(account), objects.name(account)
        claims = {
            "aud": list(audiences),
            "exp": int(now) + expiration_s,
            "iat": int(now),
            "nbf": int(now),
            "iss": self.issuer,
            "jti": self._new_id(),
            "sub": identity.service_account_name(namespace, name),
            _PRIVATE: {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": objects.uid(account)},
                **bound,
            },
        }
        return jwt.encode(claims, self._key, self._algorithm, headers={"kid": self.key_id})

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]]:
        """The user a token proves, and which of `audiences` (the server's own by default) it is for."""
        claims = self._verified.get(token) or self._decode(token)
        now = self._clock.now()
        if now >= claims.expiry:
            self._verified.pop(token, None)
            raise InvalidToken("service account token has expired")
        if now < claims.not_before - _DELETED_LEEWAY_S:
            raise InvalidToken("service account token is not valid yet")
        accepted = tuple(a for a in (audiences or self.audiences) if a in claims.audiences)
        if not accepted:
            raise InvalidToken(
                f"token audiences {_quoted(claims.audiences)} is invalid for the target audiences "
                f"{_quoted(audiences or self.audiences)}"
            )
        self._check_living(claims, now)
        return _user(claims), accepted

    def _decode(self, token: str) -> _Claims:
        try:
            payload = jwt.decode(
                token,
                self._public,
                algorithms=[self._algorithm],
                issuer=self.issuer,
                # Times are judged by our own clock, audiences by whoever asks.
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "require": ["exp", "iss", "sub", "aud"],
                },
            )
        except jwt.InvalidTokenError as error:
            raise InvalidToken(f"invalid bearer token: {error}") from error
        claims = _claims(payload)
        if len(self._verified) >= _CACHED_MAX:
            self._verified.clear()
        self._verified[token] = claims
        return claims

    def _check_living(self, claims: _Claims, now: float) -> None:
        name = claims.account["name"]
        account = self._lookup(resources.SERVICE_ACCOUNT, claims.namespace, name)
        if account is None:
            raise InvalidToken(f'serviceaccounts "{name}" not found')
        if objects.uid(account) != claims.account["uid"]:
            raise InvalidToken(
                f"service account UID ({objects.uid(account)}) does not match claim ({claims.account['uid']})"
            )
        if _deleted(account, now):
            raise InvalidToken(f"service account {claims.namespace}/{name} has been deleted")
        for kind, reference in claims.bound.items():
            if kind == "node" and "pod" in claims.bound:
                continue  # only tells where the pod runs; the pod itself is what counts
            self._check_bound(kind, reference, claims.namespace, now)

    def _check_bound(self, kind: str, reference: Mapping[str, str], namespace: str, now: float) -> None:
        resource = _BINDABLE[("v1", kind.capitalize())]
        bound = self._lookup(resource, namespace if resource.namespaced else "", reference["name"])
        if bound is None or _deleted(bound, now):
            raise InvalidToken("service account token has been invalidated")
        if objects.uid(bound) != reference.get("uid"):
            raise InvalidToken(
                f"{kind} UID ({objects.uid(bound)}) does not match service account {kind} ref claim "
                f"({reference.get('uid')})"
            )

    def openid_configuration(self, jwks_uri: str) -> Object:
        """`/.well-known/openid-configuration`."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._algorithm],
        }

    def jwks(self) -> Object:
        """`/openid/v1/jwks`: the public key others verify tokens with."""
        if isinstance(self._public, ec.EllipticCurvePublicKey):
            written = ECAlgorithm.to_jwk(self._public)
        else:
            written = RSAAlgorithm.to_jwk(self._public)
        key: Object = msgspec.json.decode(written)
        key.pop("key_ops", None)
        return {"keys": [{**key, "use": "sig", "kid": self.key_id, "alg": self._algorithm}]}


def _expiration_s(spec: Mapping[str, Any]) -> int:
    requested = spec.get("expirationSeconds")
    seconds = DEFAULT_EXPIRATION_S if requested is None else int(requested)
    problem = ""
    if seconds < MINIMUM_EXPIRATION_S:
        problem = "may not specify a duration less than 10 minutes"
    elif seconds > MAXIMUM_EXPIRATION_S:
        problem = "may not specify a duration larger than 2^32 seconds"
    if problem:
        cause = errors.Cause(
            "FieldValueInvalid", f"Invalid value: {seconds}: {problem}", "spec.expirationSeconds"
        )
        raise status.invalid(TOKEN_REQUEST, "", [cause])
    return seconds


def _claims(payload: Mapping[str, Any]) -> _Claims:
    private = payload.get(_PRIVATE)
    if not isinstance(private, Mapping) or not isinstance(private.get("serviceaccount"), Mapping):
        raise InvalidToken("token has no service account claims")
    namespace, account = str(private.get("namespace") or ""), private["serviceaccount"]
    if payload["sub"] != identity.service_account_name(namespace, str(account.get("name"))):
        raise InvalidToken("token subject does not match its service account claims")
    audience = payload["aud"]
    return _Claims(
        namespace=namespace,
        account={"name": str(account.get("name")), "uid": str(account.get("uid"))},
        bound={kind: private[kind] for kind in ("pod", "secret", "node") if private.get(kind)},
        audiences=(audience,) if isinstance(audience, str) else tuple(audience),
        not_before=float(payload.get("nbf") or 0),
        expiry=float(payload["exp"]),
        token_id=str(payload.get("jti") or ""),
    )


def _user(claims: _Claims) -> User:
    extra: dict[str, tuple[str, ...]] = {}
    if claims.token_id:
        extra[f"{_EXTRA}/credential-id"] = (f"JTI={claims.token_id}",)
    for kind in ("pod", "node"):
        reference = claims.bound.get(kind) or {}
        for field in ("name", "uid"):
            if reference.get(field):
                extra[f"{_EXTRA}/{kind}-{field}"] = (reference[field],)
    return User(
        identity.service_account_name(claims.namespace, claims.account["name"]),
        identity.service_account_groups(claims.namespace),
        claims.account["uid"],
        extra,
    )


def _deleted(obj: Object, now: float) -> bool:
    since = objects.metadata(obj).get("deletionTimestamp")
    return since is not None and clocks.parse_rfc3339(since) < now - _DELETED_LEEWAY_S


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    key: PrivateKeyTypes = serialization.load_pem_private_key(pem, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, rsa.RSAPrivateKey):
        return key
    raise errors.HostError(
        "the service-account signing key must be an EC P-256 or an RSA key",
        remedy="remove the key file to have a new one made",
    )


def _key_id(public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode("ascii")


def _quoted(words: Iterable[str]) -> str:
    return "[" + " ".join(f'"{word}"' for word in words) + "]"
