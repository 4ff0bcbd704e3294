"""A repository of a registry, signed in to as it asks: what pulling and pushing speak with."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Final

from ondol.build import oci
from ondol.build.registry import challenges, documents
from ondol.build.registry.credentials import Login
from ondol.build.registry.errors import Absent, Denied, Refused, RegistryError, Unavailable
from ondol.build.registry.hosts import Endpoint
from ondol.build.registry.http import Answer, Body, Line, is_same_origin, place

_TOKEN_BYTES_MAX: Final = 256 * 1024
_ERROR_BYTES_MAX: Final = 64 * 1024
_WORDS_MAX: Final = 300


class Repository:
    """Requests to `/v2/<path>/` of one server. Safe from several threads.

    `Denied`, `Absent`, `Unavailable` or `RegistryError` for an answer that is not one of success.
    """

    def __init__(self, line: Line, endpoint: Endpoint, path: str, login: Login | None, action: str) -> None:
        self._line = line
        self._endpoint = endpoint
        self._path = path
        self._login = login
        self._scope = f"repository:{path}:{action}"
        self._authorization = ""
        self._lock = threading.Lock()

    def url(self, rest: str) -> str:
        return self._endpoint.url(f"{self._path}/{rest}")

    def manifest(self, target: str, digest: str = "") -> tuple[bytes, str]:
        """The document of a tag or digest, and its media type; `digest` is what its bytes must have."""
        with self.open("GET", self.url(f"manifests/{target}"), {"Accept": documents.ACCEPT}) as answer:
            text = answer.content(documents.BYTES_MAX)
            sent_type, announced = answer.header("Content-Type"), answer.header("Docker-Content-Digest")
        expected = digest or (announced if announced.startswith("sha256:") else "")
        if expected and oci.digest(text) != expected:
            raise Refused(f"the manifest {target} does not match its digest {expected}")
        return text, documents.media_type(text, sent_type)

    def digest(self, target: str) -> str:
        """What a tag is at now, without its document; empty where the registry does not say."""
        with self.open("HEAD", self.url(f"manifests/{target}"), {"Accept": documents.ACCEPT}) as answer:
            return answer.header("Docker-Content-Digest")

    @contextlib.contextmanager
    def blob(self, digest: str, first_byte: int = 0) -> Iterator[Answer]:
        """A blob from some byte on; the answer's status says whether the registry began there."""
        headers = {"Range": f"bytes={first_byte}-"} if first_byte else {}
        with self.open("GET", self.url(f"blobs/{digest}"), headers) as answer:
            yield answer

    @contextlib.contextmanager
    def open(self, method: str, url: str, headers: Mapping[str, str], body: Body = None) -> Iterator[Answer]:
        """An exchange that went well, signed in on the way if the registry asks for it."""
        for is_last in (False, True):
            is_ours = is_same_origin(url, self.url(""))
            authorization = self._authorization if is_ours else ""
            shown = {**headers, **({"Authorization": authorization} if authorization else {})}
            asked = (
                self._line.patiently(method, url, shown)
                if body is None
                else self._line.exchange(method, url, shown, body)
            )
            with asked as answer:
                if answer.status != 401 or is_last:
                    _raise_for(answer)
                    yield answer
                    return
                header = ", ".join(answer.headers.get_all("WWW-Authenticate") or ())
            self._sign_in(header, url, authorization)
            if body is not None and not isinstance(body, bytes):
                body.seek(0)

    def _sign_in(self, header: str, url: str, rejected: str) -> None:
        """Have a proof for the next try; one thread asks for it, and the others take it as well."""
        with self._lock:
            if self._authorization != rejected:
                return
            listed = challenges.parse(header)
            for challenge in listed:
                if challenge.scheme == "bearer":
                    self._authorization = f"Bearer {self._token(challenge, url)}"
                    return
            if any(challenge.scheme == "basic" for challenge in listed) and self._login is not None:
                if self._login.basic == rejected:
                    raise Denied(f"{place(url)} does not take the credentials")
                self._authorization = self._login.basic
                return
        raise Denied(f"{place(url)} wants credentials, and there are none for it")

    def _token(self, challenge: challenges.Challenge, url: str) -> str:
        realm = challenges.token_url(challenge, self._scope)
        if not realm.startswith(("https://", "http://")):
            raise Refused(f"{place(url)} names no address to sign in at")
        if url.startswith("https://") and not realm.startswith("https://"):
            raise Refused(f"{place(url)} wants its credentials sent without TLS to {place(realm)}")
        with self._token_answer(realm, challenge) as answer:
            if answer.status in (400, 401, 403):
                raise Denied(f"{place(realm)} does not take the credentials: {_words(answer)}")
            _raise_for(answer)
            text = answer.content(_TOKEN_BYTES_MAX)
        try:
            document = json.loads(text)
            token = str(document.get("token") or document["access_token"])
        except (AttributeError, LookupError, RecursionError, ValueError) as error:
            raise Refused(f"{place(realm)} sent no token") from error
        if not token.isascii() or not token.isprintable():
            raise Refused(f"{place(realm)} sent a token that cannot be one")
        return token

    def _token_answer(
        self, realm: str, challenge: challenges.Challenge
    ) -> contextlib.AbstractContextManager[Answer]:
        login = self._login
        if login is None or not login.identity_token:
            headers = {"Authorization": login.basic} if login is not None else {}
            return self._line.patiently("GET", realm, headers)
        form = {
            "grant_type": "refresh_token",
            "refresh_token": login.identity_token,
            "service": challenge.parameters.get("service", ""),
            "scope": self._scope,
            "client_id": "ondol",
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urllib.parse.urlencode(form).encode()
        return self._line.exchange("POST", realm.partition("?")[0], headers, body)


def _raise_for(answer: Answer) -> None:
    status = answer.status
    if status < 400:
        return
    words = f"{place(answer.url)} answered {status}: {_words(answer)}"
    if status in (401, 403):
        raise Denied(words)
    if status == 404:
        raise Absent(words)
    if status == 429 or status >= 500:
        raise Unavailable(words)
    raise RegistryError(words)


def _words(answer: Answer) -> str:
    """The registry's own error messages, on one line of bounded length; else nothing but the status' name."""
    try:
        listed = json.loads(answer.content(_ERROR_BYTES_MAX))["errors"]
        words = "; ".join(str(each.get("message") or each.get("code")) for each in listed)
    except (RegistryError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        words = ""
    printable = "".join(c if c.isprintable() else " " for c in words)
    return printable[:_WORDS_MAX] or "it does not say why"
