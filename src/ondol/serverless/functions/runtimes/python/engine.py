"""Runs the coroutines of requests and watches sockets, without asyncio until the function needs that.

Importing `asyncio` takes longer than all the rest together, and many functions never await anything but
their own requests. So there are two ways to run, and one change between them. In the plain way a
`select.epoll` is watched here, and coroutines may await nothing but a `Signal`. As soon as anything in this
process imports `asyncio` (at start, or in the midst of a request) the engine makes an event loop, moves its
files there, and makes each coroutine that runs a task of it: the one that imports it is that loop's current
task from then on, so that `asyncio.timeout`, `get_running_loop` and the like work in the very next line.
"""

from __future__ import annotations

import _thread
import contextvars
import select
import sys
import time

TYPE_CHECKING = False  # `typing` takes longer to import than this whole package
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import ModuleType
    from typing import Any

_READ, _WRITE = select.EPOLLIN, select.EPOLLOUT


class Signal:
    """Wakes the coroutines that await it now."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.flows: list[Flow] = []
        self._futures: list[Any] = []

    def set(self) -> None:
        flows, self.flows = self.flows, []
        for flow in flows:
            self._engine.wake(flow)
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)

    def __await__(self) -> Generator[Any, Any, None]:
        if self._engine.loop is None:
            yield self
        else:
            yield from self.future().__await__()

    def future(self) -> Any:
        """What a task of asyncio awaits instead."""
        future = self._engine.loop.create_future()
        self._futures.append(future)
        return future


class Flow:
    """A coroutine that runs, in a context of its own; a task of asyncio's loop once there is one."""

    def __init__(self, engine: Engine, coroutine: Coroutine[Any, Any, None]) -> None:
        self._engine = engine
        self._coroutine = coroutine
        self._context = contextvars.copy_context()
        self._awaited: Any = None
        self._is_over = False
        self.task: Any = None

    def step(self) -> None:
        """Run on until it awaits; in the plain way only."""
        self._engine.current = self
        try:
            self._awaited = self._context.run(self._coroutine.send, None)
        except StopIteration:
            self._is_over = True
        finally:
            self._engine.current = None
            if self.task is not None:
                self._leave()
        if self._is_over:
            self._engine.flows.discard(self)
        elif self.task is None:
            self._park()

    def _park(self) -> None:
        if isinstance(self._awaited, Signal):
            self._awaited.flows.append(self)
            return
        # An awaitable of another kind of loop: nobody would ever wake this coroutine.
        message = f"a function awaits with asyncio, or what stands on it; this is {self._awaited!r}"
        try:
            self._coroutine.throw(RuntimeError(message))
        except StopIteration:
            self._engine.flows.discard(self)
        else:
            self._coroutine.close()
            self._engine.flows.discard(self)

    def adopt(self, *, is_running: bool = False, is_ready: bool = False) -> None:
        """Become a task, from where it stands: in the midst of a step, about to run on, or waiting."""
        loop = self._engine.loop
        if is_ready:
            now = Signal(self._engine)
            self._wait_for(now)
            now.set()
        elif not is_running and isinstance(self._awaited, Signal):
            self._awaited.flows.remove(self)
            self._wait_for(self._awaited)
        self.task = loop.create_task(self._driven(), context=self._context)
        self._engine.keep(self.task)
        if is_running:
            asyncio = sys.modules["asyncio"]
            asyncio.tasks._enter_task(loop, self.task)  # noqa: SLF001 - as asyncio's own loops do
            asyncio._set_running_loop(loop)  # noqa: SLF001 - likewise

    def _leave(self) -> None:
        """The end of the step in which it became a task: the loop goes on with it."""
        asyncio = sys.modules["asyncio"]
        asyncio.tasks._leave_task(self._engine.loop, self.task)  # noqa: SLF001 - likewise
        asyncio._set_running_loop(None)  # noqa: SLF001 - likewise
        if isinstance(self._awaited, Signal):
            self._wait_for(self._awaited)

    def _wait_for(self, signal: Signal) -> None:
        self._awaited = signal.future()
        self._awaited._asyncio_future_blocking = True  # noqa: SLF001 - what a future's own `await` does

    async def _driven(self) -> None:
        await _Rest(self)

    def rest(self) -> Generator[Any, Any, None]:
        """What is left of the coroutine, whose first step another loop has made."""
        while not self._is_over:
            try:
                value = yield self._awaited
            except BaseException as error:  # noqa: BLE001 - a cancellation, which the coroutine takes
                failure: BaseException | None = error
            else:
                failure = None
            try:
                if failure is None:
                    self._awaited = self._coroutine.send(value)
                else:
                    self._awaited = self._coroutine.throw(failure)
            except StopIteration:
                break


class _Rest:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def __await__(self) -> Generator[Any, Any, None]:
        return self._flow.rest()


