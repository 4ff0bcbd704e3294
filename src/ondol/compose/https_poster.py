"""Edge: how the API server calls webhooks: HTTPS by aiohttp, to whom they trust and no further."""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp

from ondol.apiserver.ports import HttpsTarget
from ondol.base import errors
from ondol.compose import self_issued, tls

_ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
_IDLE_S: Final = 30.0
_PIECE_BYTES: Final = 64 * 1024


class HttpsPoster:
    """Implements the API server's ports `Poster` and `Getter`. Connections are kept for further calls."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._self_issued = self_issued.SelfIssued()

    async def post(self, target: HttpsTarget, body: bytes) -> tuple[int, bytes]:
        trusting = self._self_issued.trusting(target)
        try:
            return await self._post(trusting, body)
        except OSError as error:
            if not self_issued.may_explain(_cause(error), is_kept=trusting != target):
                raise
            await self._self_issued.learn(target)
            anew = self._self_issued.trusting(target)
            if anew == trusting:
                raise
        return await self._post(anew, body)  # nothing was sent on the connection that was refused

    async def get(self, target: HttpsTarget) -> tuple[int, bytes]:
        """Implements `Getter`."""
        return await self._ask("GET", target, None)

    async def _post(self, target: HttpsTarget, body: bytes) -> tuple[int, bytes]:
        return await self._ask("POST", target, body)

    async def _ask(self, method: str, target: HttpsTarget, body: bytes | None) -> tuple[int, bytes]:
        if self._session is None:
            # The caller has a limit of its own; redirects could lead anywhere.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
            )
        url, host = target.url, ""
        if target.address is not None:
            url, host = _at(target.url, target.address)
        try:
            context = tls.trusting(target.authority)
            async with self._session.request(
                method,
                url,
                data=body,
                ssl=context,
                server_hostname=target.server_name or None,
                headers={"Host": host} if host else None,
                allow_redirects=False,
            ) as response:
                return response.status, await _bounded(response)
        except aiohttp.ClientConnectorError as error:  # its own text shows objects of Python
            raise OSError(f"dial {error.host}:{error.port}: {_reason(error.os_error)}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


def _at(url: str, address: tuple[str, int]) -> tuple[str, str]:
    """The URL with another authority, and the one it had: that is what the server expects to be called."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    ip, port = address
    return f"{scheme}://{f'[{ip}]' if ':' in ip else ip}:{port}{slash}{path}", host


def _cause(error: OSError) -> OSError | None:
    """Why there was no connection; None if there was."""
    return error.__cause__.os_error if isinstance(error.__cause__, aiohttp.ClientConnectorError) else None


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return tls.refusal(error)
    return errors.why(error)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The whole body; `OSError` if it is larger than any answer has reason to be."""
    body = bytearray()
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        body += piece
        if len(body) > _ANSWER_BYTES_MAX:
            raise OSError(f"the answer is larger than {_ANSWER_BYTES_MAX} bytes")
    return bytes(body)
