"""The `mesh` commands: where a call goes and by which rule, whether it is let in there, what is odd."""

from __future__ import annotations

import base64
import ipaddress
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import typer

from ondol.api.objects import Key, Object, Resource
from ondol.base.clock import SystemClock
from ondol.cli import completion, connection, mesh_logs, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, Format, NamespaceOption, Output
from ondol.client import Client
from ondol.contracts import proxy

if TYPE_CHECKING:
    from ondol.mesh.check import Answer as CheckAnswer
    from ondol.mesh.check import Check
    from ondol.mesh.evaluate import Call
    from ondol.mesh.explain import Explanation
    from ondol.mesh.kinds.kind import Finding
    from ondol.mesh.policy import Call as Arriving
    from ondol.mesh.xds.types import Origin

_PORTS: Final = {"http": 80, "https": 443, "tcp": 0, "tls": 443}
_BLOCKED: Final = "block_all"
_UNKNOWN: Final = "passthrough"
"""The route and the chain of what the mesh does not know."""

app = typer.Typer(
    help="Explain the service mesh.",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)


@app.command()
def route(
    url: Annotated[
        str,
        typer.Argument(
            help="What is called: `reviews/v1?x=y`, `https://shop.example`, `tcp://db:5432`, `tls://db:5432`."
        ),
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
            documents = await _documents(client, explain.RESOURCES)
        pod = Key(connected.namespace, caller) if caller else None
        _print(explain.explain(documents, pod, call), form)

    with output.explained():
        anyio.run(run)


@app.command()
def check(
    caller: Annotated[
        str,
        typer.Argument(
            help="Who calls: a pod's name, `deployment/front`, `service/front`, or `outside`.",
            autocompletion=completion.pods,
        ),
    ],
    url: Annotated[
        str, typer.Argument(help="What is called: `cart`, `cart.shop:8080/items`, `tcp://db:5432`.")
    ],
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="A header, as `x-user: jason`; repeatable.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-X", help="The request's method.")] = "GET",
    from_ip: Annotated[
        str, typer.Option("--from-ip", metavar="ADDRESS", help="The caller's address, where it matters.")
    ] = "",
    claims: Annotated[
        str, typer.Option(metavar="JSON", help="The claims of its token, as a JSON object.")
    ] = "",
    jwt: Annotated[
        str, typer.Option(metavar="TOKEN", help="Its token; that it is signed well is taken for granted.")
    ] = "",
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
    form: Output = Format.TABLE,
) -> None:
    """Say whether a call would be let in where it arrives, and which policy decides it; nothing is sent.

    It is read from the API's objects as they are now. Exit status 1 says that some pod would not take it.
    """

    async def run() -> Check:
        from ondol.mesh import check as checking  # noqa: PLC0415 - protobuf is for this command alone

        target, call = _arriving(url, header or (), method)
        call = replace(call, claims=_claims(claims, jwt), source_ip=_address(from_ip) or call.source_ip)
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with aclosing(connected.client) as client:
            documents = await _documents(client, checking.RESOURCES)
        return checking.check(documents, connected.namespace, caller, target, call)

    with output.explained():
        checked = anyio.run(run)
        _print_check(checked, form)
        if not all(each.decision.allowed for each in checked.answers):
            raise typer.Exit(1)


app.command()(mesh_logs.logs)


@app.command()
def analyze(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="Files or folders of YAML, taken as if they were applied; `-` is standard input.",
            show_default=False,
        ),
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="What is in every namespace.")
    ] = False,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
    form: Output = Format.TABLE,
) -> None:
    """Say what of the mesh's objects, and of the Services and Deployments in it, cannot be meant.

    It is read from the API's objects as they are now; nothing is changed. Codes are Istio's and Kiali's.
    Exit status 1 says that there is something.
    """

    async def run() -> list[Finding]:
        from ondol.mesh import analyze as analyzing  # noqa: PLC0415 - protobuf is for this command alone

        more = [document for path in files or () for document in output.load_documents(path)]
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with aclosing(connected.client) as client:
            documents = await _documents(client, analyzing.RESOURCES)
        joined = analyzing.beside(documents, more, connected.namespace)
        listed = analyzing.analyze(joined, SystemClock().now())
        here = ("", connected.namespace)
        return [each for each in listed if all_namespaces or each.origin.namespace in here]

    with output.explained():
        listed = anyio.run(run)
        _print_findings(listed, form, with_namespace=all_namespaces)
        if listed:
            raise typer.Exit(1)


def _print_findings(listed: Sequence[Finding], form: Format, *, with_namespace: bool) -> None:
    from ondol.mesh.kinds.kind import by_message  # noqa: PLC0415 - see above

    by_text = by_message(listed)
    if form is not Format.TABLE:
        output.document(
            [
                {
                    "kind": origin.kind,
                    "namespace": origin.namespace,
                    "name": origin.name,
                    "codes": codes,
                    "message": message,
                }
                for (origin, message), codes in by_text.items()
            ],
            form,
        )
    elif by_text:
        rows = [
            (_object(origin, with_namespace=with_namespace), ", ".join(codes), message)
            for (origin, message), codes in by_text.items()
        ]
        output.table(("OBJECT", "CODES", "FINDING"), rows)
    else:
        terminal.note("nothing to say")


def _object(origin: Origin, *, with_namespace: bool) -> str:
    name = f"{origin.namespace}/{origin.name}" if with_namespace and origin.namespace else origin.name
    return f"{origin.kind} {name}"


async def _documents(client: Client, resources: Mapping[str, Resource]) -> dict[str, Sequence[Object]]:
    return {kind: (await client.list(resource)).items for kind, resource in resources.items()}


