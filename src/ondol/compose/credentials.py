"""Who the parts are to each other: the users of their sockets, the node's name, the agent's token."""
# ruff: noqa: PLC0415 - the supervisor reads this module too, without what only certifying needs

from __future__ import annotations

import ipaddress
import secrets
import shutil
import socket
from pathlib import Path
from typing import Any, Final

from ondol.base import errors, files
from ondol.base.clock import Clock
from ondol.compose.instance import Instance
from ondol.compose.settings import Settings

COMPONENTS: Final = ("control", "node", "gateway", "events")
"""The parts that speak to the API server, each as a user of its own."""
PROVISIONER: Final = "provisioner"
"""Lives in the part `node`, and may do with volumes what a node's account may not."""
_EVENTS: Final = "events"
# Common names of certificates have 64 characters, and "system:node:" comes first.
_NODE_NAME_MAX: Final = 52


def certify(instance: Instance, clock: Clock) -> Any:
    """Certificates for the server and the administrator, with a kubeconfig; the `apiserver.pki.Pki`."""
    import msgspec
    import yaml

    from ondol.apiserver import pki as authority

    service_address = str(ipaddress.ip_network(instance.service_cidr)[1])
    pki = authority.ensure(
        instance.pki_dir,
        clock=clock,
        names=[socket.gethostname()],
        addresses=[service_address, instance.bridge_address],
        clients=[authority.Client("admin", "ondol:admin", ("system:masters",))],
    )
    document = authority.kubeconfig(instance.api_url, pki.ca_file.read_bytes(), pki.client("admin"))
    text = yaml.safe_dump(msgspec.to_builtins(document), sort_keys=False).encode()
    authority.write_kubeconfig(instance.kubeconfig, text)
    _forget_certificates_of_parts(instance)
    certify_events(instance, clock)
    return pki


def users(node: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """By component, the user as which it asks the API server, with its groups."""
    named = {name: (f"system:ondol:{name}", ()) for name in (*COMPONENTS, PROVISIONER)}
    return {**named, "node": (f"system:node:{node}", ("system:nodes",))}


def _forget_certificates_of_parts(instance: Instance) -> None:
    """Earlier versions gave them some; nobody needs them any more, so nobody shall have them."""
    shutil.rmtree(instance.data_dir / "components", ignore_errors=True)
    for name in (*COMPONENTS, PROVISIONER):
        for file in (instance.pki_dir / "clients").glob(f"{name}.*"):
            file.unlink(missing_ok=True)


def certify_events(instance: Instance, clock: Clock) -> None:
    """Have a certificate of Eventing's data plane there, renewed where that is due."""
    from ondol.apiserver import pki as authority
    from ondol.contracts import eventing

    authority.ensure_server(instance.pki_dir, _EVENTS, eventing.certified_names(), clock=clock)


def events_certificate(instance: Instance) -> tuple[Path, Path]:
    """Where it and its key are. Who only shows it needs nothing of what makes it, which takes 15 MB."""
    folder = instance.pki_dir / "servers"
    return folder / f"{_EVENTS}.crt", folder / f"{_EVENTS}.key"


def node_name(settings: Settings) -> str:
    """The name of this machine's Node object; `HostError` for one that no certificate can carry."""
    name = settings.node_name or socket.gethostname().lower()
    if len(name) > _NODE_NAME_MAX:
        raise errors.HostError(
            f"the node's name {name} is longer than {_NODE_NAME_MAX} characters",
            remedy="set a shorter one: node_name in config.toml, or ONDOL_NODE_NAME",
        )
    return name


def node_token(instance: Instance) -> str:
    """The secret that lets the API server, and nobody else, read from the node agent."""
    file = instance.pki_dir / "node.token"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # `down` may come before a first start
        files.replace(file, secrets.token_urlsafe(32).encode())
    return file.read_text(encoding="ascii")
