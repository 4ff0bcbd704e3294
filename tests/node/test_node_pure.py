"""The node's other pure parts: hosts and resolver files, probe counts, what is not supported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.example_pod import POD

from ondol.api.objects import Object
from ondol.base import errors
from ondol.node.pods import etc, planning, probing


def test_names_of_the_kernel() -> None:
    """Short, full where asked for, the host's in its network; one that is too long is refused."""
    pod: Object = {
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"hostname": "box", "subdomain": "sub"},
    }
    facts = {"domain": "cluster.local", "host": "laptop"}
    assert etc.kernel_name(pod, **facts) == "box"
    pod["spec"]["setHostnameAsFQDN"] = True
    assert etc.kernel_name(pod, **facts) == "box.sub.n.svc.cluster.local"
    pod["spec"]["subdomain"] = "s" * 50
    with pytest.raises(errors.Invalid, match="64 characters is the max, 74 characters requested"):
        etc.kernel_name(pod, **facts)
    pod["spec"]["hostNetwork"] = True
    assert etc.kernel_name(pod, **facts) == "laptop"


def test_hosts() -> None:
    """The kubelet's lines, by which programs know a managed file; aliases by tab."""
    alias = {"ip": "10.9.9.9", "hostnames": ["a", "b"]}
    pod = {**POD, "spec": {"subdomain": "sub", "hostAliases": [alias]}}
    lines = etc.hosts(pod, "10.0.0.2", "cluster.local").splitlines()
    assert lines[:2] == ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost"]
    full = "10.0.0.2\tp.sub.n.svc.cluster.local\tp"
    assert lines[-4:] == [full, "", "# Entries added by HostAliases.", "10.9.9.9\ta\tb"]
    assert etc.hosts(POD, "10.0.0.2", "cluster.local").endswith("\n10.0.0.2\tp\n")
    on_host = etc.host_network_hosts(pod, "127.0.0.1 here\n").splitlines()
    assert on_host[:2] == ["# Kubernetes-managed hosts file (host network).", "127.0.0.1 here"]
    assert on_host[-1] == "10.9.9.9\ta\tb"


SCHEDULE = probing.Schedule(0, 10, 1, 1, 3)


def test_hosts_file_is_the_kubelets() -> None:
    """Names are parted by tabs, aliases have a heading, and the first line is what checks look for."""
    pod = {**POD, "spec": {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b.c"]}], "subdomain": "s"}}
    lines = etc.hosts(pod, "10.0.0.2", "cluster.local").splitlines()
    assert lines[0] == "# Kubernetes-managed hosts file."
    assert "10.0.0.2\tp.s.n.svc.cluster.local\tp" in lines
    assert lines[-3:] == ["", "# Entries added by HostAliases.", "1.2.3.4\ta\tb.c"]
    assert "HostAliases" not in etc.hosts(POD, "10.0.0.2", "cluster.local")
    shared = etc.host_network_hosts(pod, "127.0.0.1 localhost\n").splitlines()
    assert shared[0] == "# Kubernetes-managed hosts file (host network)."
    assert shared[-1] == "1.2.3.4\ta\tb.c"


def test_probe_counts() -> None:
    """Before the first success failures count once a period; after it, each one."""
    count = probing.Count()
    for moment in (0.0, 0.1, 0.2, 9.9):
        count = probing.counted(count, SCHEDULE, succeeded=False, now=moment)
    assert (count.failures, count.verdict) == (1, None)
    count = probing.counted(count, SCHEDULE, succeeded=False, now=10.0)
    count = probing.counted(count, SCHEDULE, succeeded=False, now=20.0)
    assert count.verdict is False
    count = probing.counted(count, SCHEDULE, succeeded=True, now=20.1)
    assert count.verdict is True
    for moment in (30.1, 30.2, 30.3):
        count = probing.counted(count, SCHEDULE, succeeded=False, now=moment)
    assert count.verdict is False


@given(st.integers(0, 200))
def test_probe_waits_grow_to_the_period(count: int) -> None:
    """From 5 ms, of a command from 20 ms, to the period, never beyond."""
    schedule = probing.Schedule.of({"exec": {"command": ["x"]}, "successThreshold": 2})
    for each, least_s in ((SCHEDULE, 0.005), (schedule, 0.02)):
        assert least_s <= probing.wait_s(probing.Count(attempts=count), each) <= 10
    assert probing.wait_s(probing.Count(attempts=400), schedule) == 10


def test_a_connection_is_tried_again_within_a_sixth_of_the_time_that_passed() -> None:
    """So a container that answers after 80 ms is ready some 13 ms later at most."""
    passed_s = 0.0
    for attempts in range(1, 40):
        wait_s = probing.wait_s(probing.Count(attempts=attempts), SCHEDULE)
        assert wait_s <= 0.005 + passed_s / 6
        passed_s += wait_s


def test_probes_wait_for_their_period_once_they_succeeded() -> None:
    """Eagerness ends with the first success."""
    assert probing.wait_s(probing.Count(has_succeeded=True), SCHEDULE) == 10


def test_resolv_conf() -> None:
    """ClusterFirst searches the cluster, Default is the host's, dnsConfig adds and overrides."""
    host = "nameserver 9.9.9.9\nsearch corp\noptions rotate\n"
    text = etc.resolv_conf(POD, name_server="10.0.0.1", domain="cluster.local", host_file=host)
    search = "n.svc.cluster.local svc.cluster.local cluster.local corp"
    assert text == f"nameserver 10.0.0.1\nsearch {search}\noptions ndots:5 timeout:1 attempts:5\n"
    default = {
        **POD,
        "spec": {"dnsPolicy": "Default", "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}},
    }
    text = etc.resolv_conf(default, name_server="10.0.0.1", domain="cluster.local", host_file=host)
    assert text == "nameserver 9.9.9.9\nsearch corp\noptions rotate ndots:1\n"


def test_unsupported_fields_are_named() -> None:
    """What the node cannot honour is refused or warned of, field by field."""
    pod: Object = {
        "spec": {
            "hostUsers": False,
            "volumes": [
                {"name": "d", "nfs": {}},
                {"name": "e", "emptyDir": {"medium": "HugePages"}},
                {"name": "p", "projected": {"sources": [{"clusterTrustBundle": {}}, {"secret": {}}]}},
            ],
            "containers": [
                {
                    "name": "c",
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                }
            ],
        }
    }
    refused, warned = planning.unsupported(pod)
    assert refused == [
        "spec.hostUsers=false",
        "spec.volumes[d].nfs",
        "spec.volumes[e].emptyDir.medium=HugePages",
        "spec.volumes[p].projected.clusterTrustBundle",
    ]
    assert warned == []
