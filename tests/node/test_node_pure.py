"""The node's pure parts: environments, commands, probe counts, nftables text, addresses, runtime specs."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import dataplane
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.host_ports import HostPort
from ondol.base.memo import Memo
from ondol.node.network import ipam, rules, service_table, services
from ondol.node.pods import container, env, etc, probing, storage, volumes
from ondol.node.runtime import seccomp, spec

POD: Object = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "1", "b": 'q"x'}},
    "spec": {"containers": [{"name": "c"}]},
}
FACTS = env.PodFacts("10.0.0.2", "1.2.3.4", "node", {"cpu": "4", "memory": "8Gi"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NO)", "$(NO)"),
        ("x$(A)y$(B)", "x1y2"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("$(B)$$(B)$$ $(", "2$(B)$ $("),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    """`$(NAME)` is replaced when known, `$$` is a dollar, everything else stays."""
    assert env.expand(text, {"A": "1", "B": "2"}) == expected


def test_expansion_of_a_million_open_references() -> None:
    """None of them closes, and none is searched to the end of the text."""
    assert env.expand("$(A)" + "$(" * 1_000_000, {"A": "1"}) == "1" + "$(" * 1_000_000


@given(st.text())
def test_expansion_of_nothing_known_only_halves_dollars(text: str) -> None:
    """Without variables a text without `$$` is itself."""
    if "$$" not in text:
        assert env.expand(text, {}) == text


def test_environment_order() -> None:
    """Services, envFrom, env: later wins, and env sees all that came before; all of it is over the image."""
    given_: Object = {
        "name": "c",
        "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}],
        "env": [{"name": "X", "value": "$(P_k)"}, {"name": "Y", "value": "$(X)$(LATER)"}],
    }
    sources = env.Sources({"m": {"kind": "ConfigMap", "data": {"k": "v"}}})
    declared = env.variables(POD, given_, sources=sources, facts=FACTS, services={"S": "s"})
    assert declared == {"S": "s", "P_k": "v", "X": "v", "Y": "v$(LATER)"}
    whole = container.environment({"PATH": "/bin", "S": "image"}, declared, "box")
    assert whole == {"PATH": "/bin", "HOSTNAME": "box", "S": "s", "P_k": "v", "X": "v", "Y": "v$(LATER)"}


@pytest.mark.parametrize(
    ("prefix", "name"), [("", "data-1"), ("1-", "1-data-1"), ("a b:", "a b:data-1"), ("#", "#data-1")]
)
def test_any_printable_name_is_a_variable(prefix: str, name: str) -> None:
    """Kubernetes 1.34 takes every printable ASCII character but `=` in a name."""
    sources = env.Sources({"m": {"kind": "ConfigMap", "data": {"data-1": "v"}}})
    given_: Object = {"name": "c", "envFrom": [{"configMapRef": {"name": "m"}, "prefix": prefix}]}
    assert env.variables(POD, given_, sources=sources, facts=FACTS, services={}) == {name: "v"}
    assert env.skipped(POD, given_, sources) == []


@pytest.mark.parametrize("prefix", ["a=", "é", "new\nline"])
def test_what_cannot_be_a_variable_is_left_out_and_told(prefix: str) -> None:
    """The kubelet's sentence names the keys and the source."""
    sources = env.Sources(secrets={"s": {"kind": "Secret", "data": {"k": ""}}})
    given_: Object = {"name": "c", "envFrom": [{"secretRef": {"name": "s"}, "prefix": prefix}]}
    assert env.variables(POD, given_, sources=sources, facts=FACTS, services={}) == {}
    [told] = env.skipped(POD, given_, sources)
    assert told.startswith(f"Keys [{prefix}k] from the EnvFrom secret n/s were skipped")


def test_paths_name_only_what_is_there() -> None:
    """`subPathExpr` with a variable that is not set is an error, as in the kubelet."""
    assert env.expand_strictly("a/$(X)/$$(Y)", {"X": "1"}) == "a/1/$(Y)"
    with pytest.raises(env.ConfigMissing, match='missing value for "Y"'):
        env.expand_strictly("$(Y)", {"X": "1"})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
        ({"configMapKeyRef": {"name": "m", "key": "k"}}, "couldn't find key k in configmap m"),
        ({"fieldRef": {"fieldPath": "spec.nothing"}}, "not supported"),
    ],
)
def test_missing_sources(entry: Object, message: str) -> None:
    """What is not there is an error that names it, unless it is optional."""
    sources = env.Sources({"m": {"kind": "ConfigMap", "data": {}}, "no": None}, {"no": None})
    given_: Object = {"name": "c", "env": [{"name": "V", "valueFrom": entry}]}
    with pytest.raises(env.ConfigMissing, match=message):
        env.variables(POD, given_, sources=sources, facts=FACTS, services={})


