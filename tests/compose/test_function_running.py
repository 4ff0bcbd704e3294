"""A function served while it is worked on: its port stays, and what fails leaves the version before."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketAttribute

from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.compose.functions import commands, folder, running

pytestmark = pytest.mark.anyio
ANSWER = """
async def handle(scope, receive, send):
    if scope["path"] == "/exit":
        raise SystemExit(3)
    import os
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"VERSION " + os.environ.get("X", "").encode()})
"""


@pytest.fixture
def project(tmp_path: Path) -> folder.Folder:
    """A Python function of one file."""
    created = folder.create(tmp_path / "f", "python", "http", 0.0, lambda _: None)
    write(created.path, ANSWER.replace("VERSION", "one"))
    return created


def write(path: Path, code: str) -> None:
    (path / "function" / "func.py").write_text(code, encoding="utf-8")
    (path / "function" / "__init__.py").write_text("from .func import handle\n", encoding="utf-8")


class Watched:
    """A function that runs, and what is said of it."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.url = ""
        self.came = anyio.Event()

    def serving(self, url: str) -> None:
        self.url = url
        self.came.set()

    async def ask(self, path: str = "/") -> str:
        return await anyio.to_thread.run_sync(self._ask, path)

    def _ask(self, path: str) -> str:
        port = int(self.url.rpartition(":")[2])
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            client.request("GET", path)
            return client.getresponse().read().decode()
        finally:
            client.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not condition():
                await SystemClock().sleep(0.02)


@asynccontextmanager
async def served(project: folder.Folder, env: Mapping[str, str] | None = None) -> AsyncIterator[Watched]:
    watched = Watched()
    wishes = running.Wishes(port=running._free_port(), env=env)
    runner = running.Runner(project, wishes, SystemClock(), watched.notes.append, on_serving=watched.serving)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run)
        with anyio.fail_after(20):
            await watched.came.wait()
        yield watched
        tasks.cancel_scope.cancel()


async def test_a_change_is_served_at_the_same_port(
    project: folder.Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is refused meanwhile, however often one asks.

    It is seen although it is as long as what was there, and of the same second, as bytecode goes by.
    """
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    file = project.path / "function" / "func.py"
    os.utime(file, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))
    async with served(project, {"X": "x"}) as watched:
        assert await watched.ask() == "one x"
        answers: list[str] = []
        over = threading.Event()

        def ask_on() -> None:
            while not over.wait(0.005):  # each is a connection, whose port is taken for a minute
                answers.append(watched._ask("/"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, ask_on)
            try:
                write(project.path, ANSWER.replace("VERSION", "two"))
                os.utime(file, ns=(1_700_000_000_000_000_001, 1_700_000_000_000_000_001))
                await watched.until(lambda: "two x" in answers)
            finally:
                over.set()
        assert set(answers) == {"one x", "two x"}
        assert answers == sorted(answers, key=["one x", "two x"].index)
        assert "serving the new version" in watched.notes


async def test_what_does_not_come_up_changes_nothing(project: folder.Folder) -> None:
    """The version before goes on, and the next change that is right is served."""
    async with served(project) as watched:
        write(project.path, "1 +")
        await watched.until(lambda: any(note.startswith("error: ") for note in watched.notes))
        assert "the version before goes on answering" in watched.notes[-1]
        assert await watched.ask() == "one "
        write(project.path, ANSWER.replace("VERSION", "two"))
        await watched.until(lambda: "serving the new version" in watched.notes)
        # The version before still takes a connection or two of those that are there.
        with anyio.fail_after(20):
            while await watched.ask() != "two ":
                await SystemClock().sleep(0.02)


async def test_a_function_that_ends_is_started_again(project: folder.Folder) -> None:
    """Who asks meanwhile waits."""
    async with served(project) as watched:
        assert "ended" in await watched.ask("/exit")
        assert await watched.ask() == "one "
        assert any("status 3" in note for note in watched.notes)


async def test_a_broken_func_yaml_is_said_while_it_runs(project: folder.Folder) -> None:
    """In one line, as when it is started."""
    async with served(project) as watched:
        (project.path / "func.yaml").write_text("a: [", encoding="utf-8")
        await watched.until(lambda: any("is not valid YAML" in note for note in watched.notes))
        assert await watched.ask() == "one "


async def test_where_it_runs_is_written_down(project: folder.Folder) -> None:
    """So that it is invoked without a word, also by Knative's own tool; not when it has ended."""
    async with served(project) as watched:
        port = running.local_port(project.path)
        assert watched.url == f"http://127.0.0.1:{port}"
        assert (project.path / ".func" / "runs" / str(port)).is_dir()
    assert running.local_port(project.path) == 0


async def test_a_function_that_does_not_come_up_at_first_is_an_error(project: folder.Folder) -> None:
    """One line, and nothing goes on running."""
    write(project.path, "import nothing_of_this_name")
    runner = running.Runner(project, running.Wishes(), SystemClock(), lambda _: None)
    with pytest.raises(errors.HostError, match=r"ended \(status 1\) before it listened"):
        await runner.run()


async def test_one_that_never_listens_is_an_error(project: folder.Folder) -> None:
    """Within its start timeout."""
    write(project.path, "import time\ntime.sleep(60)")
    wishes = running.Wishes(start_timeout_s=0.3)
    with pytest.raises(errors.HostError, match=r"did not listen within 0.3 s"):
        await running.Runner(project, wishes, SystemClock(), lambda _: None).run()


async def test_a_port_that_is_taken(project: folder.Folder) -> None:
    """One that was asked for is an error, the usual one is passed over."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as taken:
        port = taken.extra(SocketAttribute.local_port)  # noqa: S610 - no query
        runner = running.Runner(project, running.Wishes(port=port), SystemClock(), lambda _: None)
        with pytest.raises(errors.HostError, match=r"cannot listen at 127\.0\.0\.1:"):
            await runner.run()


async def test_a_signal_ends_all_of_it(project: folder.Folder) -> None:
    """The function's process too."""
    watched = Watched()
    wishes = running.Wishes(port=running._free_port())
    runner = running.Runner(project, wishes, SystemClock(), watched.notes.append, on_serving=watched.serving)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.run)
            await watched.came.wait()
            os.kill(os.getpid(), signal.SIGTERM)
    assert runner._instance is not None
    assert runner._instance.process.returncode == 0


def test_the_environment_is_that_of_func_yaml(project: folder.Folder) -> None:
    """Without what only a cluster has; the command line goes before the file."""
    text = (project.path / "func.yaml").read_text(encoding="utf-8")
    envs = (
        "run: {envs: [{name: A, value: '{{ env:HERE }}'}, {name: B, value: b},"
        " {name: C, value: '{{ secret:s:k }}'}]}"
    )
    (project.path / "func.yaml").write_text(f"{text}{envs}\n", encoding="utf-8")
    loaded = folder.load(project.path)
    assert commands.variables(loaded, {"B": "c"}, {"HERE": "here"}) == {"A": "here", "B": "c"}
    assert commands.unavailable(loaded) == ["C"]
