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
from ondol.node.network import ipam, rules, services
from ondol.node.pods import container, env, etc, probing, volumes
from ondol.node.runtime import spec

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
    ],
)
def test_expansion(text: str, expected: str) -> None:
    """`$(NAME)` is replaced when known, `$$` is a dollar, everything else stays."""
    assert env.expand(text, {"A": "1", "B": "2"}) == expected


@given(st.text())
def test_expansion_of_nothing_known_only_halves_dollars(text: str) -> None:
    """Without variables a text without `$$` is itself."""
    if "$$" not in text:
        assert env.expand(text, {}) == text


def test_environment_order() -> None:
    """Image, services, envFrom, env: later wins, and env sees all that came before but the image."""
    given_: Object = {
        "name": "c",
        "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}],
        "env": [{"name": "X", "value": "$(P_k)"}, {"name": "Y", "value": "$(X)$(LATER)"}],
    }
    sources = env.Sources({"m": {"kind": "ConfigMap", "data": {"k": "v", "not valid!": "x"}}})
    found = env.variables(
        POD, given_, sources=sources, facts=FACTS, services={"S": "s"}, image={"PATH": "/bin", "S": "image"}
    )
    assert found == {"PATH": "/bin", "S": "s", "P_k": "v", "X": "v", "Y": "v$(LATER)"}


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
        env.variables(POD, given_, sources=sources, facts=FACTS, services={}, image={})


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
        ({"args": []}, ["/e"]),
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


def test_capabilities_by_number() -> None:
    """A capability's place in the list is the kernel's number for it."""
    assert spec.capabilities_of(1 << 21 | 1) == ("CAP_CHOWN", "CAP_SYS_ADMIN")
    assert spec.capabilities_of((1 << 41) - 1) == spec.ALL_CAPABILITIES


def test_user_and_root_refusal() -> None:
    """The container's user is over the pod's, both over the image's; runAsNonRoot refuses root."""
    pod = {"spec": {"securityContext": {"runAsUser": 5, "fsGroup": 9, "supplementalGroups": [8]}}}
    assert container.effective_user(pod, {}, spec.User(1, 2, (3,))) == spec.User(5, 0, (8, 9))
    own = {"securityContext": {"runAsUser": 6, "runAsGroup": 7}}
    assert container.effective_user(pod, own, spec.User()) == spec.User(6, 7, (8, 9))
    with pytest.raises(env.ConfigMissing, match="will run as root"):
        container.effective_user({"spec": {}}, {"securityContext": {"runAsNonRoot": True}}, spec.User())


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
    assert [(e.key, e.addresses, e.backends) for e in found] == [
        (Key("n", "a"), ("10.0.0.5",), (services.Backend("10.1.0.2", 8080),))
    ]


def test_service_table_text() -> None:
    """Served ports are translated, empty ones refused; sticky ones chosen by the client's address."""
    listed = services.entries(
        [service("a", "10.0.0.5", sessionAffinity="ClientIP"), service("b", "10.0.0.6")],
        [slice_of("a", {"addresses": ["10.1.0.2"]})],
    )
    text = services.table("abcdef", listed)
    assert f"10.0.0.5 . tcp . 80 : goto {listed[0].chain}" in text
    assert "dnat ip to jhash ip saddr mod 1 map { 0 : 10.1.0.2 . 8080 }" in text
    rejected = text[text.index("set rejected {") :].split("}", 1)[0]
    assert "10.0.0.6 . tcp . 80" in rejected


def test_volume_payloads() -> None:
    """Keys, chosen items with modes, and what is missing without being optional."""
    sources = env.Sources({"m": {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}}, "no": None})
    chosen = {"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "d/a", "mode": 0o400}]}}
    assert volumes.payload(POD, chosen, sources, FACTS, {}) == {"d/a": (b"1", 0o400)}
    optional = {"name": "v", "configMap": {"name": "no", "optional": True}}
    assert volumes.payload(POD, optional, sources, FACTS, {}) == {}
    with pytest.raises(volumes.VolumeFailed, match='configmap "no" not found'):
        volumes.payload(POD, {"name": "v", "configMap": {"name": "no"}}, sources, FACTS, {})


def test_volume_is_swapped_whole(tmp_path: Path) -> None:
    """A new revision replaces all files at once; files no longer wanted are gone."""
    folder = tmp_path / "v"
    assert volumes.write(folder, {"a": (b"1", 0o644), "b": (b"1", 0o644)}, fs_group=None, revision="1")
    assert not volumes.write(folder, {"a": (b"1", 0o644), "b": (b"1", 0o644)}, fs_group=None, revision="2")
    held = (folder / "..data").resolve()
    assert volumes.write(folder, {"a": (b"2", 0o600)}, fs_group=None, revision="3")
    assert (folder / "a").read_bytes() == b"2"
    assert not (folder / "b").exists()
    assert not held.exists()
    with pytest.raises(volumes.VolumeFailed, match="leads out"):
        volumes.write(folder, {"../x": (b"", 0o644)}, fs_group=None, revision="4")


def test_sub_paths_stay_inside(tmp_path: Path) -> None:
    """A link inside the volume may not lead out of it."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "out").symlink_to("/etc")
    with pytest.raises(volumes.VolumeFailed, match="leads out"):
        volumes.inside(tmp_path / "v", "out", is_writable=True)
    assert volumes.inside(tmp_path / "v", "new/deep", is_writable=True).is_dir()


def test_unsupported_fields_are_named() -> None:
    """What the node cannot honour is refused or warned of, field by field."""
    pod: Object = {
        "spec": {
            "shareProcessNamespace": True,
            "volumes": [
                {"name": "d", "nfs": {}},
                {"name": "e", "emptyDir": {"medium": "HugePages"}},
                {"name": "f", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "g", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                {"name": "p", "projected": {"sources": [{"clusterTrustBundle": {}}, {"secret": {}}]}},
            ],
            "containers": [
                {
                    "name": "c",
                    "resources": {"limits": {"ephemeral-storage": "1Gi"}},
                    "livenessProbe": {"grpc": {"port": 1}},
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
        "spec.containers[c].livenessProbe.grpc",
    ]
    assert warned == [
        "spec.volumes[f].emptyDir.sizeLimit",
        "spec.containers[c].securityContext.seccompProfile",
        "spec.containers[c].resources.limits.ephemeral-storage",
    ]