def test_downward_fields() -> None:
    """Names, labels (quoted) and resources of the pod itself."""
    assert env.field_value(POD, "metadata.labels", FACTS) == 'a="1"\nb="q\\"x"'
    assert env.field_value(POD, "metadata.labels['a']", FACTS) == "1"
    assert env.field_value(POD, "status.podIP", FACTS) == "10.0.0.2"
    limited: Object = {"name": "c", "resources": {"limits": {"memory": "1.5Gi"}}}
    assert env.resource_value(POD, limited, {"resource": "limits.memory", "divisor": "1Mi"}, FACTS) == "1536"
    assert env.resource_value(POD, limited, {"resource": "limits.cpu"}, FACTS) == "4"
    assert env.resource_value(POD, limited, {"resource": "requests.cpu", "divisor": "1m"}, FACTS) == "0"


def test_service_variables() -> None:
    """Both families of names Kubernetes sets, none for headless Services."""
    listed: list[Object] = [
        {
            "metadata": {"name": "my-db"},
            "spec": {"clusterIP": "10.0.0.9", "ports": [{"name": "main", "port": 5432, "protocol": "TCP"}]},
        },
        {"metadata": {"name": "none"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}},
    ]
    found = env.service_variables(listed)
    assert found["MY_DB_SERVICE_HOST"] == "10.0.0.9"
    assert found["MY_DB_SERVICE_PORT_MAIN"] == "5432"
    assert found["MY_DB_PORT_5432_TCP"] == "tcp://10.0.0.9:5432"
    assert not any(name.startswith("NONE") for name in found)


IMAGE = {"Entrypoint": ["/e"], "Cmd": ["d"]}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({}, ["/e", "d"]),
        ({"args": ["x"]}, ["/e", "x"]),
        ({"command": ["/c"]}, ["/c"]),
        ({"command": ["/c"], "args": ["$(A)"]}, ["/c", "1"]),
        ({"args": []}, ["/e", "d"]),
        ({"command": []}, ["/e", "d"]),
        ({"command": ["/c"], "args": []}, ["/c"]),
        ({"args": ["$(PATH)"]}, ["/e", "$(PATH)"]),
    ],
)
def test_command(given_: Object, expected: list[str]) -> None:
    """The pod's command replaces the image's entrypoint and with it the image's arguments."""
    assert container.command(given_, IMAGE, {"A": "1"}) == expected


def test_capabilities() -> None:
    """Defaults, less what is dropped, plus what is added; `ALL` both ways."""
    drop_all = {"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}
    assert container.capabilities(drop_all) == ["CAP_NET_BIND_SERVICE"]
    assert container.capabilities({}) == list(spec.DEFAULT_CAPABILITIES)
    add_all = {"securityContext": {"capabilities": {"add": ["ALL"]}}}
    assert container.capabilities(add_all) == list(spec.ALL_CAPABILITIES)
    for everything in (add_all, {"securityContext": {"privileged": True}}):
        available = [
            "CAP_CHOWN",
            "CAP_SYS_ADMIN",
        ]  # on a host that has fewer, a runtime would refuse the others
        assert container.capabilities(everything, available) == available


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["NET_RAW"], [], [*spec.DEFAULT_CAPABILITIES, "CAP_NET_RAW"]),
        (
            ["cap_net_raw"],
            ["CHOWN"],
            [*spec.DEFAULT_CAPABILITIES[:1], *spec.DEFAULT_CAPABILITIES[2:], "CAP_NET_RAW"],
        ),
        ([], ["all"], []),
        (["ALL"], ["ALL"], []),
        (["ALL", "CHOWN"], ["ALL"], ["CAP_CHOWN"]),
        (["ALL"], ["CAP_SYS_ADMIN"], [c for c in spec.ALL_CAPABILITIES if c != "CAP_SYS_ADMIN"]),
        (["SYS_TIME"], ["SYS_TIME"], list(spec.DEFAULT_CAPABILITIES)),
    ],
)
def test_capabilities_are_exact(add: list[str], drop: list[str], expected: list[str]) -> None:
    """In containerd's order: ALL first, then what is added by name, then what is dropped by name."""
    context = {"securityContext": {"capabilities": {"add": add, "drop": drop}}}
    assert container.capabilities(context) == expected


