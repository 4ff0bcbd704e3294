"""The command `func invoke`: one request to a function, wherever it is served, and its reply."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import uuid
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import anyio
import typer

from ondol.base import errors
from ondol.cli import connection, func_options, func_remote, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.func_options import PathOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.compose.functions import running
from ondol.compose.functions.folder import Folder

SOURCE: Final = "/boson/fn"
TYPE: Final = "boson.fn"
DATA: Final = '{"message":"Hello World"}'
_TIMEOUT_S: Final = 60.0
_LOCALHOST: Final = ".localhost"
_FORMATS: Final = {"http": "http", "cloudevent": "cloudevent", "cloudevents": "cloudevent", "": ""}


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent."""

    method: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def invoke(
    target: Annotated[
        str,
        typer.Option(
            "--target",
            "-t",
            envvar="FUNC_TARGET",
            help="local, remote or a URL.",
            show_default="local, else remote",
        ),
    ] = "",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            envvar="FUNC_FORMAT",
            help="http or cloudevent.",
            show_default="as func.yaml has it",
        ),
    ] = "",
    data: Annotated[str, typer.Option("--data", envvar="FUNC_DATA", help="What is sent.")] = DATA,
    file: Annotated[
        Path | None, typer.Option("--file", envvar="FUNC_FILE", help="A file of what is sent.")
    ] = None,
    content_type: Annotated[
        str, typer.Option("--content-type", help="Type of what is sent.")
    ] = "application/json",
    request_type: Annotated[str, typer.Option("--request-type", help="POST or GET.")] = "POST",
    source: Annotated[str, typer.Option("--source", help="The event's source.")] = SOURCE,
    type: Annotated[str, typer.Option("--type", help="The event's type.")] = TYPE,
    id: Annotated[str, typer.Option("--id", help="The event's id.", show_default="a new one")] = "",
    extension: Annotated[
        list[str] | None,
        typer.Option("--extension", "-e", help="NAME=VALUE of the event; may be given again."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", "-i", help="Believe any certificate.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also the headers of the reply.")] = False,
    path: PathOption = Path(),
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Send the function a request and print its reply."""
    with output.explained():
        folder = func_options.look(path)
        chosen = _format(form, folder)
        extensions = func_options.pairs(extension, "--extension")
        if extensions and chosen != "cloudevent":
            raise output.UsageError("--extension is for --format cloudevent")
        body = _content(file) if file is not None else data.encode()
        attributes = {"specversion": "1.0", "id": id or str(uuid.uuid4()), "source": source, "type": type}
        event = {**attributes, **extensions} if chosen == "cloudevent" else {}
        request = _request(request_type, content_type, body, event)
        url, ingress_port = _url(folder, target, data_dir, kubeconfig, namespace)
        reply = send(url, request, ingress_port=ingress_port, insecure=insecure)
        _print(reply, verbose=verbose)
        if reply.status > 299:
            raise errors.HostError(f"{url} answered {reply.status}")


def _format(form: str, folder: Folder) -> str:
    if form.lower() not in _FORMATS:
        raise output.UsageError(f"--format {form}: write http or cloudevent")
    chosen, declared = _FORMATS[form.lower()], folder.function.invoke or "http"
    if chosen and chosen != declared:
        terminal.note(f"warning: sent as {chosen}, but func.yaml has invoke: {declared}")
    return chosen or declared


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise errors.HostError(
            f"{file} cannot be read: {errors.why(error)}", remedy="name another --file"
        ) from error


def _request(method: str, content_type: str, body: bytes, event: Mapping[str, str]) -> Request:
    method = method.upper()
    if method not in {"POST", "GET"}:
        raise output.UsageError(f"--request-type {method}: write POST or GET")
    headers = {f"ce-{name}": value for name, value in event.items()}
    return Request(method, {"content-type": content_type, **headers}, body)


def _url(
    folder: Folder, target: str, data_dir: Path | None, kubeconfig: str, namespace: str
) -> tuple[str, int]:
    """Where to send it, and the port of the platform's ingress if it goes there."""
    if target not in {"", "local", "remote"}:
        if urlsplit(target).scheme not in {"http", "https"}:
            raise output.UsageError(f"--target {target}: write local, remote or a URL")
        return target, 0
    if target != "remote":
        if port := running.local_port(folder.path):
            return f"http://{running.HOST}:{port}/", 0
        if target == "local":
            raise errors.HostError("the function is not running here", remedy="ondol func run")
    function = folder.function
    place = namespace or function.deploy.namespace or function.namespace
    if not target and not place:
        raise errors.HostError(
            "the function is neither running here nor deployed", remedy="ondol func run, or ondol func deploy"
        )

    async def route() -> str:
        connected = connection.connect(data_dir, kubeconfig, place)
        async with aclosing(connected.client) as client:
            described = await func_remote.instance(client, function.name, connected.namespace)
            return str(described["route"])

    url = anyio.run(route)
    if not url:
        raise errors.HostError(f"{function.name} has no route yet", remedy="ondol func describe")
    if (urlsplit(url).hostname or "").endswith(_LOCALHOST):
        return url, connection.platform_of(data_dir, kubeconfig).ports.ingress
    return url, 0


def send(url: str, request: Request, *, ingress_port: int = 0, insecure: bool = False) -> Reply:
    """One request; names below `localhost` are this machine, whatever it resolves."""
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    is_here = host == "localhost" or host.endswith(_LOCALHOST)
    port = parts.port or ingress_port or (443 if is_tls else 80)
    address = "127.0.0.1" if is_here else host
    if is_tls:
        context = ssl._create_unverified_context() if insecure else ssl.create_default_context()  # noqa: S323, SLF001 - what --insecure asks for
        client: http.client.HTTPConnection = http.client.HTTPSConnection(
            address, port, timeout=_TIMEOUT_S, context=context
        )
    else:
        client = http.client.HTTPConnection(address, port, timeout=_TIMEOUT_S)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        client.request(
            request.method, target, body=request.body, headers={"Host": parts.netloc, **request.headers}
        )
        answer = client.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, headers, answer.read())
    except (OSError, http.client.HTTPException, socket.gaierror) as error:
        why = errors.why(error) if isinstance(error, OSError) else str(error)
        raise errors.HostError(f"{url} does not answer: {why}", remedy="see ondol func logs") from error
    finally:
        client.close()


def _print(reply: Reply, *, verbose: bool) -> None:
    if verbose:
        terminal.write(f"HTTP {reply.status}")
        for name, value in reply.headers.items():
            terminal.write(f"  {name}: {value}")
    text = reply.body.decode(errors="replace")
    if "ce-id" in reply.headers:
        attributes = {
            name.removeprefix("ce-"): value for name, value in reply.headers.items() if name.startswith("ce-")
        }
        terminal.write("\n".join(f"{name}: {value}" for name, value in attributes.items()))
        terminal.write(f"data: {text}")
    elif reply.headers.get("content-type", "").startswith("application/cloudevents"):
        terminal.write(_indented(text))
    else:
        terminal.write(text)


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
