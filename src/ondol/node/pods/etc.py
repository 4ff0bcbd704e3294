"""The files in `/etc` that the node writes for a pod: hosts, hostname and resolv.conf (pure text)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ondol.api import objects
from ondol.base import addresses, errors
from ondol.node.pods.model import Spec

_SEARCH_MAX: Final = 32
# Tests of conformance look for the first lines.
_MANAGED: Final = "# Kubernetes-managed hosts file."
_MANAGED_ON_HOST: Final = "# Kubernetes-managed hosts file (host network)."
_KERNEL_MAX: Final = 64
_LOCAL: Final = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes",
    "fe00::2\tip6-allrouters",
)


def hostname(pod: Spec) -> str:
    """At most 63 characters, never ending in a dash or dot."""
    override = objects.spec(pod).get("hostnameOverride")
    name = str(override or objects.spec(pod).get("hostname") or objects.name(pod))
    return name[:63].rstrip("-.")


def fully_qualified(pod: Spec, domain: str) -> str:
    if objects.spec(pod).get("hostnameOverride"):
        return ""
    subdomain = objects.spec(pod).get("subdomain")
    return f"{hostname(pod)}.{subdomain}.{objects.namespace(pod)}.svc.{domain}" if subdomain else ""


def kernel_name(pod: Spec, *, domain: str, host: str) -> str:
    """What `hostname` says inside: the host's own in its network, else the short or the full name."""
    spec = objects.spec(pod)
    if spec.get("hostNetwork"):
        return host
    name = (spec.get("setHostnameAsFQDN") and fully_qualified(pod, domain)) or hostname(pod)
    if len(name) > _KERNEL_MAX:
        raise errors.Invalid(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
            f"({_KERNEL_MAX} characters is the max, {len(name)} characters requested)"
        )
    return name


def hosts(pod: Spec, address: str, domain: str) -> str:
    """`/etc/hosts` of a pod with a network of its own, as the kubelet writes it."""
    names = [name for name in (fully_qualified(pod, domain), hostname(pod)) if name]
    lines = [_MANAGED, *_LOCAL, "\t".join([address, *names])]
    return "\n".join([*lines, *_aliases(pod)]) + "\n"


def host_network_hosts(pod: Spec, host_file: str) -> str:
    return "\n".join([_MANAGED_ON_HOST, host_file.rstrip("\n"), *_aliases(pod)]) + "\n"


def _aliases(pod: Spec) -> list[str]:
    aliases = objects.spec(pod).get("hostAliases") or ()
    lines = ["\t".join([alias["ip"], *(alias.get("hostnames") or ())]) for alias in aliases]
    return ["", "# Entries added by HostAliases.", *lines] if lines else []


def resolv_conf(pod: Spec, *, name_server: str, domain: str, host_file: str) -> str:
    """By the pod's dnsPolicy and dnsConfig."""
    policy = objects.spec(pod).get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and objects.spec(pod).get("hostNetwork"):
        policy = "Default"
    if policy == "Default":
        servers, searches, options = parse_resolv_conf(host_file)
        if not objects.spec(pod).get("hostNetwork"):
            # A resolver on the machine's loopback is out of a pod's reach; the node's asks it.
            servers = [name_server if addresses.is_special(each) else each for each in servers]
    elif policy == "None":
        servers, searches, options = [], [], []
    else:
        namespace = objects.namespace(pod)
        servers = [name_server]
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *parse_resolv_conf(host_file)[1]]
        # The name server is this agent: what is asked while it restarts is asked again a second later,
        # not after the resolver's five.
        options = ["ndots:5", "timeout:1", "attempts:5"]
    config = objects.spec(pod).get("dnsConfig") or {}
    servers = list(dict.fromkeys([*servers, *(config.get("nameservers") or ())]))[:3]
    searches = list(dict.fromkeys([*searches, *(config.get("searches") or ())]))[:_SEARCH_MAX]
    options = _merged(options, config.get("options") or ())
    lines = [f"nameserver {server}" for server in servers]
    lines += [f"search {' '.join(searches)}"] if searches else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join(lines) + "\n"


def _merged(options: Sequence[str], own: Sequence[Spec]) -> list[str]:
    named = {option.partition(":")[0]: option for option in options}
    for option in own:
        value = option.get("value")
        named[option["name"]] = option["name"] if value is None else f"{option['name']}:{value}"
    return list(named.values())


def parse_resolv_conf(text: str) -> tuple[list[str], list[str], list[str]]:
    """Name servers, search path and options of a resolv.conf."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        keyword, *rest = line.split("#", 1)[0].split() or [""]
        if keyword == "nameserver" and rest:
            servers.append(rest[0])
        elif keyword in ("search", "domain"):
            searches = [name for name in rest if name != "."]
        elif keyword == "options":
            options += rest
    return servers, searches, options
