"""What the claims of a verified token make of its user, and what they must hold. Pure.

Follows `k8s.io/apiserver/plugin/pkg/authenticator/token/oidc`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ondol.api import cel
from ondol.api.cel import types as t
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.tokens import InvalidToken

if TYPE_CHECKING:
    from ondol.apiserver.auth.oidc.configuration import Jwt, Source

_CLAIMS: Final = cel.Environment({"claims": t.DYN})
_USER: Final = cel.Environment({"user": t.DYN})
_EMAIL: Final = "email"
_VERIFIED: Final = "email_verified"


class Mapper:
    """The rules of one issuer, compiled once."""

    def __init__(self, jwt: Jwt) -> None:
        """`ValueError` for an expression that is none."""
        mappings = jwt.claim_mappings
        self._jwt = jwt
        self._username = _compiled("claimMappings.username", mappings.username.expression)
        self._groups = _compiled("claimMappings.groups", mappings.groups.expression)
        self._uid = _compiled("claimMappings.uid", mappings.uid.expression)
        self._extra = [
            (each.key, _Rule(f"claimMappings.extra[{each.key}]", each.value_expression, _CLAIMS))
            for each in mappings.extra
        ]
        self._claim_rules = [
            (_compiled(f"claimValidationRules[{index}]", rule.expression), rule)
            for index, rule in enumerate(jwt.claim_validation_rules)
        ]
        self._user_rules = [
            (_Rule(f"userValidationRules[{index}]", rule.expression, _USER), rule.message)
            for index, rule in enumerate(jwt.user_validation_rules)
        ]
        used = mappings.username.expression
        others = [*(extra.value_expression for extra in mappings.extra)]
        others += [rule.expression for rule in jwt.claim_validation_rules]
        if "claims.email" in used and not any(_VERIFIED in text for text in (used, *others)):
            raise ValueError(
                "claimMappings.username.expression: claims.email_verified must be used in it, in "
                "claimMappings.extra or in claimValidationRules when claims.email is used"
            )

    def user(self, claims: Mapping[str, Any]) -> User:
        """`InvalidToken` if a rule does not hold, or a claim is not what it must be."""
        self._check_claims(claims)
        name = self._name(claims)
        groups = self._listed(self._groups, self._jwt.claim_mappings.groups, claims, "groups")
        uids = self._listed(self._uid, self._jwt.claim_mappings.uid, claims, "uid")
        extra = {key: values for key, rule in self._extra if (values := _texts(rule.of(claims), key))}
        user = User(name, groups, uids[0] if uids else "", extra)
        self._check_user(user)
        return user

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        for compiled, rule in self._claim_rules:
            if compiled is None:
                if rule.claim not in claims:
                    raise InvalidToken(f"oidc: required claim {rule.claim} not present in ID token")
                if claims[rule.claim] != rule.required_value:
                    raise InvalidToken(f"oidc: required claim {rule.claim} value does not match")
            elif compiled.of(claims) is not True:
                raise InvalidToken(
                    f"oidc: {rule.message or f'validation expression failed: {rule.expression}'}"
                )

    def _name(self, claims: Mapping[str, Any]) -> str:
        source = self._jwt.claim_mappings.username
        if source.claim == _EMAIL and claims.get(_VERIFIED, True) is not True:
            raise InvalidToken("oidc: email not verified")
        value = self._username.of(claims) if self._username is not None else claims.get(source.claim)
        if not isinstance(value, str) or not value:
            raise InvalidToken("oidc: the claims say no user name")
        return f"{source.prefix or ''}{value}"

    @staticmethod
    def _listed(rule: _Rule | None, source: Source, claims: Mapping[str, Any], field: str) -> tuple[str, ...]:
        if rule is None and not source.claim:
            return ()
        value = rule.of(claims) if rule is not None else claims.get(source.claim)
        return tuple(f"{source.prefix or ''}{text}" for text in _texts(value, field))

    def _check_user(self, user: User) -> None:
        if not self._user_rules:
            return
        document = {
            "username": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
        }
        for rule, message in self._user_rules:
            if rule.of(document) is not True:
                raise InvalidToken(f"oidc: error evaluating user info: {message or rule.source}")


class _Rule:
    """One expression of claims or of a user."""

    def __init__(self, place: str, source: str, environment: cel.Environment) -> None:
        self.source = source
        self._variable = next(iter(environment.variables))
        try:
            self._program = cel.compile(source, environment)
        except cel.CelError as error:
            raise ValueError(f"{place}: compilation failed: {error}") from error

    def of(self, value: Mapping[str, Any]) -> Any:
        """`InvalidToken` if there is no value."""
        outcome = self._program.evaluate({self._variable: value}, cel.CALL_LIMIT)
        if outcome.error is not None:
            raise InvalidToken(f"oidc: expression '{self.source}' resulted in error: {outcome.error}")
        return outcome.value


def _compiled(place: str, source: str) -> _Rule | None:
    return _Rule(place, source, _CLAIMS) if source else None


def _texts(value: Any, field: str) -> tuple[str, ...]:
    """A text or a list of them; nothing is none, and so is an empty text."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Sequence) and all(isinstance(each, str) for each in value):
        return tuple(each for each in value if each)
    raise InvalidToken(f"oidc: {field} must be a string or a list of strings")
