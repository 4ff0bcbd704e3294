"""Credentials of the parts: certificates, kubeconfigs, the node's name, the agent's token."""
# ruff: noqa: PLC0415 - the supervisor reads this module too, without what only certifying needs

from __future__ import annotations

import ipaddress
import secrets
import socket
from typing import Any, Final

from ondol.base import errors, files
from ondol.base.clock import Clock
from ondol.compose.instance import Instance
from ondol.compose.settings import Settings

COMPONENTS: Final = ("control", "node", "gateway")
"""The parts that speak to the API server, each with a certificate of its own."""
PROVISIONER: Final = "provisioner"
"""Lives in the part `node`, and may do with volumes what a node's account may not."""
_CERTIFIED: Final = (*COMPONENTS, PROVISIONER)
# Common names of certificates have 64 characters, and "system:node:" comes first.
_NODE_NAME_MAX: Final = 52


def certify(instance: Instance, node: str, clock: Clock) -> Any:
    """Certificates for the server and each part, and kubeconfigs to find it by; the `apiserver.pki.Pki`."""
    import msgspec
    import yaml

    from ondol.apiserver import pki as authority

    members = [
        authority.Client("admin", "ondol:admin", ("system:masters",)),
        authority.Client("node", f"system:node:{node}", ("system:nodes",)),
        *(authority.Client(name, f"system:ondol:{name}") for name in _CERTIFIED if name != "node"),
    ]
    service_address = str(ipaddress.ip_network(instance.service_cidr)[1])
    pki = authority.ensure(
        instance.pki_dir,
        clock=clock,
        names=[socket.gethostname()],
        addresses=[service_address, instance.bridge_address],
        clients=members,
    )
    ca = pki.ca_file.read_bytes()
    places = [("admin", instance.kubeconfig), *((n, instance.component_kubeconfig(n)) for n in _CERTIFIED)]
    for name, place in places:
        document = authority.kubeconfig(instance.api_url, ca, pki.client(name))
        text = yaml.safe_dump(msgspec.to_builtins(document), sort_keys=False).encode()
        authority.write_kubeconfig(place, text)
    return pki


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
