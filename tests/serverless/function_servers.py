"""Functions served by their servers in processes of their own, on loopback, for the tests of those."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

from ondol.serverless.functions import languages

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Served:
    """A server that listens at `port`; `log` is what it has written."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ask(
        self,
        path: str = "/",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "",
    ) -> Answer:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(client):
            client.request(method or ("GET" if body is None else "POST"), path, body, dict(headers or {}))
            answer = client.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())

    def raw(self, *parts: bytes) -> bytes:
        """Bytes in, and all bytes out until the connection ends."""
        with self.connected() as client:
            for part in parts:
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while data := client.recv(65536):
                answer += data
            return answer

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as client:
            yield client

    def ends(self) -> int:
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def serving(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """A server's process, until it is not needed or has ended."""
    port, log = free_port(), folder / "log"
    variables = {**os.environ, "PORT": str(port), "LISTEN_ADDRESS": f"127.0.0.1:{port}", **(env or {})}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)
    served = Served(process, port, log)
    try:
        _wait(served)
        yield served
    finally:
        process.kill()
        process.wait()


def _wait(served: Served) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with served.connected():
                return
        except OSError:
            assert served.process.poll() is None, served.log
            assert time.monotonic() < deadline, served.log
            time.sleep(0.01)


def python(
    folder: Path, code: str, *, takes_events: bool = False, env: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[Served]:
    """A Python function of one file."""
    (folder / "function.py").write_text(code, encoding="utf-8")
    lib = folder / "lib"
    for key, path in languages.python_server().items():
        (lib / key).parent.mkdir(parents=True, exist_ok=True)
        (lib / key).write_bytes(path.read_bytes())
    program = languages.python_words(takes_events=takes_events, brings_server=False)
    paths = os.pathsep.join([str(folder), str(lib)])
    words = [sys.executable, "-S", "-P", "-u", *program]
    return serving(words, folder, {"PYTHONPATH": paths, **(env or {})})