def _arriving(url: str, headers: Sequence[str], method: str) -> tuple[str, Arriving]:
    """The service that a URL names, and the call as it arrives there; port 0 where none is written."""
    from ondol.mesh import policy  # noqa: PLC0415 - see above

    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or 0
    except ValueError as error:
        raise output.UsageError(f"{url}: {error}") from error
    if not parts.hostname or parts.scheme not in _PORTS:
        raise output.UsageError(f"{url} is not NAME[.NAMESPACE][:PORT][/PATH] or tcp://NAME:PORT")
    named = _headers(headers)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = named.pop("host", "") or parts.netloc
    is_http = parts.scheme != "tcp"
    call = policy.Call(port=port, host=host, path=path, method=method, headers=named, is_http=is_http)
    return parts.hostname, call


def _claims(claims: str, token: str) -> dict[str, Any] | None:
    """What a token says, written out or as it is."""
    text = claims
    try:
        if token:
            body = token.split(".")[1]
            text = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
        document = json.loads(text) if text else None
    except (ValueError, IndexError) as error:
        raise output.UsageError(f"the token or its claims cannot be read: {error}") from error
    if document is not None and not isinstance(document, dict):
        raise output.UsageError("claims are a JSON object")
    return document


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError as error:
        raise output.UsageError(f"--from-ip: {error}") from error


def _print_check(checked: Check, form: Format) -> None:
    if form is not Format.TABLE:
        output.document(_check_document(checked), form)
        return
    terminal.write(f"{checked.caller.name} → {checked.service}")
    for each in checked.answers:
        decision = each.decision
        agreed = f" if the provider {decision.asks} agrees" if decision.asks else ""
        identity = each.principal or "no identity: not by mutual TLS"
        terminal.write(f"Result: {'allowed' if decision.allowed else 'denied'}{agreed}")
        terminal.write(f"By:     {_decider(each)}")
        terminal.write(f"Caller: {identity}")
        terminal.write(f"Pods:   {', '.join(pod.name for pod in each.pods)}, port {each.port}")
        for note in decision.notes:
            terminal.note(note)
    for excluded in checked.not_in_force:
        terminal.note(f"not in force: {excluded}")


def _decider(answer: CheckAnswer) -> str:
    decision = answer.decision
    if decision.object is None:
        return decision.reason or "nothing: no policy is for it"
    of = decision.object
    return f"{of.kind} {of.namespace}/{of.name} ({decision.reason})"


def _check_document(checked: Check) -> dict[str, Any]:
    return {
        "caller": checked.caller.name,
        "service": checked.service,
        "answers": [
            {
                "allowed": each.decision.allowed,
                "reason": each.decision.reason,
                "object": list(each.decision.object[:3]) if each.decision.object is not None else None,
                "asks": each.decision.asks,
                "principal": each.principal,
                "pods": [str(pod) for pod in each.pods],
                "port": each.port,
                "notes": list(each.decision.notes),
            }
            for each in checked.answers
        ],
        "notInForce": list(checked.not_in_force),
    }


def _call(url: str, headers: Sequence[str], method: str) -> Call:
    """The call that a URL and headers, as curl takes them, stand for."""
    from ondol.mesh.evaluate import Call  # noqa: PLC0415 - see above

    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise output.UsageError(f"{url}: {error}") from error
    if not parts.hostname or not port:
        raise output.UsageError(
            f"{url} is not http(s)://HOST[:PORT][/PATH], tcp://HOST:PORT or tls://HOST:PORT"
        )
    sni = parts.hostname if parts.scheme in ("https", "tls") else ""
    if parts.scheme in ("tcp", "tls"):
        return Call(port=port, host="", path="", target=parts.hostname, sni=sni)
    named = _headers(headers)
    host = named.pop("host", "") or parts.netloc
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Call(
        port=port,
        host=host,
        path=path,
        method=method,
        headers=named,
        scheme=parts.scheme,
        target=parts.hostname,
        sni=sni,
    )


def _headers(headers: Sequence[str]) -> dict[str, str]:
    """Headers as curl takes them, by names in lower case."""
    pairs = [each.partition(":") for each in headers]
    if wrong := next((name for name, colon, _ in pairs if not colon or not name.strip()), None):
        raise output.UsageError(f"{wrong!r} is not a header, such as x-user: jason")
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _print(explanation: Explanation, form: Format) -> None:
    verdict = explanation.verdict
    if form is not Format.TABLE:
        output.document(_document(explanation), form)
        return
    terminal.write(f"Rule:   {_rule(explanation)}")
    terminal.write(f"Result: {_result(explanation)}")
    if explanation.faults:
        terminal.write(f"Faults: {'; '.join(explanation.faults)}")
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
    is_unknown = verdict.chain == _UNKNOWN and proxy.BLACKHOLE in verdict.clusters
    if verdict.route == _BLOCKED or is_unknown:
        answer = "502 from the proxy" if verdict.status else "refused"
        return f"{answer}: the mesh does not know the destination, and lets pass only what it knows"
    if verdict.status:
        return f"{verdict.status} from the proxy" + (", as no route matches" if verdict.status == 404 else "")
    if not verdict.chain:
        return "refused: no Gateway listens at the port"
    if proxy.BLACKHOLE in verdict.clusters:
        return "ended: no rule takes such a connection there"
    if not any(map(proxy.destination, verdict.clusters)):
        return "sent where it was going: the mesh does not know the destination"
    if any(verdict.endpoints.values()):
        return "sent on"
    return "503 from the proxy, as nobody is ready there" if verdict.table else "ended: nobody is ready there"


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
        "faults": list(explanation.faults),
        "notInForce": list(explanation.not_in_force),
    }