class Engine:
    """The loop of this process. `watch` and `start` work before and while it runs, in either way."""

    def __init__(self) -> None:
        self.loop: Any = None
        """asyncio's, once it is there."""
        self.current: Flow | None = None
        self.flows: set[Flow] = set()
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Callable[[], None] | None, Callable[[], None] | None]] = {}
        self._ready: list[Flow] = []
        self._tasks: set[Any] = set()
        self._is_over = False
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._thread = _thread.get_ident()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine, which lets no exception out."""
        if self.loop is not None:
            self.keep(self.loop.create_task(coroutine))
            return
        flow = Flow(self, coroutine)
        self.flows.add(flow)
        self._ready.append(flow)

    def keep(self, task: Any) -> None:
        """A loop refers to its tasks weakly."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def wake(self, flow: Flow) -> None:
        self._ready.append(flow)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call once, so many seconds from now."""
        if self.loop is not None:
            self.loop.call_later(seconds, action)
        else:
            self._timers.append((time.monotonic() + seconds, action))

    def _until_timer_s(self) -> float | None:
        """Run what is due; how long until the next, None if there is none."""
        now = time.monotonic()
        due = [action for at, action in self._timers if at <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for action in due:
            action()
        return min((at for at, _ in self._timers), default=now) - now if self._timers else None

    def watch(
        self, descriptor: int, readable: Callable[[], None] | None, writable: Callable[[], None] | None
    ) -> None:
        """Call when a file can be read or written, from now on; it is left alone if both are None."""
        before = self._watched.get(descriptor)
        if readable is None and writable is None:
            self._watched.pop(descriptor, None)
        else:
            self._watched[descriptor] = (readable, writable)
        if self.loop is not None:
            self._watch_there(descriptor, readable, writable)
            return
        events = (_READ if readable else 0) | (_WRITE if writable else 0)
        if not events:
            if before is not None:
                self._epoll.unregister(descriptor)
        elif before is None:
            self._epoll.register(descriptor, events)
        else:
            self._epoll.modify(descriptor, events)

    def _watch_there(
        self, descriptor: int, readable: Callable[[], None] | None, writable: Callable[[], None] | None
    ) -> None:
        if readable:
            self.loop.add_reader(descriptor, readable)
        else:
            self.loop.remove_reader(descriptor)
        if writable:
            self.loop.add_writer(descriptor, writable)
        else:
            self.loop.remove_writer(descriptor)

    def run(self) -> None:
        """Until `stop` is called."""
        while not self._is_over and self.loop is None:
            if _is_imported("asyncio"):  # where no hook saw it
                self.adopt()
                break
            self._turn()
        if not self._is_over:
            self.loop.run_forever()

    def _turn(self) -> None:
        flows, self._ready = self._ready, []
        for index, flow in enumerate(flows):
            if _is_imported("asyncio"):  # by a thread, meanwhile
                self._ready = flows[index:] + self._ready
                return self.adopt()
            flow.step()
            if self.loop is not None:
                self._ready = flows[index + 1 :] + self._ready
                return self._hand_over()
        wait_s = self._until_timer_s()
        if self._is_over or self._ready:
            return None
        for descriptor, events in self._epoll.poll(wait_s):
            readable, writable = self._watched.get(descriptor, (None, None))
            if writable and events & ~_READ:
                writable()
            if readable and events & ~_WRITE:
                readable()
        return None

    def _hand_over(self) -> None:
        """What else runs or is about to becomes the loop's, after the one that wanted it."""
        ready, self._ready = self._ready, []
        for flow in self.flows - set(ready):
            if flow.task is None:
                flow.adopt()
        for flow in ready:
            flow.adopt(is_ready=True)
        self.flows.clear()

    def adopt(self) -> None:
        """Run in asyncio's way from now on: something has been imported that needs it."""
        if _thread.get_ident() != self._thread:
            return
        __import__("asyncio")  # which may have this called, and done
        if self.loop is not None:
            return
        asyncio = sys.modules["asyncio"]
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        for descriptor, (readable, writable) in self._watched.items():
            self._watch_there(descriptor, readable, writable)
        self._epoll.close()
        for at, action in self._timers:
            self.loop.call_later(max(0.0, at - time.monotonic()), action)
        if self.current is not None:
            self.current.adopt(is_running=True)
        else:
            self._hand_over()

    def stop(self) -> None:
        self._is_over = True
        if self.loop is not None:
            self.loop.stop()

    def close(self) -> None:
        """After the last run: tasks that the function left are cancelled, as `asyncio.run` does."""
        if self.loop is None:
            return
        asyncio = sys.modules["asyncio"]
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def run_once(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """A coroutine alone, before or after everything else."""
        over: list[None] = []

        async def noted() -> None:
            try:
                await coroutine
            finally:
                over.append(None)
                self.stop()

        self._is_over = False
        self.start(noted())
        while not over:
            self.run()
        self._is_over = False


def _is_imported(name: str) -> bool:
    """Whether a module is there, and whole."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


class AfterImport:
    """A finder that does something as soon as one of some modules has been imported.

    `installed` is done after any installed package: many ask at a call which loop runs, and until then import
    none. Packages in `harmless` are known to need none.
    """

    def __init__(
        self,
        actions: dict[str, Callable[[], None]],
        installed: Callable[[], None],
        harmless: frozenset[str],
    ) -> None:
        self._actions = {name: action for name, action in actions.items() if name not in sys.modules}
        self._installed = installed
        self._harmless = harmless

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if "." in name:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                action = self._actions.pop(name, None)
                if action is None and name not in self._harmless and "-packages/" in (spec.origin or ""):
                    action = self._installed
                if spec.loader is not None and action is not None:
                    spec.loader = _Loader(spec.loader, action)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    def __init__(self, loader: Any, action: Callable[[], None]) -> None:
        self._loader, self._action = loader, action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._action()
