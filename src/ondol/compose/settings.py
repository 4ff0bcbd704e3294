"""Settings: one frozen value, read once from file, environment and flags (later ones win).

Every field can be given in `<data dir>/config.toml`, as `ONDOL_<FIELD>` in the environment, or as
the flag of the same name where a command offers it.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ondol.api import eviction_thresholds, sysctls
from ondol.api.pod_security import policies
from ondol.base import comma_list, errors, host_ports, name_servers, names
from ondol.compose import hints

ENVIRONMENT_PREFIX = "ONDOL_"
CONFIG_FILE = "config.toml"
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an administrator may choose; the rest is decided once and kept in the data directory."""

    data_dir: Path
    """Everything the platform keeps: certificates, objects, images, pods, traces, logs."""
    api_port: int = 6443
    """Preferred port of the API server; a free one is taken when it is in use at the first start."""
    ingress_port: int = 8080
    """Preferred port of the ingress gateway on this machine."""
    ingress_tls_port: int = 8443
    """Preferred port of the ingress gateway on this machine for TLS."""
    ingress_address: str = "127.0.0.1"
    """Address the ingress gateway listens on; `0.0.0.0` opens it to the network."""
    ingress_ports: str = "80, 443, 1024-65535"
    """Ports and ranges (`9000-9099`), parted by commas, that Gateways may open at that address: whoever may
    write a Gateway can take any of them that is free. List few where the address is open to the network."""
    enforce_owner_references: bool = False
    """Only who may delete an object may change its owners, and only who may set an owner's finalizers may
    keep it from being deleted (Kubernetes' OwnerReferencesPermissionEnforcement)."""
    load_balancer_address: str = ""
    """Address of this machine at which Services of type LoadBalancer are reached; empty is one that this
    machine and its pods alone reach. One of the network opens to it every port that such a Service names."""
    dns_servers: str = ""
    """Name servers that pods' names outside the cluster are asked of, parted by commas, with a port
    (`192.0.2.53:5353`) or for one domain (`corp.example=10.0.0.53`); empty takes this machine's."""
    domain: str = "localhost"
    """Domain of serverless services: `<name>.<namespace>.<domain>`."""
    registry_port: int = 0
    """Port of the platform's own registry of images on loopback; 0 is none."""
    registry_mirrors: str = ""
    """Servers that are asked for images before their registry: `docker.io=https://mirror.example`, with
    commas between; several for one registry are asked in their order."""
    registry_insecure: str = ""
    """Registries spoken to in plain HTTP, as images name them (`registry.example:5000`), parted by commas;
    those on this machine's loopback are always."""
    registry_ca_file: str = ""
    """File of certificates (PEM) of authorities that registries are believed by, besides the system's."""
    node_name: str = ""
    """Name of this machine's Node object; empty means the host name."""
    runtime: str = ""
    """Container runtime (`crun` or `runc`); empty means the first that works."""
    pod_pids_limit: int = 4096
    """Processes and threads a pod may have; 0 is no limit."""
    allowed_unsafe_sysctls: str = ""
    """Sysctls pods may set beyond the safe ones, parted by commas; `net.core.*` names all of a beginning."""
    max_pods: int = 110
    """How many pods this machine may run; one bridge takes a thousand."""
    eviction_hard: str = (
        "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,"
        "imagefs.available<5%,imagefs.inodesFree<5%,pid.available<1000"
    )
    """Below what this machine is short of something and sends pods away, as the kubelet's `--eviction-hard`:
    `memory.available<100Mi,nodefs.available<5%`; empty is never."""
    eviction_transition_s: float = 300.0
    """How long the node says that it is short of something after it no longer is."""
    image_gc_high_percent: int = 85
    """Use of the disk from which on pulled images that nothing uses are removed; 100 is never."""
    image_gc_low_percent: int = 80
    """Use of the disk that this aims at."""
    restart_backoff_max_s: float = 300.0
    """Longest wait before a container that fails again and again is started again (from 10 s or this)."""
    trace_sampling_percent: float = 100.0
    """Share of requests that are traced."""
    outbound_traffic_policy: str = "ALLOW_ANY"
    """What becomes of pods' calls to what the mesh does not know: `ALLOW_ANY` or `REGISTRY_ONLY`."""
    access_log: str = ""
    """File for the proxy's line a request: a path, or a name in the folder of logs; empty is none."""
    access_log_format: str = "json"
    """What is in these lines: `json`, or `text` as Istio's proxy writes it."""
    serverless: bool = True
    """Whether Knative's kinds are served by the platform; without, Knative's own Serving can be installed."""
    eventing: bool = True
    """Whether Knative's kinds of events are served by the platform; without, Knative's own Eventing can be
    installed."""
    events_memory_max_mib: int = 256
    """Memory that the keeper of events (NATS) aims to stay below."""
    events_disk_max_mib: int = 10_240
    """Disk that kept events may take in all; beyond it no more are taken until some are delivered."""
    scale_to_zero_after_s: float = 60.0
    """Stable window of the autoscaler: how long without traffic before a revision goes to zero."""
    deny_external_ips: bool = False
    """Refuse `externalIPs` of Services: whoever may write a Service could take over traffic to an address
    outside (Kubernetes' DenyServiceExternalIPs). The platform's own addresses are refused either way."""
    pod_security_enforce: str = "privileged"
    """Level of the Pod Security Standards for namespaces without a label of their own (`baseline`,
    `restricted`), or a level of a release (`restricted:v1.34`)."""
    pod_security_audit: str = "privileged"
    """Likewise, for what is told in the API server's log."""
    pod_security_warn: str = "privileged"
    """Likewise, for what the author of a pod or workload is warned of."""
    pod_security_exempt_namespaces: str = ""
    """Namespaces whose pods are held to nothing, separated by commas."""
    pod_security_exempt_users: str = ""
    """Users whose pods are held to nothing, separated by commas."""
    pod_security_exempt_runtime_classes: str = ""
    """Runtime classes whose pods are held to nothing, separated by commas."""
    token_file: str = ""
    """File of tokens by which people sign in, read at a start: lines of `token,user,uid,"group1,group2"`."""
    authentication_config: str = ""
    """File with an AuthenticationConfiguration (`apiserver.config.k8s.io/v1`), read at a start: issuers of
    OpenID Connect whose tokens are taken, and who is anonymous."""
    requestheader_client_ca_file: str = ""
    """File of certificates (PEM) of authorities of proxies in front of the API server, read at a start: who
    has a certificate of one may ask for anybody, named in the headers below. Empty is no such proxy."""
    requestheader_allowed_names: str = ""
    """Common names of the proxies' certificates, parted by commas; empty is any."""
    requestheader_username_headers: str = "X-Remote-User"
    """Headers in which proxies name the user, parted by commas; the first that is there counts."""
    requestheader_uid_headers: str = "X-Remote-Uid"
    """Likewise, the user's uid."""
    requestheader_group_headers: str = "X-Remote-Group"
    """Likewise, the user's groups: all of them count."""
    requestheader_extra_headers_prefix: str = "X-Remote-Extra-"
    """What the headers begin with in which proxies say more of the user, parted by commas."""
    audit_policy: str = ""
    """File with an `audit.k8s.io/v1` Policy, read at a start: which requests are audited, and how much of
    them. Empty is no audit log."""
    audit_log: str = ""
    """File of the audit log, a line of JSON a record; empty is `audit.log` in the data directory."""
    audit_log_max_mib: int = 100
    """Size at which that file is put aside, with the time in its name; 0 is never."""
    audit_log_backups: int = 10
    """How many of those put aside are kept; 0 is all."""
    audit_log_days: int = 0
    """How many days they are kept; 0 is for ever."""
    metric_labels_allowlist: str = ""
    """Labels of objects that `kube_<kind>_labels` tells among the metrics, as kube-state-metrics writes it
    (`pods=[app,example.org/*],namespaces=[*]`); empty is none."""
    metric_annotations_allowlist: str = ""
    """Likewise, annotations, in `kube_<kind>_annotations`; whoever may read metrics reads them."""
    knative_features: str = ""
    """Knative's feature flags that are on besides its defaults, with commas between; `-name` is off."""
    drain_s: float = 2.0
    """Seconds a pod that was an endpoint answers on before SIGTERM; at most half its grace period."""
    log_level: str = "info"
    """Least severe log level written: debug, info, warning or error."""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_ipv4(text: str) -> bool:
    return _is_address(text) and ipaddress.ip_address(text).version == 4