def test_raw_sockets_are_not_for_everyone() -> None:
    """NET_RAW, with which a pod could speak for others on the bridge, has to be asked for."""
    assert "CAP_NET_RAW" not in spec.DEFAULT_CAPABILITIES


def test_capabilities_by_number() -> None:
    """A capability's place in the list is the kernel's number for it."""
    assert spec.capabilities_of(1 << 21 | 1) == ("CAP_CHOWN", "CAP_SYS_ADMIN")
    assert spec.capabilities_of((1 << 41) - 1) == spec.ALL_CAPABILITIES


@pytest.mark.parametrize(
    ("general", "own", "image", "expected"),
    [
        ({}, {}, "", ""),
        ({}, {}, "app:web", "app:web"),
        ({"runAsUser": 5}, {}, "app", "5"),
        ({"runAsUser": 5}, {"runAsUser": 0}, "app", "0"),
        ({"runAsNonRoot": True}, {}, "1000:app", "1000:app"),
        ({"runAsNonRoot": True}, {"runAsNonRoot": False}, "app", "app"),
    ],
)
def test_whose_account_it_is(general: Object, own: Object, image: str, expected: str) -> None:
    """The container's over the pod's over the image's, whose words are kept."""
    pod = {"spec": {"securityContext": general}}
    assert container.account(pod, {"securityContext": own}, {"User": image}) == expected


def test_users_and_groups() -> None:
    """The account's group unless another is asked for; the pod's groups beside those the image gives."""
    pod: Object = {"spec": {"securityContext": {"fsGroup": 9, "supplementalGroups": [8]}}}
    assert container.effective_user(pod, {}, spec.User(5, 2, (3,))) == spec.User(5, 2, (3, 8, 9))
    own = {"securityContext": {"runAsGroup": 7}}
    assert container.effective_user(pod, own, spec.User()) == spec.User(0, 7, (8, 9))
    pod["spec"]["securityContext"]["supplementalGroupsPolicy"] = "Strict"
    assert container.effective_user(pod, {}, spec.User(5, 2, (3,))) == spec.User(5, 2, (8, 9))


@pytest.mark.parametrize(
    ("own", "image", "words"),
    [
        ({}, "", "container has runAsNonRoot and image will run as root"),
        ({}, "0:1", "container has runAsNonRoot and image will run as root"),
        ({}, "app", r"image has non-numeric user \(app\), cannot verify user is non-root"),
        ({"runAsUser": 0}, "app", "container's runAsUser breaks non-root policy"),
    ],
)
def test_root_is_refused(own: Object, image: str, words: str) -> None:
    """In the kubelet's words; a name of an image could be root's, so it is not believed."""
    pod = {"spec": {"securityContext": {"runAsNonRoot": True}}}

    def decide() -> None:
        container.account(pod, {"securityContext": own}, {"User": image})
        container.effective_user(pod, {"securityContext": own}, spec.User())

    with pytest.raises(env.ConfigMissing, match=words):
        decide()


def test_names_of_the_kernel() -> None:
    """Short, full where asked for, the host's in its network; one that is too long is refused."""
    pod: Object = {
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"hostname": "box", "subdomain": "sub"},
    }
    known = {"domain": "cluster.local", "host": "laptop"}
    assert etc.kernel_name(pod, **known) == "box"
    pod["spec"]["setHostnameAsFQDN"] = True
    assert etc.kernel_name(pod, **known) == "box.sub.n.svc.cluster.local"
    pod["spec"]["subdomain"] = "s" * 50
    with pytest.raises(errors.Invalid, match="64 characters is the max, 74 characters requested"):
        etc.kernel_name(pod, **known)
    pod["spec"]["hostNetwork"] = True
    assert etc.kernel_name(pod, **known) == "laptop"


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


def test_values_are_quoted_as_go_does() -> None:
    """One line for each label or annotation, whatever is in it."""
    pod: Object = {"metadata": {"annotations": {"a": 'x"\\\t\n\x01é\u200b'}}}
    assert env.field_value(pod, "metadata.annotations", FACTS) == r'a="x\"\\\t\n\x01é\u200b"'


