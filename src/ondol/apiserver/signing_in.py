"""Who signs in to a server, and by what: put together from its configuration, keys and objects."""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ondol.apiserver.auth import authenticate, identity
from ondol.apiserver.auth.authenticate import CERTIFICATE, IDENTITY
from ondol.apiserver.auth.bearers import Bearer, Bearers
from ondol.apiserver.auth.bootstrap_tokens import BootstrapTokens
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.tokens import Tokens
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.core import new_uid
from ondol.apiserver.exchange import Scope
from ondol.apiserver.lifecycle import Task
from ondol.apiserver.ports import Authenticator, Getter
from ondol.apiserver.state import State
from ondol.base import errors
from ondol.base.clock import Clock

if TYPE_CHECKING:
    from ondol.apiserver.auth.oidc.configuration import Configuration
    from ondol.apiserver.auth.oidc.issuers import Issuers


class SigningIn(NamedTuple):
    """All that a server knows its callers by."""

    authenticator: Authenticator
    tokens: Tokens | None = None
    bearers: Bearers | None = None
    learn: Callable[[Scope], Awaitable[bool]] | None = None
    """Of who was refused: whether what knows them has been fetched meanwhile."""
    tasks: tuple[Task, ...] = ()


def of(
    config: ApiConfig,
    key: bytes | None,
    state: State,
    clock: Clock,
    *,
    rng: random.Random,
    getter: Getter | None,
) -> SigningIn:
    """With a `key` tokens are known; without, only what the edge verified."""
    if key is None:
        return SigningIn(Certified())
    new_id = functools.partial(new_uid, rng)
    tokens = Tokens(key, issuer=config.issuer, clock=clock, lookup=state.lookup, new_id=new_id)
    oidc = _oidc(config, tokens, getter, clock)
    bearers = _bearers(config, tokens, state, clock, oidc)
    authenticator = _authenticator(config, bearers, oidc)
    if oidc is None:
        return SigningIn(authenticator, tokens, bearers)
    return SigningIn(authenticator, tokens, bearers, authenticator.learn, tuple(oidc[1].tasks))


class Certified:
    """Knows callers by what the edge verified; tokens mean nothing to it."""

    def authenticate(self, scope: Mapping[str, Any]) -> User:
        if in_process := scope.get(IDENTITY):
            return identity.authenticated(identity.from_document(in_process))
        if certificate := scope.get(CERTIFICATE):
            return identity.of_certificate(certificate)
        if any(name == b"authorization" for name, _ in scope["headers"]):
            raise errors.Unauthorized("Unauthorized")
        return identity.anonymous()


def _oidc(
    config: ApiConfig, tokens: Tokens, getter: Getter | None, clock: Clock
) -> tuple[Configuration, Issuers] | None:
    """Whose tokens are taken beside the server's own; None without a configuration."""
    if not config.authentication or getter is None:
        return None
    from ondol.apiserver import bodies  # noqa: PLC0415 - only who has one pays for it
    from ondol.apiserver.auth.oidc import configuration, issuers  # noqa: PLC0415 - likewise

    try:
        document = bodies.parse(config.authentication.encode(), bodies.YAML)
    except errors.BadRequest as error:
        raise errors.HostError(f"authentication_config: {error}", remedy="correct that file") from error
    read = configuration.Configuration(document, tokens.issuer)
    return read, issuers.Issuers(read, getter, clock, tokens.audiences)


def _authenticator(
    config: ApiConfig, bearers: Bearers, oidc: tuple[Configuration, Issuers] | None
) -> authenticate.Authenticator:
    proxied = config.request_headers
    anonymous = oidc[0].anonymous if oidc is not None else None
    if anonymous is None:
        return authenticate.Authenticator(bearers, proxied=proxied)
    paths = frozenset(each.path for each in anonymous.conditions) or None
    return authenticate.Authenticator(bearers, anonymous=anonymous.enabled, paths=paths, proxied=proxied)


def _bearers(
    config: ApiConfig,
    tokens: Tokens,
    state: State,
    clock: Clock,
    oidc: tuple[Configuration, Issuers] | None,
) -> Bearers:
    """All kinds of tokens, in Kubernetes' order but for service accounts: what is no JWT is sooner seen."""
    kinds: list[Bearer] = []
    if config.token_file:
        from ondol.apiserver.auth import token_file  # noqa: PLC0415 - only who has one pays for it

        kinds.append(token_file.FileTokens(config.token_file, tokens.audiences))
    kinds.append(BootstrapTokens(state.lookup, clock, tokens.audiences))
    if oidc is not None:
        kinds.append(oidc[1])
    kinds.append(tokens)
    return Bearers(kinds)
