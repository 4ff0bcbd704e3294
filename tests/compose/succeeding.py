"""A platform of three tiny parts that can be succeeded; run as a program: `succeeding.py FOLDER [...]`.

Files of the folder say what the "installed code" is: `version`, and what its engine is (`engine`: content and
kin). It writes its parts as they change to `parts.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ondol.base import files
from ondol.compose import handover, predecessor
from ondol.compose.lifecycle import Running
from ondol.compose.part import Identity, Notify, Part
from ondol.compose.succession import Succession
from ondol.compose.supervisor import Supervisor


def serve(folder: Path, notify: Notify) -> None:
    """Answer who connects with this process and the version it is of; the socket outlives it."""
    listening = notify.listeners.inherit("port")
    if listening is None:
        listening = socket.create_server(("127.0.0.1", 0))
        notify.listeners.keep("port", listening)
    (folder / "port").write_text(str(listening.getsockname()[1]))
    version = (folder / "version").read_text()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    listening.settimeout(0.05)
    notify()
    while signal.SIGTERM not in signal.sigpending():
        with contextlib.suppress(TimeoutError):
            accepted, _ = listening.accept()
            accepted.sendall(f"{version} {os.getpid()}".encode())
            accepted.close()


def engine(folder: Path, notify: Notify) -> None:
    """Serve until told otherwise; the last one that started is the one that answers."""
    if (folder / "engine-fails").exists() and notify.epoch.number:
        raise SystemExit(3)
    with (folder / "epochs").open("a") as lines:
        lines.write(f"{notify.epoch.number}\n")
    (folder / "engine.pid").write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def gateway(folder: Path, notify: Notify) -> None:
    """End at SIGUSR1, once what was begun is done: when the file `begun` is gone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    notify()
    signal.sigwait([signal.SIGUSR1])
    while (folder / "begun").exists():
        time.sleep(0.01)


def parts(folder: Path) -> list[Part]:
    def identity() -> Identity:
        return Identity(*(folder / "engine").read_text().split())

    def answers(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return (folder / "engine.pid").read_text() == str(pid)
        return False

    return [
        Part("server", lambda notify: serve(folder, notify)),
        Part("engine", lambda notify: engine(folder, notify), identity=identity, probe=answers),
        Part("gateway", lambda notify: gateway(folder, notify), overlaps=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--handover", type=int)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if arguments.check:
        handover.read(arguments.handover)
        if (folder / "broken").exists():
            sys.exit("the newer code is broken")
        return
    inherited = None
    if arguments.handover is not None:
        inherited = predecessor.taken_up(arguments.handover, spared=())

    def on_change(running: Sequence[Running]) -> None:
        document = {
            each.part.name: [each.pid, str(each.state), each.former.pid if each.former else 0]
            for each in running
        }
        document["leaving"] = [each.pid for each in supervisor.leaving]
        files.replace(folder / "parts.json", json.dumps(document).encode(), durable=False)

    supervisor = Supervisor(
        parts(folder),
        log_dir=folder,
        on_change=on_change,
        successor=Succession([sys.executable, __file__, str(folder)], folder),
        inherited=inherited,
    )
    supervisor.run()


if __name__ == "__main__":
    main()