def _are_features(text: str) -> bool:
    from ondol.serverless.serving import podspec  # noqa: PLC0415 - only who sets it pays for it

    try:
        podspec.features(text)
    except ValueError:
        return False
    return True


def _are_keys(text: str) -> bool:
    from ondol.apiserver.state_metrics import allowing  # noqa: PLC0415 - only who sets it pays for it

    try:
        allowing.parse(text)
    except ValueError:
        return False
    return True


def _are_ports(text: str) -> bool:
    try:
        host_ports.ranges(text)
    except ValueError:
        return False
    return True


def _are_mirrors(text: str) -> bool:
    from ondol.build.registry import hosts  # noqa: PLC0415 - only who sets it pays for it

    try:
        hosts.mirrors(text)
    except ValueError:
        return False
    return True


def _is_file_name(text: str) -> bool:
    """A name of its own among the logs, which are kept short; or anywhere, for who keeps it short himself."""
    path = Path(text)
    return not text or (
        path.parent.is_dir() if path.is_absolute() else path.name == text and path.suffix == ".log"
    )


def _is_readable(text: str) -> bool:
    return not text or (Path(text).is_absolute() and Path(text).is_file())


def _is_place(text: str) -> bool:
    return not text or (Path(text).is_absolute() and Path(text).parent.is_dir())


