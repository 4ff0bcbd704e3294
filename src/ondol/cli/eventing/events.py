"""`ondol event`: send an event to a broker, channel or service, from outside the cluster.

What is in the cluster is reached through the API server's proxy for services, with the kubeconfig's rights.
That proxy keeps `Authorization` to itself, so a token for the sink goes in a header beside it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urljoin, urlsplit

import anyio.to_thread
import typer

from ondol.api import objects, resources
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.base.timestamps import rfc3339_micro
from ondol.cli import connection, func_invoke, terminal
from ondol.cli.eventing import words
from ondol.cli.flags import expanded
from ondol.cli.knative import commands as knative
from ondol.cli.knative.commands import CONTEXT, Session, Where
from ondol.cli.output import UsageError
from ondol.contracts import cluster, eventing
from ondol.eventing import tokens

TYPE: Final = "dev.knative.cli.plugin.event.generic"
SOURCE: Final = "ondol-event"
_MEDIA_TYPE: Final = "application/cloudevents+json"

app = typer.Typer(
    help="Events: send one to a broker, a channel or a service.",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def group() -> None:
    """A group, though it has but one command."""


@app.command()
@expanded
def send(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            "-r",
            help="Who gets it: broker:NAME, channel:NAME, ksvc:NAME, svc:NAME, a URI; with :NAMESPACE for "
            "another one. Also Kind:API_VERSION:NAME.",
            show_default=False,
        ),
    ],
    type: Annotated[str, typer.Option("--type", "-t", help="The event's type.")] = TYPE,
    id: Annotated[str, typer.Option("--id", "-i", help="Its id.", show_default="a new one")] = "",
    source: Annotated[str, typer.Option("--source", "-s", help="Its source.")] = SOURCE,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", "-f", help="PATH=VALUE of its data: order.amount=3; may be given again."),
    ] = None,
    raw_field: Annotated[
        list[str] | None, typer.Option("--raw-field", help="As --field; the value is text in any case.")
    ] = None,
    addressable_uri: Annotated[
        str, typer.Option("--addressable-uri", help="A URI relative to the address.")
    ] = "",
    as_service_account: Annotated[
        str,
        typer.Option(
            "--as-service-account",
            help="As whom to send it where authentication-oidc is on: NAME, or NAME:NAMESPACE.",
            show_default=False,
        ),
    ] = "",
    where: Where = Where(),
) -> None:
    """Send an event, and say what was answered."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": id or str(uuid.uuid4()),
        "source": source,
        "type": type,
        "datacontenttype": "application/json",
    }

    async def main(session: Session) -> None:
        data = fields(field or (), raw_field or ())
        url, audience = await _address(session, to)
        token = await _token(session, as_service_account, to, audience) if as_service_account else ""
        url = urljoin(url, addressable_uri) if addressable_uri else url
        body = json.dumps({**event, "time": rfc3339_micro(session.now), "data": data}).encode()
        status, answer = await _post(session, url, body, token, where)
        if not 200 <= status < 300:
            raise _refused(url, status, answer, audience, as_service_account)
        terminal.write(f"Event '{event['id']}' of type {type} sent to {url}: {status}.")
        if answer.strip():
            terminal.write(answer.rstrip("\n"))

    knative.run(where, main)


def fields(typed: Sequence[str], raw: Sequence[str]) -> dict[str, Any]:
    """Data of `a.b=1` words; values are read as JSON where they are a number, a truth value or null."""
    data: dict[str, Any] = {}
    for option, listed in (("--field", typed), ("--raw-field", raw)):
        for word in listed:
            path, equals, text = word.partition("=")
            *parents, last = path.split(".")
            if not equals or not last or not all(parents):
                raise UsageError(f"{option} {word}: write PATH=VALUE, such as order.amount=3")
            into = data
            for name in parents:
                into = into.setdefault(name, {})
                if not isinstance(into, dict):
                    raise UsageError(f"{option} {word}: {name} has a value already")
            if isinstance(into.get(last), dict):
                raise UsageError(f"{option} {word}: {last} has fields already")
            into[last] = text if option == "--raw-field" else _value(text)
    return data


