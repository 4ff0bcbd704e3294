"""What the server is given from outside: who calls, what they may do, how to reach a node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from ondol.apiserver.admission.request import Request as AdmissionRequest
from ondol.apiserver.auth.identity import User
from ondol.apiserver.auth.rbac import Attributes, Decision
from ondol.apiserver.exchange import ByteStream, Request, Trail
from ondol.apiserver.strategy import Context
from ondol.base.errors import Cause

CONNECTION: Final = "ondol.connection"
"""Scope key where the edge puts the `Connection` a request came by; callers in process have none."""


class Connection(Protocol):
    """What a request came by, for as long as it is open."""

    @property
    def is_authenticated(self) -> bool:
        """Whether it counts among a user's own."""
        ...

    def authenticated(self, give_back: Callable[[], None]) -> None:
        """It counts among a user's own from now on; `give_back` is called when it is lost."""
        ...


class Authenticator(Protocol):
    """Finds the caller behind an ASGI scope."""

    def authenticate(self, scope: Mapping[str, Any]) -> User:
        """The user; `Unauthorized` if the credentials prove nothing."""
        ...


class Auditor(Protocol):
    """Keeps the audit log."""

    def trail(self, request: Request, audit_id: str) -> Trail: ...


class Authorizer(Protocol):
    """Decides what a user may do."""

    def authorize(self, user: User, attributes: Attributes) -> Decision: ...


class Admission(Protocol):
    """What is asked of each write outside of this process, as webhooks are.

    It may wait as long as the request may, and is cancelled with it. What it raises refuses the write.
    """

    async def mutate(self, context: Context, request: AdmissionRequest) -> None:
        """Complete `request.new`, behind the plug-ins of this process and before validation."""
        ...

    async def validate(self, context: Context, request: AdmissionRequest) -> None:
        """Refuse the object as it will be stored, or warn of it (`context.warn`)."""
        ...


class HttpsTarget(NamedTuple):
    """Where a request goes. `authority` (PEM) signs the server's certificate; if empty, the system's do."""

    url: str
    authority: bytes = b""
    server_name: str = ""
    """The name in the certificate; that of the URL if it is empty."""
    address: tuple[str, int] | None = None
    """Host and port to connect to; those of the URL if there is none."""


class Poster(Protocol):
    """Posts JSON to servers outside of the platform's own parts, as webhooks are."""

    async def post(self, target: HttpsTarget, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; `OSError` if there is none. It waits as long as it is let."""
        ...


class Getter(Protocol):
    """Reads from servers outside of the platform's own parts, as issuers of tokens are."""

    async def get(self, target: HttpsTarget) -> tuple[int, bytes]:
        """Status and body of the answer; `OSError` if there is none. It waits as long as it is let."""
        ...


class KindRules(Protocol):
    """What a custom kind's author fills in, refuses and warns of beyond its schema, as webhooks would."""

    def default(self, new: dict[str, Any], old: Mapping[str, Any] | None, user: str) -> None:
        """Fill in, in place, an object that fits its schema; `old` is None on create, `user` who writes."""
        ...

    def judge(
        self, new: Mapping[str, Any], old: Mapping[str, Any] | None, user: str
    ) -> tuple[Sequence[Cause], Sequence[str]]:
        """Of a write that fits the schema: everything wrong, and what its author should know if nothing is.

        `old` is None on create, `user` who writes.
        """
        ...


@runtime_checkable
class Converting(Protocol):
    """Rules of a custom kind whose versions differ, and that know each from the others."""

    def convert(self, obj: Mapping[str, Any], api_version: str) -> dict[str, Any]:
        """The object, of another version, as this one."""
        ...


class NodeAnswer(Protocol):
    """A node agent's answer, as it comes."""

    status: int
    content_type: str

    def chunks(self) -> AsyncIterator[bytes]: ...


class NodeSocket(Protocol):
    """A conversation with a node agent, in messages."""

    async def receive(self) -> bytes | None:
        """The next message; None at the end."""
        ...

    async def send(self, message: bytes) -> None:
        """As the agent takes it; nothing once it is gone."""
        ...


class NodeProxy(Protocol):
    """Reaches the node agents' HTTP interfaces; where a node's is, is known to who implements this."""

    def get(self, node: str, path: str, query: Mapping[str, str]) -> AbstractAsyncContextManager[NodeAnswer]:
        """`Unavailable` if the agent does not answer."""
        ...

    def connect(
        self, node: str, path: str, query: Sequence[tuple[str, str]]
    ) -> AbstractAsyncContextManager[NodeSocket]:
        """A WebSocket to the agent; what it refuses is raised as the `ApiError` it answers with."""
        ...


class Trust(NamedTuple):
    """How a server is known, to which this one shows in turn who it is (its front-proxy certificate)."""

    server_name: str
    """The name in its certificate."""
    authority: bytes = b""
    """Who signs that (PEM); if empty, the authorities of the system do."""
    is_verified: bool = True


class Destination(NamedTuple):
    """A server that requests are handed on to: an address, or the agent of a node."""

    scheme: str
    host: str = ""
    port: int = 0
    node: str = ""
    trust: Trust | None = None
    """None of servers whose certificates, if they have any, nobody signed."""
    called: str = ""
    """The host that it is to be asked for, where it tells several by that."""

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


class Forwarded(NamedTuple):
    """A request as the other server gets it; `target` is path and query, header names are in lower case."""

    method: str
    target: str
    headers: Sequence[tuple[bytes, bytes]]


class ForwardedAnswer(Protocol):
    """The other server's answer, as it comes."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    """All that are for the client; names in lower case."""

    def chunks(self) -> AsyncIterator[bytes]: ...


class Forwarder(Protocol):
    """Hands requests on to servers in pods and to node agents. `OSError` says why none answers.

    Certificates are verified where the destination says how. Of pods they are not, as Kubernetes does not:
    they have none that anybody signed.
    """

    def request(
        self, to: Destination, request: Forwarded, body: AsyncIterator[bytes] | None
    ) -> AbstractAsyncContextManager[ForwardedAnswer]: ...

    def upgrade(
        self, to: Destination, request: Forwarded
    ) -> AbstractAsyncContextManager[tuple[int, bytes, ByteStream]]:
        """Ask for another protocol: the status, the answer's head as it came, and what follows it."""
        ...