def _is_level(text: str) -> bool:
    try:
        policies.parse_level_version(text)
    except ValueError:
        return False
    return True


def _are_name_servers(text: str) -> bool:
    try:
        name_servers.parse(text)
    except ValueError:
        return False
    return True


_LEVEL: Final = (_is_level, "privileged, baseline or restricted, as such or of a release (baseline:v1.34)")
_FILE: Final = (_is_readable, "an absolute path of a file that exists")
_KEYS: Final = (_are_keys, "plurals with keys in brackets (pods=[app],namespaces=[*]), parted by commas")
_NAMES: Final = (
    lambda text: all(names.is_dns1123_subdomain(name) for name in comma_list.items(text)),
    "names separated by commas",
)
_HEADERS: Final = (
    lambda text: all(_HEADER.fullmatch(each) for each in comma_list.items(text)),
    "names of headers separated by commas",
)


def _are_thresholds(text: str) -> bool:
    try:
        eviction_thresholds.parse(text)
    except (ValueError, errors.OndolError):
        return False
    return True


_LIMITS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "api_port": (lambda port: 1 <= port <= 65535, "a port from 1 to 65535"),
    "ingress_port": (lambda port: 1 <= port <= 65535, "a port from 1 to 65535"),
    "ingress_tls_port": (lambda port: 1 <= port <= 65535, "a port from 1 to 65535"),
    "ingress_address": (_is_address, "an IP address"),
    "ingress_ports": (_are_ports, "ports and ranges of ports from 1 to 65535, parted by commas"),
    "load_balancer_address": (lambda text: not text or _is_ipv4(text), "an IPv4 address"),
    "dns_servers": (_are_name_servers, "ADDRESS, ADDRESS:PORT or DOMAIN=ADDRESS, parted by commas"),
    "domain": (names.is_dns1123_subdomain, "a DNS name"),
    "registry_port": (lambda port: 0 <= port <= 65535, "a port from 1 to 65535, or 0"),
    "registry_mirrors": (_are_mirrors, "REGISTRY=URL, parted by commas"),
    "registry_ca_file": (lambda text: not text or Path(text).expanduser().is_file(), "a file that exists"),
    "node_name": (lambda name: not name or names.is_dns1123_subdomain(name), "a DNS name"),
    "runtime": (lambda name: name in ("", "crun", "runc"), "crun, runc or empty"),
    "pod_pids_limit": (lambda count: count == 0 or 16 <= count <= 4_194_304, "0 or from 16 to 4194304"),
    "allowed_unsafe_sysctls": (
        lambda text: all(map(sysctls.is_pattern, comma_list.items(text))),
        "names or patterns below net., kernel.shm, kernel.msg, kernel.sem or fs.mqueue., parted by commas",
    ),
    "eviction_hard": (_are_thresholds, "SIGNAL<AMOUNT or SIGNAL<PERCENT%, parted by commas"),
    "eviction_transition_s": (lambda wait_s: 0 <= wait_s <= 3600, "from 0 to 3600 seconds"),
    "image_gc_high_percent": (lambda share: 1 <= share <= 100, "from 1 to 100"),
    "image_gc_low_percent": (lambda share: 0 <= share < 100, "from 0 to 99"),
    "max_pods": (lambda count: 1 <= count <= 1000, "from 1 to 1000"),
    "restart_backoff_max_s": (lambda wait_s: 1 <= wait_s <= 300, "from 1 to 300 seconds"),
    "trace_sampling_percent": (lambda share: 0 <= share <= 100, "from 0 to 100"),
    "outbound_traffic_policy": (
        lambda mode: mode in ("ALLOW_ANY", "REGISTRY_ONLY"),
        "ALLOW_ANY or REGISTRY_ONLY",
    ),
    "access_log": (_is_file_name, "a name that ends in .log, or an absolute path in a folder that exists"),
    "access_log_format": (lambda name: name in ("json", "text"), "json or text"),
    "scale_to_zero_after_s": (lambda window_s: 6 <= window_s <= 3600, "from 6 to 3600 seconds"),
    "pod_security_enforce": _LEVEL,
    "pod_security_audit": _LEVEL,
    "pod_security_warn": _LEVEL,
    "pod_security_exempt_namespaces": _NAMES,
    "pod_security_exempt_runtime_classes": _NAMES,
    "token_file": _FILE,
    "requestheader_client_ca_file": _FILE,
    "requestheader_username_headers": _HEADERS,
    "requestheader_uid_headers": _HEADERS,
    "requestheader_group_headers": _HEADERS,
    "requestheader_extra_headers_prefix": _HEADERS,
    "audit_policy": _FILE,
    "authentication_config": _FILE,
    "audit_log": (_is_place, "an absolute path in a folder that exists"),
    "audit_log_max_mib": (lambda size: 0 <= size <= 1_000_000, "from 0 to 1000000"),
    "audit_log_backups": (lambda count: 0 <= count <= 10_000, "from 0 to 10000"),
    "audit_log_days": (lambda days: 0 <= days <= 10_000, "from 0 to 10000"),
    "drain_s": (lambda wait_s: 0 <= wait_s <= 600, "from 0 to 600 seconds"),
    "metric_labels_allowlist": _KEYS,
    "metric_annotations_allowlist": _KEYS,
    "knative_features": (_are_features, "names of Knative's feature flags (see docs/serverless.md)"),
    "log_level": (
        lambda level: level in ("debug", "info", "warning", "error"),
        "debug, info, warning or error",
    ),
}
"""What a value must be beyond its type, with the words that say so."""


