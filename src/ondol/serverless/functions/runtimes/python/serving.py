"""The server of one function: `serve` with sockets that listen, `main` with what the environment says.

Single-threaded; a SIGTERM closes what listens, lets requests in flight end, and calls the function's `stop`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # of which `signal` is made, with enums that take time
import _socket
import os
import sys

from .application import Application, NotAFunction, load
from .connection import Connection
from .engine import AfterImport, Engine

TYPE_CHECKING = False  # `typing` takes longer to import than this whole package
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_BACKLOG = 1024
_WITHOUT_LOOP = frozenset(("cloudevents", "dateutil", "six", "typing_extensions"))
"""Installed packages that events need, and that run in no loop."""
_ACCEPTED_MAX = 1024
_RETRY_S = 0.1
_NEW_S = 1.0
"""How long the request of a connection that has just come is waited for when the process ends."""


class BadAddress(Exception):
    """Nothing can listen at what `LISTEN_ADDRESS` names."""


class Server:
    """Accepts connections, remembers them, and ends in order."""

    def __init__(self, engine: Engine, sockets: Sequence[_socket.socket], application: Application) -> None:
        self.engine = engine
        self.application = application
        self.is_ending = False
        self.ended_by: BaseException | None = None
        self._sockets = list(sockets)
        self._connections: set[Connection] = set()
        for sock in self._sockets:
            sock.setblocking(False)
            self._listen(sock)

    def _listen(self, sock: _socket.socket) -> None:
        if not self.is_ending:
            self.engine.watch(sock.fileno(), lambda: self._accept(sock), None)

    def _accept(self, sock: _socket.socket) -> None:
        for _ in range(_ACCEPTED_MAX):
            try:
                descriptor, address = sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - of `socket.accept`
            except BlockingIOError:
                return
            except OSError:  # there are no descriptors left: those that wait are accepted later
                self.engine.watch(sock.fileno(), None, None)
                self.engine.after(_RETRY_S, lambda: self._listen(sock))
                return
            accepted = _socket.socket(fileno=descriptor)
            accepted.setblocking(False)
            try:
                accepted.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                local = accepted.getsockname()
            except OSError:  # the client has gone already, or it is a Unix socket
                local = ("", 0)
            self._connections.add(Connection(self, accepted, _pair(address), _pair(local)))

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self.is_ending and not self._connections:
            self.engine.stop()

    def end(self, by: BaseException | None = None) -> None:
        """Take no more; `by` is what the function raised to end the process."""
        if self.is_ending:
            return
        for sock in self._sockets:
            self._accept(sock)  # who has connected already is served
            self.engine.watch(sock.fileno(), None, None)
            sock.close()
        self.is_ending, self.ended_by = True, by
        self._close_idle(also_new=False)
        self.engine.after(_NEW_S, lambda: self._close_idle(also_new=True))

    def _close_idle(self, *, also_new: bool) -> None:
        for connection in list(self._connections):
            if connection.is_idle and (also_new or not connection.is_new):
                connection.close()
        if not self._connections:
            self.engine.stop()


def _pair(address: Any) -> tuple[str, int]:
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else ("", 0)


def serve(
    sockets: Sequence[_socket.socket],
    function: Any,
    *,
    takes_events: bool = False,
    environment: Mapping[str, str] | None = None,
    engine: Engine | None = None,
) -> int:
    """Serve a function (what `load` answers) at sockets that listen already, until SIGTERM or SIGINT.

    The exit status of the process is returned.
    """
    if engine is None:
        engine = Engine()
        prepare(engine)
    application = Application(function, takes_events=takes_events)
    engine.run_once(application.start(os.environ if environment is None else environment))
    server = Server(engine, sockets, application)
    _end_at_signals(engine, server)
    engine.run()
    if not isinstance(server.ended_by, SystemExit):
        engine.run_once(application.stop())
    engine.close()
    return _status(server.ended_by)


def prepare(engine: Engine) -> None:
    """Have asyncio taken up and logging set up as soon as the function's code imports or needs them."""
    loops = dict.fromkeys(("asyncio", "anyio", "sniffio"), engine.adopt)
    sys.meta_path.insert(0, AfterImport({**loops, "logging": _log}, engine.adopt, _WITHOUT_LOOP))
    if "logging" in sys.modules:
        _log()


def _log() -> None:
    logging = sys.modules["logging"]
    logging.basicConfig(level=logging.INFO)


def _status(ended_by: BaseException | None) -> int:
    if ended_by is None:
        return 0
    if isinstance(ended_by, SystemExit):
        code = ended_by.code
        return code if isinstance(code, int) else (0 if code is None else 1)
    return 1


def _end_at_signals(engine: Engine, server: Server) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)

    def ended() -> None:
        os.read(reading, 64)
        server.end()

    def noticed(_number: int, _frame: object) -> None:
        try:
            os.write(writing, b"\0")
        except BlockingIOError:
            return  # it is full of what says the same

    engine.watch(reading, ended, None)
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, noticed)


def listening(environment: Mapping[str, str]) -> list[_socket.socket]:
    """Sockets at `LISTEN_ADDRESS`, or else at `PORT` of all addresses; `BadAddress` if there are none."""
    port = environment.get("PORT") or "8080"
    addresses = (environment.get("LISTEN_ADDRESS") or f"[::]:{port},0.0.0.0:{port}").split(",")
    for address in list(addresses):
        if address.startswith("[::]:") and not any(a.startswith("0.0.0.0:") for a in addresses):
            addresses.append("0.0.0.0:" + address[5:])
    sockets, problems = [], []
    for address in addresses:
        try:
            sockets.append(_bound(address.strip()))
        except (OSError, ValueError) as error:
            problems.append(f"{address}: {error}")
    if not sockets:
        raise BadAddress("cannot listen at " + "; ".join(problems))
    return sockets


def _bound(address: str) -> _socket.socket:
    host, _, port = address.rpartition(":")
    is_six = host.startswith("[")
    sock = _socket.socket(_socket.AF_INET6 if is_six else _socket.AF_INET, _socket.SOCK_STREAM)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if is_six:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.bind((host.strip("[]"), int(port)))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def main(arguments: Sequence[str]) -> int:
    """Serve the module `function` as the environment says.

    Of the arguments `cloudevent` is for events, and `func-python` for the server that the function brings.
    """
    if "func-python" in arguments:
        return _brought("cloudevent" if "cloudevent" in arguments else "http")
    engine = Engine()
    prepare(engine)
    _complete_path()
    try:
        function = load()
        sockets = listening(os.environ)
    except (NotAFunction, BadAddress) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - what a container writes is its log
        return 1
    return serve(sockets, function, takes_events="cloudevent" in arguments, engine=engine)


def _complete_path() -> None:
    """What the module `site` does for installed packages, where it is left out and they need it."""
    if not sys.flags.no_site:
        return
    for folder in list(sys.path):
        if folder.endswith(("site-packages", "dist-packages")):
            try:
                names = os.listdir(folder)  # noqa: PTH208 - `pathlib` takes long to import
            except OSError:
                continue
            if any(name.endswith(".pth") for name in names):
                import site  # noqa: PLC0415 - it takes longer than the rest

                site.addsitedir(folder)


def _brought(module: str) -> int:
    """Hand over to `func-python`, which is among the packages of the function."""
    _complete_path()
    __import__(f"func_python.{module}")
    __import__("function")
    function = sys.modules["function"]
    exported = function.new if hasattr(function, "new") else function.handle
    sys.modules[f"func_python.{module}"].serve(exported)
    return 0