@given(st.integers(-900, 900))
def test_oom_score_is_never_lowered(current: int) -> None:
    """No quality of service goes below what the node itself has."""
    guaranteed: Object = {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    for given_ in ({"name": "c"}, guaranteed):
        found = container.oom_score_adj({"spec": {"containers": [given_]}}, given_, 2**30, current)
        assert current <= found <= 1000


def test_limits_in_the_runtime_spec() -> None:
    """CPU becomes shares and quota, memory a limit."""
    given_ = {"resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}}
    document = spec.runtime_spec(spec.Container("/r", ["x"], "/g", limits=container.limits(given_)))
    resources = document["linux"]["resources"]
    assert resources["cpu"] == {"shares": 256, "period": 100_000, "quota": 50_000}
    assert resources["memory"] == {"limit": 64 * 2**20}


def test_namespaces_are_all_listed() -> None:
    """A kind that is not listed would be the host's: mount, cgroup and pid always are."""
    document = spec.runtime_spec(spec.Container("/r", ["x"], "/g", namespaces={"network": "/n", "ipc": ""}))
    listed = {entry["type"]: entry.get("path") for entry in document["linux"]["namespaces"]}
    assert listed == {"mount": None, "cgroup": None, "pid": None, "network": "/n", "ipc": None}


SCHEDULE = probing.Schedule(0, 10, 1, 1, 3)


def planned(own: Object | None = None, pod: Object | None = None, **changes: Any) -> Any:
    """The runtime spec of a container of a pod with such security contexts."""
    given_ = {"name": "c", "command": ["x"], "securityContext": own or {}, **changes}
    whole = {**POD, "spec": {"containers": [given_], "securityContext": pod or {}}}
    place = container.Place(
        rootfs="/r",
        cgroup="/g",
        namespaces={},
        mounts=[],
        image={},
        account=spec.User(),
        declared={},
        environment={},
        node_memory_bytes=1,
        current_oom_score_adj=0,
        also_masked=["/sys/of/this/machine"],
        seccomp={"defaultAction": "SCMP_ACT_LOG"},
    )
    return spec.runtime_spec(container.planned(whole, given_, place))


@pytest.mark.parametrize(
    ("own", "pod", "action"),
    [
        (None, None, "SCMP_ACT_ERRNO"),
        ("RuntimeDefault", "Unconfined", "SCMP_ACT_ERRNO"),
        ("Unconfined", "RuntimeDefault", None),
        (None, "Unconfined", None),
        (None, "Localhost", "SCMP_ACT_LOG"),
        ("Localhost", None, "SCMP_ACT_LOG"),
    ],
)
def test_seccomp_profiles(own: str | None, pod: str | None, action: str | None) -> None:
    """The container's profile counts before the pod's; without any it is RuntimeDefault."""
    contexts = [{"seccompProfile": {"type": kind}} if kind else {} for kind in (own, pod)]
    profile = planned(*contexts)["linux"].get("seccomp")
    assert (profile or {}).get("defaultAction") == action


def test_a_privileged_container_is_not_filtered_or_masked() -> None:
    """It sees the machine as it is, whatever profile it names."""
    linux = planned({"privileged": True, "seccompProfile": {"type": "RuntimeDefault"}})["linux"]
    assert "seccomp" not in linux
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], [])


def test_what_containers_do_not_see() -> None:
    """Paths that tell of the machine are masked, its switches and control groups are read-only."""
    linux = planned()["linux"]
    masked = {"/proc/kcore", "/proc/slabinfo", "/proc/vmallocinfo", "/sys/devices/virtual/powercap"}
    assert {*masked, "/sys/firmware", "/sys/of/this/machine"} <= set(linux["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup"} <= set(linux["readonlyPaths"])
    unmasked = planned({"procMount": "Unmasked"})["linux"]
    assert (unmasked["maskedPaths"], unmasked["readonlyPaths"]) == ([], [])


@pytest.mark.parametrize("escalation", [None, True, False])
def test_escalation_of_privileges(escalation: bool | None) -> None:
    """No set-uid program raises a container that may not be raised; others it may."""
    own = {} if escalation is None else {"allowPrivilegeEscalation": escalation}
    assert planned(own)["process"]["noNewPrivileges"] is (escalation is False)


def allowed_calls(profile: Any) -> set[str]:
    return {
        name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]
    }


