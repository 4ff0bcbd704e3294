"""The `traces` commands: list traces, draw one as a waterfall, offer them to a browser."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from ondol.base import errors
from ondol.base.unix_http import UnixConnection
from ondol.cli import connection, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, Format, Output
from ondol.compose import hints
from ondol.compose.instance import Instance
from ondol.observe.traces import otlp, waterfall

_TIMEOUT_S: Final = 10.0
_ID_DIGITS: Final = 32
_ID_PREFIX: Final = 12
_SEARCHED_MAX: Final = 1500
_PORT: Final = 16686


class _Commands(TyperGroup):
    """`ondol traces [ID]` is short for `ondol traces show [ID]`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["show", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=_Commands,
    help="Show traces, or offer them to a browser.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 for a free one.")] = _PORT,
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Answer by gRPC, too, at this port (Jaeger's is 16685)."),
    ] = None,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Answer Jaeger's query API at http://127.0.0.1:PORT until Ctrl-C, for a browser or Grafana.

    Whoever may run this lends what they may see to every user of this machine for as long as it runs.
    """
    from ondol.cli import traces_proxy  # noqa: PLC0415 - an HTTP server is for this command alone

    with output.explained():
        instance = connection.platform_of(data_dir, kubeconfig)
        socket = instance.socket("observe")
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(traces_proxy.opened(socket, port))
            if grpc_port is not None:
                from ondol.observe.traces import grpc_queries  # noqa: PLC0415 - a heavy library, seldom asked for

                ask_by_http = functools.partial(traces_proxy.ask, socket)
                address = f"127.0.0.1:{grpc_port}"
                bound = stack.enter_context(grpc_queries.serving(ask_by_http, address))
                terminal.note(f"and by gRPC at 127.0.0.1:{bound}")
            terminal.note(f"traces are at http://127.0.0.1:{server.server_port}; Ctrl-C ends it")
            server.serve_forever()


@app.command("show")
def traces(
    trace_id: Annotated[
        str, typer.Argument(help="Draw this trace, named by its first digits; `last` for the newest.")
    ] = "",
    service: Annotated[str, typer.Option(help="Only traces this service takes part in.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1500, help="How many to list.")] = 20,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    form: Output = Format.TABLE,
) -> None:
    """List traces, newest first, or draw one: the time in each service and the waits between them.

    The word show may be left out.
    """
    with output.explained():
        instance = connection.platform_of(data_dir, kubeconfig)
        if not trace_id:
            _print_list(summaries(instance, service=service, limit=limit), form)
            return
        if trace_id == "last":
            newest = summaries(instance, service=service, limit=1)
            if not newest:
                raise errors.NotFound(f"there are no traces{f' of {service}' if service else ''} yet")
            trace_id = newest[0]["traceId"]
        elif len(trace_id) < _ID_DIGITS:
            trace_id = _completed(trace_id, summaries(instance, service=service, limit=_SEARCHED_MAX))
        document = ask(instance, f"/api/v3/traces/{trace_id}")["result"]
        if form is not Format.TABLE:
            output.document(document, form)
            return
        for line in draw(document):
            terminal.write(line)


def _completed(start: str, recent: Sequence[Mapping[str, Any]]) -> str:
    """The one trace whose identity begins so, of those lately taken."""
    ids = [str(entry["traceId"]) for entry in recent if entry["traceId"].startswith(start.lower())]
    if len(ids) != 1:
        what = "no trace begins" if not ids else f"{len(ids)} traces begin"
        raise errors.NotFound(f"{what} with {start}")
    return ids[0]


def draw(document: Any, *, width: int = 0) -> list[str]:
    """A trace, as the query API answers it, as lines of text."""
    spans = otlp.from_json(json.dumps(document).encode())
    columns = width or min(terminal.columns() or 110, 160)
    return waterfall.render(waterfall.waterfall(spans), width=columns)


def summaries(instance: Instance, *, service: str = "", limit: int = 20) -> list[dict[str, Any]]:
    """The newest traces, summed up."""
    query = urllib.parse.urlencode({"query.serviceName": service, "query.searchDepth": limit})
    return list(ask(instance, f"/api/v3/trace-summaries?{query}")["summaries"])


def ask(instance: Instance, path: str) -> Any:
    """Ask the query API of `observe`."""
    observe = UnixConnection(str(instance.socket("observe")), timeout=_TIMEOUT_S)
    try:
        observe.request("GET", path)
        answer = observe.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise errors.HostError(
            f"observe does not answer: {error}", remedy=hints.command("status", instance.data_dir)
        ) from error
    finally:
        observe.close()
    if answer.status != http.client.OK:
        failure = errors.NotFound if answer.status == http.client.NOT_FOUND else errors.Unavailable
        raise failure(_message(answer, body))
    return json.loads(body)


def _message(answer: http.client.HTTPResponse, body: bytes) -> str:
    """The message of an error answer, or that it has none that can be read."""
    try:
        return str(json.loads(body)["errors"][0]["msg"])
    except (ValueError, LookupError, TypeError):
        return f"observe answered {answer.status} {answer.reason}; its log says why"


def _print_list(listed: list[dict[str, Any]], form: Format) -> None:
    if form is not Format.TABLE:
        output.document(listed, form)
        return
    if not listed:
        terminal.note("No traces found")
        return
    rows = []
    for entry in listed:
        start_ns, end_ns = int(entry["minStartTimeUnixNano"]), int(entry["maxEndTimeUnixNano"])
        began = datetime.fromtimestamp(start_ns / 1e9).astimezone().strftime("%H:%M:%S")
        took = f"{(end_ns - start_ns) / 1e6:.1f} ms"
        root = waterfall.printable(f"{entry['rootServiceName']} {entry['rootOperationName']}")
        services = waterfall.printable(", ".join(service["name"] for service in entry["services"]))
        rows.append(
            (entry["traceId"], began, took, entry["spanCount"], entry["errorSpanCount"], root, services)
        )
    width = terminal.columns()
    if width:  # a person reads and may type the first digits; a program gets all of them
        rows = [(trace_id[:_ID_PREFIX], *rest) for trace_id, *rest in rows]
    output.table(("TRACE", "BEGAN", "TOOK", "SPANS", "ERRORS", "ROOT", "SERVICES"), rows, width=width)
