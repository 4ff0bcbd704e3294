"""Bearer tokens of every kind, asked in Kubernetes' order: who a token proves, and TokenReviews."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ondol.api.objects import Object
from ondol.apiserver.auth import identity
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.tokens import InvalidToken


class Bearer(Protocol):
    """One kind of tokens."""

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]] | None:
        """The user and for which of the audiences; None for a token of another kind, else `InvalidToken`."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A kind of tokens whose keys are elsewhere."""

    async def learn(self, token: str) -> bool:
        """Whether asking there has found the key of a token that was not known."""
        ...


class Bearers:
    """All kinds that a server takes. The first to know a token decides."""

    def __init__(self, kinds: Sequence[Bearer]) -> None:
        self._kinds = tuple(kinds)

    def verify(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, tuple[str, ...]]:
        """The user a token proves, and which of `audiences` (the server's own by default) it is for.

        `InvalidToken` if none of them proves anything by it, with the reason of each.
        """
        reasons: list[str] = []
        for kind in self._kinds:
            try:
                outcome = kind.verify(token, audiences)
            except InvalidToken as error:
                reasons.append(str(error))
                continue
            if outcome is not None:
                return identity.authenticated(outcome[0]), outcome[1]
        raise InvalidToken(", ".join(reasons) or "no authenticator knows this token")

    async def learn(self, token: str) -> bool:
        """Whether asking who made a token has brought what it takes to verify it."""
        for kind in self._kinds:
            if isinstance(kind, Learner) and await kind.learn(token):
                return True
        return False

    def review(self, document: Object) -> Object:
        """Answer a TokenReview: whose token it is, or why it is nobody's."""
        spec = document.get("spec") or {}
        audiences = tuple(spec.get("audiences") or ())
        try:
            user, accepted = self.verify(spec.get("token") or "", audiences)
        except InvalidToken as error:
            outcome: Object = {
                "authenticated": False,
                "user": {},
                "error": f"[invalid bearer token, {error}]",
            }
        else:
            outcome = {"authenticated": True, "user": user.document(), "audiences": list(accepted)}
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": document.get("metadata") or {},
            "spec": spec,
            "status": outcome,
        }


def for_server(
    user: User, own: Sequence[str], audiences: Sequence[str]
) -> tuple[User, tuple[str, ...]] | None:
    """What a token without audiences is worth: it is for this server (`own`) and for nobody else."""
    accepted = tuple(audience for audience in own if audience in audiences) if audiences else tuple(own)
    return (user, accepted) if accepted else None
