"""`ondol mesh logs`: lines of the proxy's log, and what their flags mean."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import typer

from ondol.api.objects import Object
from ondol.base import errors
from ondol.cli import connection, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, Format, NamespaceOption, Output
from ondol.compose import settings
from ondol.compose.instance import Instance

if TYPE_CHECKING:
    from ondol.mesh.flags import Explainer
    from ondol.mesh.lines import Line

_FILE: Final = "access.log"
_ERROR: Final = 400
_KINDS: Final = ("pod", "deployment", "deploy", "service", "svc")


def logs(
    workload: Annotated[
        str,
        typer.Argument(
            help="Whose calls: a workload or pod, as `front` or `deployment/front`; `ingress`; none is all."
        ),
    ] = "",
    problems: Annotated[
        bool, typer.Option("--problems", help="Only calls that did not go as they should.")
    ] = False,
    tail: Annotated[int, typer.Option(min=1, help="How many lines, the newest.")] = 20,
    file: Annotated[
        Path | None, typer.Option(help="Another file than the platform's, with lines of either form.")
    ] = None,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
    form: Output = Format.TABLE,
) -> None:
    """Show lines of the proxy's log; below each, why a call failed and which object brought that about.

    Lines are written where a Telemetry asks for them (accessLogging), or for all by the setting access_log.
    """

    async def run() -> list[tuple[Line, list[str]]]:
        from ondol.mesh import flags  # noqa: PLC0415 - protobuf is for this command alone

        texts = _read(file or _file(connection.platform_of(data_dir, kubeconfig)))
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with aclosing(connected.client) as client:
            documents: Mapping[str, Sequence[Object]] = {
                kind: (await client.list(resource)).items for kind, resource in flags.RESOURCES.items()
            }
        explainer = flags.Explainer(documents)
        chosen = _chosen(explainer, texts, connected.namespace, workload, problems=problems)
        return [(line, explainer.explain(line)) for line in deque(chosen, maxlen=tail)]

    with output.explained():
        shown = anyio.run(run)
        if form is not Format.TABLE:
            output.document([_document(line, sentences) for line, sentences in shown], form)
            return
        for line, sentences in shown:
            terminal.write(line.text)
            for sentence in sentences:
                terminal.write(f"    {sentence}")


def _file(instance: Instance) -> Path:
    return instance.log_dir / (settings.load(instance.data_dir).access_log or _FILE)


def _read(file: Path) -> Iterator[str]:
    """What was kept when the file grew too large, and then the file; each line by itself."""
    parts = [part for part in (file.with_suffix(".log.1"), file) if part.exists()]
    if not parts:
        remedy = "have a Telemetry ask for lines (accessLogging), or set access_log"
        raise errors.HostError(f"there is no {file}", remedy=remedy)
    for part in parts:
        try:
            with part.open(encoding="utf-8", errors="replace") as lines:
                yield from lines
        except OSError as error:
            text = f"{part} cannot be read: {error.strerror}"
            raise errors.HostError(text, remedy="ask whoever runs the platform") from error


def _chosen(
    explainer: Explainer, texts: Iterable[str], namespace: str, workload: str, *, problems: bool
) -> Iterator[Line]:
    from ondol.mesh import lines  # noqa: PLC0415 - see above

    kind, _, rest = workload.rpartition("/")
    if kind and kind not in _KINDS:
        raise errors.BadRequest(f"{kind} is none of {', '.join(_KINDS)}")
    name, _, where = rest.partition(".")
    for text in texts:
        line = lines.parsed(text)
        if line is None:
            continue
        if workload == "ingress" and not lines.is_of_ingress(line):
            continue
        if workload not in ("", "ingress") and not explainer.concerns(line, where or namespace, name):
            continue
        if problems and not line.flags and line.code < _ERROR:
            continue
        yield line


def _document(line: Line, sentences: Sequence[str]) -> dict[str, Any]:
    return {
        "time": line.time,
        "workload": line.workload,
        "method": line.method,
        "path": line.path,
        "authority": line.authority,
        "code": line.code,
        "flags": list(line.flags),
        "upstream": line.upstream,
        "cluster": line.cluster,
        "why": list(sentences),
    }