def test_the_default_profile_follows_the_capabilities() -> None:
    """What only some may do is allowed to them alone; new namespaces need SYS_ADMIN however they are made."""
    usual = seccomp.default(spec.DEFAULT_CAPABILITIES, "x86_64")
    assert {"openat", "execve", "ptrace", "clone", "chroot", "arch_prctl"} <= allowed_calls(usual)
    privileged = {"mount", "unshare", "setns", "bpf", "keyctl", "kexec_load", "init_module", "io_uring_setup"}
    assert not allowed_calls(usual) & {*privileged, "clone3", "open_by_handle_at", "userfaultfd"}
    assert seccomp.default((), "aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    admin = seccomp.default(["CAP_SYS_ADMIN"], "x86_64")
    assert {"mount", "unshare", "clone3"} <= allowed_calls(admin)
    assert "init_module" not in allowed_calls(admin)
    assert "init_module" in allowed_calls(seccomp.default(["CAP_SYS_MODULE"], "x86_64"))


@pytest.mark.parametrize("capabilities", [(), spec.DEFAULT_CAPABILITIES, spec.ALL_CAPABILITIES])
def test_no_call_is_both_allowed_and_refused(capabilities: tuple[str, ...]) -> None:
    """Each is named for one outcome; arguments decide only where one call has several rules."""
    plain = [rule for rule in seccomp.default(capabilities, "x86_64")["syscalls"] if "args" not in rule]
    names = [name for rule in plain for name in rule["names"]]
    assert len(names) == len(set(names))


def test_mounts_are_in_order() -> None:
    """A folder is mounted before what lies in it, in whatever order they are listed; own ones win."""
    base = [spec.tmpfs("/dev"), spec.tmpfs("/dev/shm"), spec.tmpfs("/sys")]
    own = [spec.bind(str(n), path) for n, path in enumerate(["/w/s/t", "/w", "/dev/shm", "/w/s", "/a"])]
    ordered = [(m["destination"], m["type"]) for m in spec.in_order(base, own)]
    assert [path for path, _ in ordered] == ["/dev", "/sys", "/w", "/a", "/dev/shm", "/w/s", "/w/s/t"]
    assert dict(ordered)["/dev/shm"] == "bind"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a/b", "/a/b"), ("a", "/a"), ("//a//b/", "/a/b"), ("/a/../../b", "/b"), ("/", "/")],
)
def test_paths_in_a_container(path: str, expected: str) -> None:
    """Mount paths begin at the container's root and say nothing twice, so that they can be put in order."""
    assert container.inner(path) == expected


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
def test_probe_waits_grow_to_the_period(asked: int) -> None:
    """From 20 ms to the period, never beyond."""
    found = probing.wait_s(probing.Count(asked=asked), SCHEDULE)
    assert 0.02 <= found <= 10
    assert probing.wait_s(probing.Count(has_succeeded=True), SCHEDULE) == 10


