"""The `mesh` commands: where a call goes, and by which rule."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import typer

from ondol.api.objects import Key, Object
from ondol.cli import completion, connection, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, Format, NamespaceOption, Output
from ondol.client import Client
from ondol.contracts import proxy

if TYPE_CHECKING:
    from ondol.mesh.evaluate import Call
    from ondol.mesh.explain import Explanation

_PORTS: Final = {"http": 80, "tcp": 0}

app = typer.Typer(
    help="Explain the service mesh.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)


@app.callback()
def _group() -> None:
    """Keeps `route` a word of its own while it is the only one."""


@app.command()
def route(
    url: Annotated[
        str,
        typer.Argument(help="What is called: `reviews/v1?x=y`, `http://reviews:9080`, `tcp://db:5432`."),
    ],
    caller: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="POD",
            help="The pod that calls; without one the call comes from outside, at the ingress.",
            autocompletion=completion.pods,
        ),
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="A header, as `x-user: jason`; repeatable.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-X", help="The request's method.")] = "GET",
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
    form: Output = Format.TABLE,
) -> None:
    """Say where a call would go, and which VirtualService decides it; nothing is sent.

    It is read from the API's objects as they are now, so it can be asked before a rule has any traffic.
    """

    async def run() -> None:
        from ondol.mesh import explain  # noqa: PLC0415 - protobuf is for this command alone

        call = _call(url, header or (), method)
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with aclosing(connected.client) as client:
            documents = await _documents(client)
        pod = Key(connected.namespace, caller) if caller else None
        _print(explain.explain(documents, pod, call), form)

    with output.explained():
        anyio.run(run)


async def _documents(client: Client) -> dict[str, Sequence[Object]]:
    from ondol.mesh import explain  # noqa: PLC0415 - see above

    return {kind: (await client.list(resource)).items for kind, resource in explain.RESOURCES.items()}


def _call(url: str, headers: Sequence[str], method: str) -> Call:
    """The call that a URL and headers, as curl takes them, stand for."""
    from ondol.mesh.evaluate import Call  # noqa: PLC0415 - see above

    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise output.UsageError(f"{url}: {error}") from error
    if not parts.hostname or not port:
        raise output.UsageError(f"{url} is not http://HOST[:PORT][/PATH] or tcp://HOST:PORT")
    if parts.scheme == "tcp":
        return Call(port=port, host="", path="", target=parts.hostname)
    pairs = [each.partition(":") for each in headers]
    if wrong := next((name for name, colon, _ in pairs if not colon or not name.strip()), None):
        raise output.UsageError(f"{wrong!r} is not a header, such as x-user: jason")
    named = {name.strip().lower(): value.strip() for name, _, value in pairs}
    host = named.pop("host", "") or parts.netloc
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Call(port=port, host=host, path=path, method=method, headers=named, target=parts.hostname)


def _print(explanation: Explanation, form: Format) -> None:
    verdict = explanation.verdict
    if form is not Format.TABLE:
        output.document(_document(explanation), form)
        return
    terminal.write(f"Rule:   {_rule(explanation)}")
    terminal.write(f"Result: {_result(explanation)}")
    total = sum(verdict.clusters.values())
    rows = [
        (
            f"{100 * weight / total:.4g}%",
            *_destination(name),
            ", ".join(verdict.endpoints.get(name, ())) or "-",
        )
        for name, weight in verdict.clusters.items()
    ]
    if rows:
        terminal.write()
        output.table(("SHARE", "DESTINATION", "SUBSET", "ENDPOINTS"), rows)
    for each in explanation.not_in_force:
        terminal.note(f"not in force: {each}")


def _rule(explanation: Explanation) -> str:
    verdict = explanation.verdict
    if not explanation.rules:
        return "none"
    return f"{explanation.kind} {' or '.join(explanation.rules)}" + (
        f", route {verdict.route}" if verdict.route else ""
    )


def _result(explanation: Explanation) -> str:
    verdict = explanation.verdict
    if verdict.status:
        return f"{verdict.status} from the proxy" + (", as no route matches" if verdict.status == 404 else "")
    if not verdict.chain:
        return "refused: no Gateway listens at the port"
    if not any(map(proxy.destination, verdict.clusters)):
        return "sent where it was going: the mesh does not know the destination"
    return "sent on" if any(verdict.endpoints.values()) else "503 from the proxy, as nobody is ready there"


def _destination(cluster: str) -> tuple[str, str]:
    destination = proxy.destination(cluster)
    if destination is None:
        return cluster, "-"
    return f"{destination.host}:{destination.port}", destination.subset or "-"


def _document(explanation: Explanation) -> dict[str, Any]:
    verdict = explanation.verdict
    return {
        "rules": list(explanation.rules),
        "route": verdict.route,
        "result": _result(explanation),
        "status": verdict.status,
        "destinations": [
            {
                "cluster": name,
                "weight": weight,
                "endpoints": list(verdict.endpoints.get(name, ())),
            }
            for name, weight in verdict.clusters.items()
        ],
        "notInForce": list(explanation.not_in_force),
    }
