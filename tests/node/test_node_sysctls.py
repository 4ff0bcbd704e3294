"""Which kernel parameters a pod may set, and that none but its own namespaces' are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import objects, sysctls
from ondol.api.objects import Object
from ondol.base import errors
from ondol.node.network import sandbox
from ondol.node.pods import sysctls as pod_sysctls

KERNEL = "6.18.44-generic"


def pod(name: str, **spec: Any) -> Object:
    return {"spec": {**spec, "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}}


@pytest.mark.parametrize(
    ("name", "spec", "allowed", "kernel", "problem"),
    [
        ("kernel.shm_rmid_forced", {}, (), KERNEL, ""),
        ("net.ipv4.tcp_fin_timeout", {}, (), KERNEL, ""),
        ("net/ipv4/tcp_fin_timeout", {}, (), KERNEL, ""),
        ("net.ipv4.tcp_fin_timeout", {}, (), "4.5.0", "not allowlisted"),
        ("net.ipv4.tcp_fin_timeout", {}, (), "4.6.0", ""),
        ("net.ipv4.tcp_rmem", {}, (), "4.14.9", "not allowlisted"),
        ("net.ipv4.tcp_rmem", {}, (), "4.15", ""),
        ("net.ipv4.tcp_fin_timeout", {}, (), "unknown", "not allowlisted"),
        ("net.ipv4.tcp_fin_timeout", {"hostNetwork": True}, (), KERNEL, "not allowed with host net enabled"),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, (), KERNEL, "not allowed with host ipc enabled"),
        ("kernel.shm_rmid_forced", {"hostNetwork": True}, (), KERNEL, ""),
        ("net.core.somaxconn", {}, (), KERNEL, "not allowlisted"),
        ("net.core.somaxconn", {}, ("net.core.*",), KERNEL, ""),
        ("net.core.somaxconn", {}, ("net/core/somaxconn",), KERNEL, ""),
        ("net.corex", {}, ("net.core.*",), KERNEL, "not allowlisted"),
        (
            "net.core.somaxconn",
            {"hostNetwork": True},
            ("net.*",),
            KERNEL,
            "not allowed with host net enabled",
        ),
        ("kernel.msgmax", {"hostIPC": True}, ("kernel.msg*",), KERNEL, "not allowed with host ipc enabled"),
        ("fs.mqueue.msg_max", {}, ("fs.mqueue.*",), KERNEL, ""),
        ("kernel.printk_ratelimit_burst", {}, ("kernel.*", "*"), KERNEL, "not allowlisted"),
        ("kernel.semx", {}, ("kernel.sem*",), KERNEL, "not allowlisted"),
        ("net/../kernel/printk_ratelimit_burst", {}, ("net.*",), KERNEL, "not allowlisted"),
        ("net.ipv4/../../kernel/x", {}, ("net.*",), KERNEL, "not allowlisted"),
        ("vm.swappiness", {}, ("vm.swappiness",), KERNEL, "not allowlisted"),
    ],
)
def test_what_a_pod_may_set(
    name: str, spec: dict[str, Any], allowed: tuple[str, ...], kernel: str, problem: str
) -> None:
    """The safe ones, what the administrator allows of its own namespaces, and nothing of the host's."""
    why = pod_sysctls.forbidden(pod(name, **spec), allowed, kernel)
    assert why.startswith("forbidden sysctl: ") is bool(problem)
    assert why.endswith(problem)


@pytest.mark.parametrize(
    ("name", "dotted", "path"),
    [
        (
            "net.ipv4.conf.eth0/100.forwarding",
            "net.ipv4.conf.eth0/100.forwarding",
            "net/ipv4/conf/eth0.100/forwarding",
        ),
        (
            "net/ipv4/conf/eth0.100/forwarding",
            "net.ipv4.conf.eth0/100.forwarding",
            "net/ipv4/conf/eth0.100/forwarding",
        ),
        ("kernel.sem", "kernel.sem", "kernel/sem"),
    ],
)
def test_separators(name: str, dotted: str, path: str) -> None:
    """Whichever of dot and slash comes first parts the name; the other one belongs to a part."""
    assert (sysctls.dotted(name), sysctls.path(name)) == (dotted, path)


@given(st.text("net.ipv4/-_x", max_size=30))
def test_a_valid_name_never_leads_out(name: str) -> None:
    """Whatever is taken for a name stays below the folder of its namespace."""
    if sysctls.is_valid(name) and sysctls.namespace(name) == "net":
        path = os.path.normpath(sysctls.path(name))
        assert path == sysctls.path(name)
        assert path.startswith("net/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.core.*", True),
        ("net.*", True),
        ("kernel.shm*", True),
        ("kernel.sem", True),
        ("fs.mqueue.msg_max", True),
        ("net.ipv4.tcp_*", True),
        ("net/core/*", True),
        ("*", False),
        ("net*", False),
        ("kernel.*", False),
        ("vm.swappiness", False),
        ("net.core.*.x", False),
        ("net..*", False),
        ("", False),
    ],
)
def test_patterns_of_an_administrator(text: str, expected: bool) -> None:
    """Only what the kernel keeps per namespace can be allowed, by name or by its beginning."""
    assert sysctls.is_pattern(text) is expected


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("net.ipv4.tcp_fin_timeout", ["ipc"]),
        ("kernel.msgmax", ["net", "uts"]),
        ("kernel.panic", ["net", "ipc"]),
    ],
)
def test_the_sandbox_writes_none_of_the_hosts(name: str, kinds: list[str]) -> None:
    """Even if a pod got past the list: what is not of a namespace made for it is not written."""
    place = Path("/proc/sys", sysctls.path(name))
    before = place.read_text()
    with pytest.raises(errors.Invalid, match="namespace of the pod's own"):
        sandbox._set_own_sysctl(name, before.strip(), kinds)


def test_sysctls_of_a_pod_without_any() -> None:
    """A pod that asks for none is never refused."""
    assert pod_sysctls.forbidden({"spec": {"securityContext": None}}, (), "") == ""
    assert list(pod_sysctls.of({"spec": objects.spec({})})) == []