def test_resolv_conf() -> None:
    """ClusterFirst searches the cluster, Default is the host's, dnsConfig adds and overrides."""
    host = "nameserver 9.9.9.9\nsearch corp\noptions rotate\n"
    made = etc.resolv_conf(POD, name_server="10.0.0.1", domain="cluster.local", host_file=host)
    search = "n.svc.cluster.local svc.cluster.local cluster.local corp"
    assert made == f"nameserver 10.0.0.1\nsearch {search}\noptions ndots:5 timeout:1 attempts:5\n"
    default = {
        **POD,
        "spec": {"dnsPolicy": "Default", "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}},
    }
    made = etc.resolv_conf(default, name_server="10.0.0.1", domain="cluster.local", host_file=host)
    assert made == "nameserver 9.9.9.9\nsearch corp\noptions rotate ndots:1\n"


def test_addresses_come_back_late(tmp_path: Path) -> None:
    """A freed address is given out again only after all others; what is given survives a restart."""
    network = ipaddress.IPv4Network("10.0.0.0/29")
    pool = ipam.AddressPool(network, tmp_path / "a.json")
    first = pool.take("a")
    assert first == pool.take("a")
    pool.give_back("a")
    given_ = [str(pool.take(owner)) for owner in "bcde"]
    assert str(first) not in given_
    again = ipam.AddressPool(network, tmp_path / "a.json")
    assert str(again.take("b")) == given_[0]
    assert again.take("f") == first
    with pytest.raises(errors.HostError, match="no free address"):
        again.take("g")


def test_a_damaged_pool_is_filled_again(tmp_path: Path) -> None:
    """Addresses in use are put back into a pool whose file cannot be read."""
    (tmp_path / "a.json").write_text("{half")
    pool = ipam.AddressPool(ipaddress.IPv4Network("10.0.0.0/29"), tmp_path / "a.json")
    pool.reserve("a", ipaddress.IPv4Address("10.0.0.2"))
    assert str(pool.take("a")) == "10.0.0.2"
    assert str(pool.take("b")) != "10.0.0.2"


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_no_two_owners_share_an_address(owners: list[str]) -> None:
    """Whatever comes and goes, addresses are distinct, inside, and never the gateway's."""
    import tempfile  # noqa: PLC0415 - a fresh folder for each example

    with tempfile.TemporaryDirectory() as folder:
        pool = ipam.AddressPool(ipaddress.IPv4Network("10.0.0.0/28"), Path(folder, "a.json"))
        held: dict[str, Any] = {}
        for owner in owners:
            if owner in held:
                pool.give_back(owner)
                del held[owner]
            else:
                held[owner] = pool.take(owner)
        assert len(set(held.values())) == len(held)
        assert pool.gateway not in held.values()


def test_bridge_text() -> None:
    """A pod's frames pass with its own two addresses; the rest is dropped, and other ports are let alone."""
    pod = rules.Bound("va1b2c301234567", b"\x0a\x58\x0a\x00\x00\x02", ipaddress.IPv4Address("10.0.0.2"))
    element = '"va1b2c301234567" . 0a:58:0a:00:00:02 . 10.0.0.2'
    text = rules.bridge("a1b2c3", b"\x02\x00\x00\x00\x00\x01", [pod])
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:3] == [
        "add table bridge ondol-a1b2c3",
        "delete table bridge ondol-a1b2c3",
        "table bridge ondol-a1b2c3 {",
    ]
    assert f"elements = {{ {element} }}" in lines
    chain = lines[lines.index("chain prerouting {") + 1 : -2]
    assert chain == [
        "type filter hook prerouting priority -300; policy accept;",
        'iifname != "va1b2c3*" accept',
        "ether type ip iifname . ether saddr . ip saddr @bound ether daddr 02:00:00:00:00:01 accept",
        "ether type ip iifname . ether saddr . ip saddr @bound ip daddr 224.0.0.0/4 accept",
        (
            "ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
            "iifname . ether saddr . arp saddr ip @bound "
            "iifname . arp saddr ether . arp saddr ip @bound accept"
        ),
        "drop",
    ]
    assert "elements" not in rules.bridge("a1b2c3", pod.mac, [])
    assert rules.bindings(text) == [pod]
    assert pod.key == b"va1b2c301234567\0\x0a\x58\x0a\0\0\x02\0\0\x0a\0\0\x02"
    assert rules.unbind("a1b2c3", [pod]) == f"delete element bridge ondol-a1b2c3 bound {{ {element} }}\n"


def test_mesh_redirect_text() -> None:
    """Loopback and the node are let past, all other TCP goes to the proxy's port."""
    text = rules.mesh_redirect([ipaddress.IPv4Address("10.0.0.1")])
    assert "ip daddr { 10.0.0.1 } return" in text
    assert text.index("127.0.0.0/8 return") < text.index("redirect to :15001")


def test_istios_annotations_choose_what_is_turned_to_the_proxy() -> None:
    """What is excluded is let past first; then named ports, then named ranges, and nothing else."""
    traffic = {
        "excludeOutboundPorts": "25, 3306",
        "excludeOutboundIPRanges": "10.9.0.0/16",
        "includeOutboundPorts": "8080",
        "includeOutboundIPRanges": "10.0.0.0/8,172.16.0.1",
        "excludeInterfaces": "eth1",
        "excludeInboundPorts": "22",
    }
    capture = dataplane.capture({f"traffic.sidecar.istio.io/{name}": text for name, text in traffic.items()})
    text = rules.mesh_redirect([ipaddress.IPv4Address("10.0.0.1")], capture)
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index("ip daddr { 10.0.0.1 } return") + 1
    assert lines[start : start + 6] == [
        'oifname { "eth1" } return',
        "tcp dport { 25, 3306 } return",
        "ip daddr 10.9.0.0/16 return",
        "meta nfproto ipv4 tcp dport { 8080 } redirect to :15001",
        "ip daddr 10.0.0.0/8 meta l4proto tcp redirect to :15001",
        "ip daddr 172.16.0.1/32 meta l4proto tcp redirect to :15001",
    ]
    assert text.count("redirect") == 3
    none = dataplane.capture({"traffic.sidecar.istio.io/includeOutboundIPRanges": ""})
    assert "redirect" not in rules.mesh_redirect([ipaddress.IPv4Address("10.0.0.1")], none)


def service(name: str, address: str, **extra: Any) -> Object:
    spec_ = {"clusterIP": address, "ports": [{"name": "http", "port": 80}], **extra}
    return {"metadata": {"name": name, "namespace": "n"}, "spec": spec_}


