"""Commands about the platform itself: up, down, status, doctor, kubeconfig."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from ondol.cli import output, terminal
from ondol.cli.output import DataDir, Format, Output
from ondol.compose import doctor as doctors
from ondol.compose import hints, lifecycle, platform, settings
from ondol.compose import instance as instances
from ondol.compose.lifecycle import Running, State
from ondol.compose.platform import PlatformStatus

_FAILING: Final = (State.BACKING_OFF, State.FAILED)
"""States in which what a part died of is why it does not serve."""


def up(
    data_dir: DataDir = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is ready.")] = False,
    api_port: Annotated[int | None, typer.Option(help="Preferred port of the API server.")] = None,
    ingress_port: Annotated[int | None, typer.Option(help="Preferred port of the ingress gateway.")] = None,
    ingress_address: Annotated[str | None, typer.Option(help="Address of the ingress gateway.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Container runtime: crun or runc.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether it could start.")] = False,
    handover: Annotated[int | None, typer.Option(hidden=True, help="What a running platform leaves.")] = None,
) -> None:
    """Start the platform; Ctrl-C stops it and its pods, SIGTERM leaves the pods running."""
    flags = {
        "api_port": api_port,
        "ingress_port": ingress_port,
        "ingress_address": ingress_address,
        "runtime": runtime,
    }
    with output.explained():
        chosen = settings.load(data_dir, flags=flags)
        if check:
            platform.check(chosen, handover)
            terminal.note("it could start")
            return
        explicit = settings.explicit(data_dir, flags=flags)
        is_first = instances.load(chosen.data_dir) is None
        if not is_first:
            _tell_of_other_ports(chosen, explicit, "is for a new data directory; {folder} keeps port {port}")

        def tell_of_taken_ports() -> None:
            if is_first:
                _tell_of_other_ports(chosen, explicit, "is not free; {folder} has port {port} from now on")

        if detach:
            words = {name: str(value) for name, value in flags.items() if value is not None}
            instance = platform.run_detached(chosen, flags=words)
            _print_status(platform.status(chosen.data_dir), Format.TABLE)
            tell_of_taken_ports()
            terminal.note(_how_to_use(instance.kubeconfig))
            return
        signum = platform.run(
            chosen,
            progress=_Progress(chosen.data_dir / "kubeconfig", tell_of_taken_ports),
            flags={name: str(value) for name, value in flags.items() if value is not None},
            left=handover,
        )
        terminal.note(
            "stopped; the pods are gone" if signum == signal.SIGINT else "stopped; the pods live on"
        )


def _tell_of_other_ports(chosen: settings.Settings, explicit: Collection[str], words: str) -> None:
    """A port that was asked for and that the platform does not have is not exchanged in silence."""
    instance = instances.load(chosen.data_dir)
    if instance is None:
        return
    ports = {
        "api_port": instance.ports.api,
        "ingress_port": instance.ports.ingress,
        "ingress_tls_port": instance.ports.ingress_tls,
    }
    for name, port in ports.items():
        value = getattr(chosen, name)
        if name in explicit and value != port:
            reason = words.format(folder=chosen.data_dir, port=port)
            terminal.note(f"warning: {name} {value} {reason}")


class _Progress:
    """One line as each part becomes ready or dies."""

    def __init__(self, kubeconfig: Path, at_first: Callable[[], None] = lambda: None) -> None:
        self._kubeconfig = kubeconfig
        self._at_first = at_first
        self._last: dict[str, str] = {}
        self._announced = False
        self._stopping = False

    def __call__(self, parts: Sequence[Running]) -> None:
        for running in parts:
            name, state = running.part.name, str(running.state)
            if state == "stopping" and not self._stopping:
                self._stopping = True
                terminal.note("stopping")
            if self._last.get(name) != state and state in {"ready", "backing-off", "failed"}:
                reason = f": {running.error}" if running.error else ""
                terminal.note(f"  {name:<10} {state}{reason}")
            self._last[name] = state
        if not self._announced and all(state in lifecycle.AT_REST for state in self._last.values()):
            self._announced = True
            self._at_first()
            terminal.note(f"ready. In another terminal: {_how_to_use(self._kubeconfig)}")


def _how_to_use(kubeconfig: Path) -> str:
    """The line that a person copies next."""
    path = shlex.quote(str(kubeconfig))
    if sudo := hints.sudo():
        return f"{sudo}kubectl --kubeconfig {path} get nodes"
    return f"export KUBECONFIG={path}; kubectl get nodes"


def down(
    data_dir: DataDir = None,
    keep_pods: Annotated[bool, typer.Option("--keep-pods", help="Leave the pods running.")] = False,
    remove_data: Annotated[
        bool, typer.Option("--remove-data", help="Delete the data directory too: objects, images, logs.")
    ] = False,
) -> None:
    """Stop the platform and everything it runs; what it knows stays for the next start."""
    if keep_pods and remove_data:
        raise typer.BadParameter("--remove-data deletes what running pods use: leave out --keep-pods")
    with output.explained():
        chosen = settings.load(data_dir)
        stopped = platform.stop(chosen, pods=not keep_pods)
        terminal.note("stopped" if stopped else f"no platform was running on {chosen.data_dir}")
        if remove_data and (others := platform.remove_data(chosen)) is not None:
            exception = f" but for what is not the platform's: {', '.join(others)}" if others else ""
            terminal.note(f"{chosen.data_dir} is deleted{exception}")


def restart(data_dir: DataDir = None) -> None:
    """Have the running platform go on as the version that is installed now, with its settings read anew.

    Pods and the proxy go on meanwhile, and so do requests. If that version cannot run, nothing changes.
    """
    with output.explained():
        version = platform.restart(settings.load(data_dir))
        terminal.note(f"ready; version {version}")


def status(data_dir: DataDir = None, form: Output = Format.TABLE) -> None:
    """Show each part: state, process, memory, address."""
    with output.explained():
        chosen = settings.load(data_dir)
        report = platform.status(chosen.data_dir)
        _print_status(report, form)
        if not report.running:
            raise typer.Exit(output.NOT_RUNNING)


def _print_status(report: PlatformStatus, form: Format) -> None:
    if form is not Format.TABLE:
        output.document(report.document(), form)
        return
    if not report.running:
        start = hints.command("up --detach", Path(report.data_dir))
        terminal.note(f"no platform is running on {report.data_dir}\n  try: {start}")
        return
    rows = [
        (
            p.name,
            p.state,
            p.pid or "-",
            p.restarts,
            output.megabytes(p.memory_bytes),
            f"{p.cpu_s:.1f} s",
            p.address,
        )
        for p in report.parts
    ]
    output.table(("PART", "STATE", "PID", "RESTARTS", "MEMORY", "CPU", "ADDRESS"), rows)
    state = "ready" if report.ready else "not ready"
    log_dir = Path(report.data_dir) / "logs"
    for part in report.parts:
        if part.error and part.state in _FAILING:
            terminal.write(f"\n{part.name}: {part.error}; more in {log_dir / part.name}.log")
    terminal.write(
        f"\n{state}; {output.megabytes(report.memory_bytes)} in all; API {report.api}"
        + (f"; ingress {report.ingress}" if report.ingress else "")
        + (f", TLS {report.ingress_tls}" if report.ingress_tls else "")
        + f"; metrics {report.metrics}"
    )


def doctor(data_dir: DataDir = None, form: Output = Format.TABLE) -> None:
    """Look at what this machine offers and lacks, and say what mends it."""
    with output.explained():
        findings = doctors.examine(settings.load(data_dir))
        if form is Format.TABLE:
            rows = [(f.verdict, f.name, f.observed, f.remedy) for f in findings]
            output.table(("", "WHAT", "FOUND", "REMEDY"), rows)
        else:
            output.document([_finding(f) for f in findings], form)
        if any(f.verdict is doctors.Verdict.FAIL for f in findings):
            raise typer.Exit(output.FAILED)


def _finding(finding: doctors.Finding) -> dict[str, str]:
    """A finding as programs read it."""
    return {
        "name": finding.name,
        "verdict": str(finding.verdict),
        "found": finding.observed,
        "remedy": finding.remedy,
    }


def kubeconfig(data_dir: DataDir = None) -> None:
    """Print the administrator's kubeconfig."""
    with output.explained():
        instance = platform.require_running(settings.load(data_dir).data_dir)
        terminal.write(instance.kubeconfig.read_text(encoding="utf-8").rstrip())
