"""The `demo` command: start, build, deploy, send traffic, and say what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import anyio
import typer

from ondol.base import errors
from ondol.cli import output, shop, terminal
from ondol.compose import hints, platform, settings, waiting
from ondol.compose.instance import Instance
from ondol.compose.waiting import Stopwatch

_DATA_DIR: Final = hints.DEFAULT_DATA_DIR.with_name("ondol-demo")
_EXAMPLES: Final = Path(__file__).resolve().parents[3] / "examples"


def demo(
    once: Annotated[bool, typer.Option("--once", help="Shut everything down at the end.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder of the demo's platform.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="ONDOL_DATA_DIR",
            help="Folder of the demo's platform.",
            show_default=str(_DATA_DIR),
            readable=False,
        ),
    ] = None,
    examples: Annotated[
        Path, typer.Option(help="Folder of the example applications.", show_default="of this checkout")
    ] = _EXAMPLES,
) -> None:
    """Run the shop on a platform of its own and show what each part of the platform did for it."""
    with output.explained():
        if not (examples / "shop" / "manifests").is_dir():
            raise errors.HostError(
                f"{examples} has no shop", remedy="run it in a checkout, or give --examples DIR"
            )
        chosen = settings.load(data_dir or _DATA_DIR)
        leaves_nothing = data_dir is None and not chosen.data_dir.exists() and not keep
        signal.signal(signal.SIGTERM, _interrupt)
        watch = Stopwatch()
        instance, is_ours = _started(chosen)
        try:
            with _operator(instance, examples):
                anyio.run(shop.show, instance, examples, watch)
                if not once:
                    _stay(instance)
        except KeyboardInterrupt:
            terminal.note("")
        finally:
            if is_ours:
                terminal.note("stopping the platform and its pods ...")
                platform.stop(chosen)
                if leaves_nothing:
                    platform.remove_data(chosen)


def _interrupt(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _started(chosen: settings.Settings) -> tuple[Instance, bool]:
    """The platform of the demo, and whether this command started it (and so stops it)."""
    state = platform.status(chosen.data_dir)
    if state.running:
        terminal.note(f"a platform is already running on {chosen.data_dir}: it is used, and goes on running")
        return platform.require_running(chosen.data_dir), False
    watch = Stopwatch()
    instance = platform.run_detached(chosen)
    terminal.write(f"platform ready in {watch.elapsed_s:.1f} s  ({instance.api_url})")
    return instance, True


@contextmanager
def _operator(instance: Instance, examples: Path) -> Iterator[None]:
    """The cache operator beside the platform, as its author would run it while writing it."""
    script = examples / "cache-operator" / "cache_operator.py"
    log = (instance.log_dir / "cache-operator.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "KUBECONFIG": str(instance.kubeconfig)},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def _stay(instance: Instance) -> None:
    sudo, ondol, data_dir = hints.sudo(), sys.argv[0], instance.data_dir
    terminal.write(
        "\nIt stays up until Ctrl-C. In another terminal:\n"
        f"  {sudo}kubectl --kubeconfig {instance.kubeconfig} -n shop get pods,ksvc,caches,virtualservices\n"
        f"  curl http://shop.localhost:{instance.ports.ingress}/products/stove\n"
        f"  {sudo}{ondol} traces last --data-dir {data_dir}\n"
    )
    while True:
        waiting.sleep(3600)