def load(
    data_dir: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings; `HostError` names the source and the field that is wrong."""
    chosen = _directory(data_dir, environment)
    return Settings(**_explicit(chosen, environment, flags or {}), data_dir=chosen)


def explicit(
    data_dir: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> frozenset[str]:
    """Which settings somebody has chosen, by file, environment or flag, instead of leaving the default."""
    return frozenset(_explicit(_directory(data_dir, environment), environment, flags or {}))


def _directory(data_dir: Path | None, environment: Mapping[str, str]) -> Path:
    chosen = data_dir or Path(environment.get(f"{ENVIRONMENT_PREFIX}DATA_DIR") or hints.DEFAULT_DATA_DIR)
    return chosen.expanduser().absolute()


def _explicit(data_dir: Path, environment: Mapping[str, str], flags: Mapping[str, Any]) -> dict[str, Any]:
    config = data_dir / CONFIG_FILE
    in_file = _file(config)
    if "data_dir" in in_file:
        raise errors.HostError(
            f"{config}: data_dir cannot be set in this file, which is in that folder",
            remedy=f"remove it, and use --data-dir or {ENVIRONMENT_PREFIX}DATA_DIR",
        )
    fields = {field.name for field in dataclasses.fields(Settings)} - {"data_dir"}
    in_environment = {
        key.removeprefix(ENVIRONMENT_PREFIX).lower(): text
        for key, text in environment.items()
        if key.startswith(ENVIRONMENT_PREFIX)
    }
    return {
        **_checked(in_file, source=str(config)),
        **_checked({k: v for k, v in in_environment.items() if k in fields}, source="the environment"),
        **_checked({k: v for k, v in flags.items() if v is not None}, source="the command line"),
    }


def _file(config: Path) -> dict[str, Any]:
    """What the file sets; nothing if there is none."""
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except tomllib.TOMLDecodeError as error:
        raise errors.HostError(f"{config} is not valid TOML: {error}", remedy=f"edit {config}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise errors.HostError(
            f"{config} cannot be read: {errors.why(error)}",
            remedy=f"{hints.as_root(config.parent)}; or choose another --data-dir",
        ) from error


def _checked(values: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    types = typing.get_type_hints(Settings)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types:
            raise errors.HostError(
                f"{source}: unknown setting {key!r}", remedy=f"use one of: {', '.join(sorted(types))}"
            )
        try:
            checked[key] = _boolean(value) if types[key] is bool else types[key](value)
        except (TypeError, ValueError, KeyError) as error:
            kind = types[key].__name__
            raise errors.HostError(
                f"{source}: setting {key} must be {kind}, not {value!r}", remedy=f"correct {key}"
            ) from error
        fits, words = _LIMITS.get(key, (_anything, ""))
        if not fits(checked[key]):
            raise errors.HostError(
                f"{source}: setting {key} must be {words}, not {value!r}", remedy=f"correct {key}"
            )
    return checked


def _boolean(value: Any) -> bool:
    """TOML's own, or the words for it in the environment."""
    if isinstance(value, bool):
        return value
    return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]


def _anything(_value: Any) -> bool:
    return True
