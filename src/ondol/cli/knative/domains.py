"""`ondol domain`: map names of one's own to Knative services."""

from __future__ import annotations

import copy
from typing import Annotated, Final

import typer

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.base import errors
from ondol.cli import terminal
from ondol.cli.flags import expanded
from ondol.cli.knative import commands, shown, viewing, waiting
from ondol.cli.knative.commands import CONTEXT, DOMAIN, Listing, Name, Names, Session, Where
from ondol.cli.knative.waiting import Patience
from ondol.cli.output import Format, Output, UsageError

app = typer.Typer(
    help="Domain mappings: names of one's own for services.",
    context_settings=CONTEXT,
    no_args_is_help=True,
    add_completion=False,
)
_KINDS: Final = {
    "ksvc": ("serving.knative.dev/v1", "Service"),
    "service": ("serving.knative.dev/v1", "Service"),
    "kroute": ("serving.knative.dev/v1", "Route"),
    "route": ("serving.knative.dev/v1", "Route"),
    "svc": ("v1", "Service"),
}
_CLAIM: Final = (
    "have an administrator make a ClusterDomainClaim of the name with spec.namespace {namespace}, or set "
    'autocreate-cluster-domain-claims: "true" in the ConfigMap config-network of knative-serving'
)
Ref = Annotated[
    str, typer.Option("--ref", help="ksvc:NAME (or just NAME), kroute:NAME, or svc:NAME of Kubernetes.")
]
Tls = Annotated[str, typer.Option("--tls", help="Secret with the name's certificate.")]


def reference(text: str) -> Object:
    """What a `--ref` names, as a mapping refers to it."""
    prefix, colon, name = text.rpartition(":")
    kind = prefix if colon else "ksvc"
    if kind not in _KINDS or not name:
        raise UsageError(f"--ref: {text} is none of ksvc:NAME, kroute:NAME and svc:NAME")
    api_version, word = _KINDS[kind]
    return {"apiVersion": api_version, "kind": word, "name": name}


@app.command()
@expanded
def create(
    name: Name, ref: Ref, tls: Tls = "", patience: Patience = Patience(), where: Where = Where()
) -> None:
    """Map a name to a service."""

    async def main(session: Session) -> None:
        spec = {"ref": {**reference(ref), "namespace": session.namespace}}
        document = {
            "apiVersion": DOMAIN.api_version,
            "kind": DOMAIN.kind,
            "metadata": {"name": name, "namespace": session.namespace},
            "spec": spec | ({"tls": {"secretName": tls}} if tls else {}),
        }
        await session.client.create(DOMAIN, document)
        await _report(session, name, patience, "created")

    commands.run(where, main)


@app.command()
@expanded
def update(
    name: Name, ref: Ref = "", tls: Tls = "", patience: Patience = Patience(), where: Where = Where()
) -> None:
    """Map a name to another service, or give it another certificate."""
    if not ref and not tls:
        raise typer.BadParameter("nothing to change: give --ref or --tls")

    async def main(session: Session) -> None:
        mapping = copy.deepcopy(await session.client.get(DOMAIN, name, session.namespace))
        if ref:
            mapping["spec"]["ref"] = {**reference(ref), "namespace": session.namespace}
        if tls:
            mapping["spec"]["tls"] = {"secretName": tls}
        await session.client.update(DOMAIN, mapping)
        await _report(session, name, patience, "updated")

    commands.run(where, main)


async def _report(session: Session, name: str, patience: Patience, done: str) -> None:
    if patience.wait:
        try:
            await waiting.until_ready(session.client, DOMAIN, name, session.namespace, patience)
        except errors.OndolError as error:
            live = await session.client.get(DOMAIN, name, session.namespace)
            claimed = conditions.get(live, "DomainClaimed") or {}
            if claimed.get("status") == "True":
                raise
            raise errors.HostError(str(error), remedy=_CLAIM.format(namespace=session.namespace)) from error
    terminal.write(f"Domain mapping '{name}' {done} in namespace '{session.namespace}'.")


@app.command("list")
@expanded
def list_(name: Names = None, listing: Listing = Listing(), where: Where = Where()) -> None:
    """List domain mappings."""
    row, noun = shown.domain_row, "domain mappings"
    viewing.listed(where, DOMAIN, listing, shown.DOMAINS, row, names=name or (), noun=noun)


@app.command()
@expanded
def describe(name: Name, form: Output = Format.TABLE, where: Where = Where()) -> None:
    """Show a domain mapping and its conditions."""
    viewing.described(where, DOMAIN, name, form, _show)


def _show(mapping: Object, now: float) -> None:
    to = objects.spec(mapping).get("ref") or {}
    secret = (objects.spec(mapping).get("tls") or {}).get("secretName")
    url = objects.status(mapping).get("url")
    referred = f"{to.get('kind')} {to.get('name')} ({to.get('apiVersion')})"
    shown.heading(mapping, now, ("URL", url), ("Reference", referred), ("TLS secret", secret))


@app.command()
@expanded
def delete(name: Names = None, where: Where = Where()) -> None:
    """Delete domain mappings."""
    commands.deleted(where, DOMAIN, name or (), Patience(wait=False), "Domain mapping")
