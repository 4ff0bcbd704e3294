"""Commands on functions that are deployed: list, describe, delete, logs."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import typer
import yaml

from ondol.api import conditions, objects, resources
from ondol.base import errors
from ondol.cli import connection, func_build, func_logs, func_options, logs, output, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.func_options import PathOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.client import Client
from ondol.contracts import eventing, serving
from ondol.serverless.functions import wellknown

_SELECTOR: Final = f"{wellknown.FUNCTION_LABEL}=true"


class Form(enum.StrEnum):
    """How functions are printed."""

    HUMAN = "human"
    PLAIN = "plain"
    JSON = "json"
    YAML = "yaml"
    URL = "url"


FormOption = Annotated[Form, typer.Option("--output", "-o", envvar="FUNC_OUTPUT", help="How to print.")]
NameArgument = Annotated[str, typer.Argument(help="Name of the function.", show_default="that in the folder")]


def list_functions(
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")
    ] = False,
    form: FormOption = Form.HUMAN,
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """List the functions that are deployed."""

    async def run() -> list[dict[str, Any]]:
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with aclosing(connected.client) as client:
            place = "" if all_namespaces else connected.namespace
            services = (await client.list(serving.SERVICE, place, label_selector=_SELECTOR)).items
            pods = (await client.list(resources.POD, place, label_selector=serving.SERVICE_LABEL)).items
        return [_item(service, pods) for service in services]

    with output.explained():
        items = anyio.run(run)
        match form:
            case Form.JSON:
                terminal.write(json.dumps(items))
            case Form.YAML:
                terminal.write(yaml.safe_dump(items, sort_keys=False).rstrip())
            case Form.URL:
                for item in items:
                    terminal.write(item["url"])
            case _ if items:
                keys = ("name", "namespace", "runtime", "deployer", "url", "ready", "replicas")
                output.table([key.upper() for key in keys], [[item[key] for key in keys] for item in items])
            case _:
                terminal.note("no functions")


def _item(service: objects.Object, pods: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    name, namespace = objects.name(service), objects.namespace(service)
    own = [
        pod
        for pod in pods
        if objects.namespace(pod) == namespace and objects.labels(pod).get(serving.SERVICE_LABEL) == name
    ]
    ready = conditions.get(service, "Ready") or {}
    return {
        "name": name,
        "namespace": namespace,
        "runtime": objects.labels(service).get(wellknown.RUNTIME_LABEL, ""),
        "url": str(objects.status(service).get("url") or ""),
        "ready": str(ready.get("status") or "Unknown"),
        "deployer": objects.annotations(service).get(wellknown.DEPLOYER_ANNOTATION, wellknown.DEPLOYER),
        "replicas": len(own),
    }


def describe(
    name: NameArgument = "",
    form: FormOption = Form.HUMAN,
    path: PathOption = Path(),
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Show where a function is served, from which image, and which events it is sent."""

    async def run() -> dict[str, Any]:
        chosen, place = _addressed(name, namespace, path)
        connected = connection.connect(data_dir, kubeconfig, place)
        async with aclosing(connected.client) as client:
            return await instance(client, chosen, connected.namespace)

    with output.explained():
        _print(anyio.run(run), form)


def _addressed(name: str, namespace: str, path: Path) -> tuple[str, str]:
    """Name and namespace: those of the words, or of the folder's function."""
    if name:
        return name, namespace
    function = func_options.look(path).function
    return function.name, namespace or function.deploy.namespace or function.namespace


async def instance(client: Client, name: str, namespace: str) -> dict[str, Any]:
    """A deployed function in the words of Knative's own tool."""
    service = await _function(client, name, namespace)
    try:
        triggers = (await client.list(eventing.TRIGGER, namespace)).items
    except errors.NotFound:
        triggers = []
    own = [t for t in triggers if _subscriber(t) == name]
    status, template = objects.status(service), objects.spec(service).get("template") or {}
    containers = (template.get("spec") or {}).get("containers") or [{}]
    url = str(status.get("url") or "")
    return {
        "route": url,
        "routes": [url] if url else [],
        "name": name,
        "image": str(containers[0].get("image") or ""),
        "namespace": namespace,
        "subscriptions": [_subscription(trigger) for trigger in own],
        "ready": str((conditions.get(service, "Ready") or {}).get("status") or "Unknown"),
        "deployer": objects.annotations(service).get(wellknown.DEPLOYER_ANNOTATION, wellknown.DEPLOYER),
        "labels": dict(objects.labels(service)),
    }


