"""Which kinds of channels and sources there are: by the labels of their definitions, as kn has it."""

from __future__ import annotations

from typing import Final

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.cli import output, terminal
from ondol.cli.knative import commands as knative
from ondol.cli.knative.commands import Session, Where
from ondol.cli.output import Format

CHANNELS: Final = "messaging.knative.dev/subscribable=true"
SOURCES: Final = "duck.knative.dev/source=true"


async def definitions(session: Session, selector: str) -> list[Object]:
    """The definitions with this label."""
    listed = await session.client.list(resources.CUSTOM_RESOURCE_DEFINITION, label_selector=selector)
    return sorted(listed.items, key=objects.name)


def resource(crd: Object) -> Resource:
    """The kind that a definition is about, in the version that is stored."""
    spec = crd["spec"]
    version = next(v["name"] for v in spec["versions"] if v["storage"])
    return Resource(spec["group"], version, spec["names"]["plural"], spec["names"]["kind"])


def listed(where: Where, form: Format, selector: str, what: str) -> None:
    """Print them."""

    async def main(session: Session) -> None:
        crds = await definitions(session, selector)
        if form is not Format.TABLE:
            output.document({"apiVersion": "v1", "kind": "List", "items": crds}, form)
            return
        if not crds:
            terminal.note(f"No {what} types found.")
            return
        rows = [(resource(crd).kind, objects.name(crd), _description(crd)) for crd in crds]
        output.table(("TYPE", "NAME", "DESCRIPTION"), rows)

    knative.run(where, main)


def _description(crd: Object) -> str:
    for version in crd["spec"]["versions"]:
        if version["storage"]:
            schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
            return str(schema.get("description") or "")
    return ""