def slice_of(name: str, *endpoints: Object) -> Object:
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"name": f"{name}-x", "namespace": "n", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": list(endpoints),
    }


def test_service_entries() -> None:
    """Ready endpoints of the port with the same name; headless and external Services have none."""
    unready = {"addresses": ["10.1.0.3"], "conditions": {"ready": False}}
    found = services.entries(
        [service("a", "10.0.0.5"), service("h", "None"), service("e", "", type="ExternalName")],
        [slice_of("a", {"addresses": ["10.1.0.2"]}, unready)],
    )
    place = HostPort("TCP", "10.0.0.5", 80)
    assert [(e.owner.key, e.places, e.backends) for e in found] == [
        (Key("n", "a"), (place,), (services.Backend("10.1.0.2", 8080),))
    ]


def test_the_entries_of_a_service_are_made_once() -> None:
    """Remembered or not they are the same; only what has another document is looked at again."""
    memo = Memo()
    listed = [service("a", "10.0.0.5"), service("b", "10.0.0.6")]
    slices = [slice_of(name, {"addresses": ["10.1.0.2"]}) for name in ("a", "b")]
    first = services.entries(listed, slices, memo)
    changed = [slices[0], slice_of("b", {"addresses": ["10.1.0.3"]})]
    again = services.entries(listed, changed, memo)
    assert again == services.entries(listed, changed)
    assert again[0] is first[0]
    assert again[1].backends == (services.Backend("10.1.0.3", 8080),)
    assert services.entries(listed[:1], changed, memo) == again[:1]


def test_service_table_text() -> None:
    """Served ports are translated, empty ones refused; sticky ones chosen by the client's address."""
    listed = services.entries(
        [service("a", "10.0.0.5", sessionAffinity="ClientIP"), service("b", "10.0.0.6")],
        [slice_of("a", {"addresses": ["10.1.0.2"]})],
    )
    text = service_table.whole(service_table.table("abcdef", listed))
    assert f"10.0.0.5 . tcp . 80 : goto {listed[0].chain}" in text
    assert "dnat ip to jhash ip saddr mod 1 map { 0 : 10.1.0.2 . 8080 }" in text
    rejected = text[text.index("set rejected {") :].split("}", 1)[0]
    assert "10.0.0.6 . tcp . 80" in rejected