async def _function(client: Client, name: str, namespace: str) -> objects.Object:
    try:
        service = await client.get(serving.SERVICE, name, namespace)
    except errors.NotFound as error:
        raise errors.NotFound(f"no function {name} is deployed in {namespace}") from error
    if objects.labels(service).get(wellknown.FUNCTION_LABEL) != "true":
        raise errors.NotFound(f"the Service {name} in {namespace} is no function")
    return service


def _subscriber(trigger: Mapping[str, Any]) -> str:
    reference = (objects.spec(trigger).get("subscriber") or {}).get("ref") or {}
    return str(reference.get("name") or "") if reference.get("kind") == "Service" else ""


def _subscription(trigger: Mapping[str, Any]) -> dict[str, str]:
    spec = objects.spec(trigger)
    attributes = (spec.get("filter") or {}).get("attributes") or {}
    return {
        "source": str(attributes.get("source") or ""),
        "type": str(attributes.get("type") or ""),
        "broker": str(spec.get("broker") or ""),
    }


def _print(described: Mapping[str, Any], form: Form) -> None:
    match form:
        case Form.JSON:
            terminal.write(json.dumps(described))
        case Form.YAML:
            terminal.write(yaml.safe_dump(dict(described), sort_keys=False).rstrip())
        case Form.URL:
            terminal.write(described["route"])
        case Form.PLAIN:
            terminal.write("\n".join(_plain(described)))
        case Form.HUMAN:
            terminal.write("\n".join(_human(described)))


def _plain(described: Mapping[str, Any]) -> list[str]:
    lines = [f"{key.capitalize()} {described[key]}" for key in ("name", "image", "namespace")]
    lines += [f"Route {route}" for route in described["routes"]]
    lines += [f"Ready {described['ready']}", f"Deployer {described['deployer']}"]
    lines += [f"Subscription {s['source']} {s['type']} {s['broker']}" for s in described["subscriptions"]]
    return lines + [f"Label {key} {value}" for key, value in sorted(described["labels"].items())]


def _human(described: Mapping[str, Any]) -> list[str]:
    sections = {
        "Function name:": [described["name"]],
        "Function is built in image:": [described["image"]],
        "Function is deployed in namespace:": [described["namespace"]],
        "Routes:": described["routes"],
        "Function is ready:": [described["ready"]],
        "Deployer:": [described["deployer"]],
        "Subscriptions (Source, Type, Broker):": [
            f"{s['source']} {s['type']} {s['broker']}" for s in described["subscriptions"]
        ],
        "Labels:": [f"{key}: {value}" for key, value in sorted(described["labels"].items())],
    }
    return [
        line for title, rows in sections.items() if rows for line in (title, *(f"  {row}" for row in rows))
    ]


def delete(
    name: NameArgument = "",
    path: PathOption = Path(),
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Take a function off the platform, with its Triggers; its folder stays."""

    async def run(chosen: str, place: str) -> str:
        connected = connection.connect(data_dir, kubeconfig, place)
        async with aclosing(connected.client) as client:
            service = await _function(client, chosen, connected.namespace)
            await client.delete(serving.SERVICE, chosen, connected.namespace, uid=objects.uid(service))
            return connected.namespace

    with output.explained():
        chosen, place = _addressed(name, namespace, path)
        place = anyio.run(run, chosen, place)
        if not name:
            func_build.undeployed(func_options.look(path)).save()
        terminal.write(f"function {chosen} deleted from {place}")


def _printed(chunk: bytes) -> None:
    terminal.write_bytes(chunk)
    terminal.flush()


def follow_logs(
    name: Annotated[
        str, typer.Option("--name", help="Name of the function.", show_default="that in the folder")
    ] = "",
    since: Annotated[str, typer.Option("--since", help="Only what is newer: 30s, 5m, 2h.")] = "1m",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on as lines come.")] = True,
    path: PathOption = Path(),
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Print what the instances of a function write, of those that come later too."""

    async def run() -> None:
        since_s = logs.seconds(since)
        chosen, place = _addressed(name, namespace, path)
        connected = connection.connect(data_dir, kubeconfig, place)
        async with aclosing(connected.client) as client:
            await _function(client, chosen, connected.namespace)
            await func_logs.follow(
                client, chosen, connected.namespace, _printed, since_s=since_s, goes_on=follow
            )

    with output.explained():
        anyio.run(run)
