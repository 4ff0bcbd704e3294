"""Clients from a kubeconfig file, from what a pod is given by its service account, or at a socket.

Certificates, keys, tokens, token files and passwords are supported. Exec and auth-provider plug-ins
and impersonation are not: they are refused with a clear error, never ignored.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ondol.base import errors
from ondol.client.client import Client

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_UNSUPPORTED: Final = ("exec", "auth-provider", "as", "as-uid", "as-groups", "as-user-extra")


def default_paths(environ: Mapping[str, str]) -> list[Path]:
    """The files kubectl would read: `$KUBECONFIG`, or else `~/.kube/config`."""
    listed = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return listed or [Path(environ.get("HOME", "~")).expanduser() / ".kube" / "config"]


def from_kubeconfig(
    path: str | Path | Iterable[str | Path], *, context: str = "", field_manager: str = "ondol"
) -> Client:
    """A client for the current (or named) context; several files merge, the first to name a thing wins."""
    from ondol.client import http  # noqa: PLC0415 - loads aiohttp, which in-process clients never need

    paths = [path] if isinstance(path, str | Path) else list(path)
    cluster, user, base = _selected(_existing(paths), context)
    endpoint = http.Endpoint(
        server=str(cluster["server"]),
        tls=_tls(cluster, user, base),
        server_name=str(cluster.get("tls-server-name") or ""),
        token=str(user.get("token") or ""),
        token_path=_resolved(user.get("tokenFile"), base),
        authorization=_basic(user),
        proxy=str(cluster.get("proxy-url") or ""),
    )
    return Client(http.HttpTransport(endpoint), field_manager=field_manager)


def at_socket(path: Path, *, field_manager: str = "ondol") -> Client:
    """A client for a server of this machine that knows who asks by the Unix socket they come to."""
    from ondol.client import http  # noqa: PLC0415 - loads aiohttp, which in-process clients never need

    endpoint = http.Endpoint(server="http://localhost", socket=str(path))
    return Client(http.HttpTransport(endpoint), field_manager=field_manager)


def current_namespace(paths: Iterable[str | Path], *, context: str = "") -> str:
    """The namespace of the current (or named) context; empty where it names none."""
    chosen, _ = _current(_existing(paths), context)
    return str(chosen.get("namespace") or "")


def current_server(paths: Iterable[str | Path], *, context: str = "") -> str:
    """The address of the current (or named) context's API server."""
    loaded = _existing(paths)
    chosen, _ = _current(loaded, context)
    cluster, _ = _named(loaded, "clusters", "cluster", str(chosen.get("cluster") or ""))
    return str(cluster["server"])


def in_cluster(*, root: Path = _SERVICE_ACCOUNT, field_manager: str = "ondol") -> Client:
    """A client for a process in a pod, by its service account's mounted token."""
    from ondol.client import http  # noqa: PLC0415 - loads aiohttp, which in-process clients never need

    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (root / "token").exists():
        raise errors.HostError(
            "this process runs in no pod: it has no service account",
            remedy="set KUBECONFIG to a kubeconfig file",
        )
    address = f"[{host}]" if ":" in host else host
    endpoint = http.Endpoint(
        server=f"https://{address}:{port}",
        tls=ssl.create_default_context(cafile=str(root / "ca.crt")),
        token_path=str(root / "token"),
    )
    return Client(http.HttpTransport(endpoint), field_manager=field_manager)


def in_pod(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (_SERVICE_ACCOUNT / "token").exists()


def _readable(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"use a copy of your own, or run as the owner of {path}"
    return f"mend or replace {path}"


def _load(path: Path) -> Mapping[str, Any] | None:
    """What the file says; None if there is none."""
    import yaml  # noqa: PLC0415 - only needed where there is a kubeconfig

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, yaml.YAMLError) as error:
        raise errors.HostError(
            f"{path} cannot be read: {errors.why(error)}", remedy=_readable(path, error)
        ) from error
    if not isinstance(document, dict):
        raise errors.HostError(f"{path} is not a kubeconfig", remedy=f"mend or replace {path}")
    return document


_Loaded = list[tuple[Path, Mapping[str, Any]]]


def _existing(paths: Iterable[str | Path]) -> _Loaded:
    """The files that are there, read; `HostError` if none is."""
    listed = [Path(path) for path in paths]
    loaded = [(path, document) for path in listed if (document := _load(path)) is not None]
    if not loaded:
        raise errors.HostError(
            f"no kubeconfig at {', '.join(map(str, listed))}", remedy="set KUBECONFIG to a kubeconfig file"
        )
    return loaded


def _current(loaded: _Loaded, context: str) -> tuple[Mapping[str, Any], Path]:
    name = context or next((d["current-context"] for _, d in loaded if d.get("current-context")), "")
    return _named(loaded, "contexts", "context", str(name))


def _selected(loaded: _Loaded, context: str) -> tuple[Mapping[str, Any], Mapping[str, Any], Path]:
    chosen, _ = _current(loaded, context)
    cluster, cluster_base = _named(loaded, "clusters", "cluster", str(chosen.get("cluster") or ""))
    name = str(chosen.get("user") or "")
    user, user_base = _named(loaded, "users", "user", name) if name else ({}, cluster_base)
    refused = [field for field in _UNSUPPORTED if user.get(field)]
    if refused:
        raise errors.HostError(
            f"user {name!r} of the kubeconfig needs {refused[0]!r}, which is not supported",
            remedy="use a client certificate or a token",
        )
    files = ("client-certificate", "client-key", "tokenFile")
    absolute = {**user, **{f: _resolved(user[f], user_base) for f in files if user.get(f)}}
    return cluster, absolute, cluster_base


def _named(loaded: _Loaded, plural: str, singular: str, name: str) -> tuple[Mapping[str, Any], Path]:
    for path, document in loaded:
        for item in document.get(plural) or ():
            if item.get("name") == name:
                return item.get(singular) or {}, path.parent
    raise errors.HostError(
        f"the kubeconfig has no {singular} {name!r}", remedy="kubectl config get-contexts lists what it has"
    )


def _resolved(path: Any, base: Path) -> str:
    return str(base / str(path)) if path else ""


def _basic(user: Mapping[str, Any]) -> str:
    if not user.get("username"):
        return ""
    pair = f"{user['username']}:{user.get('password', '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], base: Path) -> ssl.SSLContext | None:
    if not str(cluster["server"]).startswith("https:"):
        return None
    data = cluster.get("certificate-authority-data")
    tls = ssl.create_default_context(
        cafile=_resolved(cluster.get("certificate-authority"), base) or None,
        cadata=base64.b64decode(data).decode() if data else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    _load_client_certificate(tls, user)
    return tls


def _load_client_certificate(tls: ssl.SSLContext, user: Mapping[str, Any]) -> None:
    certificate, key = user.get("client-certificate"), user.get("client-key")
    embedded = user.get("client-certificate-data"), user.get("client-key-data")
    if embedded[0] and embedded[1]:
        # OpenSSL loads keys from files only; this one lives for the length of the call, for us alone.
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"\n".join(base64.b64decode(part) for part in embedded if part))
            file.flush()
            tls.load_cert_chain(file.name)
    elif certificate and key:
        tls.load_cert_chain(str(certificate), str(key))