def _value(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=lambda constant: constant)
    except ValueError:
        return text
    return text if isinstance(value, dict | list | str) else value


async def _address(session: Session, text: str) -> tuple[str, str]:
    """Where to send it, and for which audience a token has to be there; empty where none is asked for."""
    typed = words.sink(text, session.namespace)
    if typed.uri:
        return typed.uri, ""
    resource = await _resource(session, typed)
    obj = await session.client.get(resource, typed.name, typed.namespace)
    if resource == resources.SERVICE:
        return f"http://{cluster.service_host(typed.name, typed.namespace)}", ""
    status = objects.status(obj)
    address = status.get("address") or {}
    url = str(address.get("url") or "")
    if resource == words.KSERVICE:  # which has an address of its own for callers from outside
        url = str(status.get("url") or url)
    if not url:
        remedy = f"see its conditions: ondol get {resource.plural} {typed.name} -o yaml"
        raise errors.HostError(f"{resource.kind} {typed.name} has no address", remedy=remedy)
    return url, str(address.get("audience") or "")


async def _token(session: Session, account: str, to: str, audience: str) -> str:
    """A token of a service account, `NAME` or `NAME:NAMESPACE`; none for whom states no audience."""
    name, colon, namespace = account.partition(":")
    if not name or (colon and not namespace) or ":" in namespace:
        raise UsageError(f"--as-service-account {account}: write NAME or NAME:NAMESPACE")
    if not audience:
        terminal.note(f"{to} states no audience, so it is sent no token")
        return ""
    key = objects.Key(namespace or session.namespace, name)
    token, _ = await tokens.issue(session.client, key, audience)
    return token


def _refused(url: str, status: int, answer: str, audience: str, account: str) -> errors.HostError:
    """What was answered in words, those of a Status too, and what helps where it is about who sends."""
    try:
        document = json.loads(answer)
    except ValueError:
        document = None
    is_of_api = isinstance(document, dict) and document.get("kind") == "Status"
    text = str(document.get("message") or "") if is_of_api else answer.strip()
    remedy = ""
    if audience and not is_of_api and not account and status == HTTPStatus.UNAUTHORIZED:
        remedy = "say as whom: --as-service-account NAME, such as default"
    elif audience and not is_of_api and account and status == HTTPStatus.FORBIDDEN:
        remedy = f"an EventPolicy has to allow the account {account}: kubectl get eventpolicies"
    return errors.HostError(f"{url} answered {status}: {text or 'nothing'}", remedy=remedy)


async def _resource(session: Session, typed: words.Sink) -> Resource:
    return words.resource_of(typed, () if typed.kind in words.SINKS else await session.client.discover())


async def _post(session: Session, url: str, body: bytes, token: str, where: Where) -> tuple[int, str]:
    """Status and body of the answer."""
    parts = urlsplit(url)
    service = cluster.service_of(parts.hostname or "") if ".svc" in (parts.hostname or "") else None
    if service is None:
        port = 0
        if (parts.hostname or "").endswith(".localhost"):
            port = connection.platform_of(where.data_dir, where.kubeconfig).ports.ingress
        headers = {"content-type": _MEDIA_TYPE} | ({"authorization": f"Bearer {token}"} if token else {})
        request = func_invoke.Request("POST", headers, body)
        reply = await anyio.to_thread.run_sync(lambda: func_invoke.send(url, request, ingress_port=port))
        return reply.status, reply.body.decode(errors="replace")
    name = f"{parts.scheme}:{service.name}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    path = f"/api/v1/namespaces/{service.namespace}/services/{name}/proxy{parts.path or '/'}"
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    headers = {"content-type": _MEDIA_TYPE} | ({eventing.SENDER_HEADER: f"Bearer {token}"} if token else {})
    answer = await session.client.raw("POST", path, query=query, headers=headers, body=body)
    return answer.status, answer.body.decode(errors="replace")