def test_volume_payloads() -> None:
    """Keys, chosen items with modes, and what is missing without being optional."""
    sources = env.Sources({"m": {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}}, "no": None})
    chosen = {"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "d/a", "mode": 0o400}]}}
    assert volumes.payload(POD, chosen, sources, FACTS, {}) == {"d/a": volumes.File(b"1", 0o400)}
    optional = {"name": "v", "configMap": {"name": "no", "optional": True}}
    assert volumes.payload(POD, optional, sources, FACTS, {}) == {}
    with pytest.raises(volumes.VolumeFailed, match='configmap "no" not found'):
        volumes.payload(POD, {"name": "v", "configMap": {"name": "no"}}, sources, FACTS, {})


@pytest.mark.parametrize(
    ("general", "container", "written"),
    [
        ({}, {}, (0o644, None)),
        ({"runAsUser": 1000}, {}, (0o600, 1000)),
        ({}, {"runAsUser": 1000}, (0o644, None)),
        ({"runAsUser": 1000}, {"runAsUser": 1001}, (0o644, None)),
        ({"fsGroup": 2000}, {}, (0o600, None)),
        ({"runAsUser": 1000, "fsGroup": 2000}, {}, (0o600, 1000)),
    ],
)
def test_whose_a_token_is(
    general: dict[str, Any], container: dict[str, Any], written: tuple[int, int | None]
) -> None:
    """The one user's of all containers, and the group's if there is one; else everybody's in the pod."""
    containers = [{"name": "a"}, {"name": "b", "securityContext": container}]
    volume = {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    spec = {"securityContext": general, "containers": containers, "volumes": [volume]}
    pod = {"metadata": {"name": "p"}, "spec": spec}
    (asked,) = volumes.token_requests(pod)
    files = volumes.payload(pod, volume, env.Sources(), FACTS, {asked: "secret"})
    assert files == {"token": (b"secret", *written)}


def test_volume_is_swapped_whole(tmp_path: Path) -> None:
    """A new revision replaces all files at once; files no longer wanted are gone."""
    folder = tmp_path / "v"
    assert volumes.write(
        folder, {"a": volumes.File(b"1", 0o644), "b": volumes.File(b"1", 0o644)}, fs_group=None, revision="1"
    )
    assert not volumes.write(
        folder, {"a": volumes.File(b"1", 0o644), "b": volumes.File(b"1", 0o644)}, fs_group=None, revision="2"
    )
    held = (folder / "..data").resolve()
    assert volumes.write(folder, {"a": volumes.File(b"2", 0o600)}, fs_group=None, revision="3")
    assert (folder / "a").read_bytes() == b"2"
    assert not (folder / "b").exists()
    assert not held.exists()
    with pytest.raises(volumes.VolumeFailed, match="leads out"):
        volumes.write(folder, {"../x": volumes.File(b"", 0o644)}, fs_group=None, revision="4")


def test_a_folder_in_the_place_of_a_late_file_gives_way(tmp_path: Path) -> None:
    """A subPath of a key that is not there yet is a folder; the key takes its place, other keys leave it."""
    folder = tmp_path / "v"
    volumes.write(folder, {}, fs_group=None, revision="1")
    with volumes.sub_path(folder, "late"):
        assert (folder / "late").is_dir()
    assert volumes.write(folder, {"other": volumes.File(b"1", 0o644)}, fs_group=None, revision="2")
    assert (folder / "late").is_dir()
    assert volumes.write(folder, {"late": volumes.File(b"2", 0o644)}, fs_group=None, revision="3")
    assert (folder / "late").read_bytes() == b"2"


def test_unsupported_fields_are_named() -> None:
    """What the node cannot honour is refused or warned of, field by field."""
    pod: Object = {
        "spec": {
            "shareProcessNamespace": True,
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
    refused, warned = container.unsupported(pod)
    assert refused == [
        "spec.shareProcessNamespace",
        "spec.volumes[d].nfs",
        "spec.volumes[e].emptyDir.medium=HugePages",
        "spec.volumes[p].projected.clusterTrustBundle",
    ]
    assert warned == []


def limited(*limits: str | None, size: str | None = None, **volume: Any) -> Object:
    resources = [{"limits": {"ephemeral-storage": limit}} if limit else {} for limit in limits]
    listed = [{"name": f"c{number}", "resources": each} for number, each in enumerate(resources)]
    empty = {**volume, **({"sizeLimit": size} if size else {})}
    return {"spec": {"containers": listed, "volumes": [{"name": "v", "emptyDir": empty}]}}


@pytest.mark.parametrize(
    ("pod", "volume", "containers", "words"),
    [
        (limited(None), 2**40, {"c0": 2**40}, ""),
        (limited(None, size="1Ki"), 1024, {}, ""),
        (limited(None, size="1Ki"), 1025, {}, 'Usage of EmptyDir volume "v" exceeds the limit "1Ki".'),
        (limited("1Ki", None), 0, {"c0": 1024, "c1": 9999}, ""),
        (
            limited("1Ki", None),
            0,
            {"c0": 1025},
            'Container c0 exceeded its local ephemeral storage limit "1Ki".',
        ),
        (
            limited("1Ki", "1Ki"),
            100,
            {"c0": 1000, "c1": 1000},
            "exceeds the total limit of containers 2048 bytes",
        ),
        (limited("1Ki", None), 9999, {"c0": 1000}, ""),
    ],
)
def test_what_holds_too_much(pod: Object, volume: int, containers: dict[str, int], words: str) -> None:
    """A volume, a container, or all of a pod whose containers are all limited; in the kubelet's words."""
    found = storage.excess(pod, storage.Held({"v": volume}, containers))
    assert words in found if words else found == ""


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (limited(None), False),
        (limited("1Ki"), True),
        (limited(None, size="1Ki"), True),
        (limited(None, size="0"), False),
        (limited(None, size="1Ki", medium="Memory"), False),
    ],
)
def test_who_is_worth_a_look(pod: Object, expected: bool) -> None:
    """Only who has a limit that nothing else holds it to."""
    assert storage.is_limited(pod) is expected


def test_sizes_on_the_disk(tmp_path: Path) -> None:
    """Blocks, not lengths; a file with two names is one; nothing is nothing."""
    assert storage.size_bytes(tmp_path / "none") == 0
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 100_000)
    once = storage.size_bytes(tmp_path)
    assert 100_000 <= once <= 140_000
    (tmp_path / "again").hardlink_to(tmp_path / "d" / "f")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert storage.size_bytes(tmp_path) <= once + 8192
