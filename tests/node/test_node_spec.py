"""What a container runs, as whom and with which rights: runtime specs, seccomp profiles, mounts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.example_pod import POD

from ondol.api.objects import Object
from ondol.node import value_sources
from ondol.node.pods import planning
from ondol.node.runtime import seccomp, spec

IMAGE = {"Entrypoint": ["/e"], "Cmd": ["d"]}


@pytest.mark.parametrize(
    ("container", "expected"),
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
def test_command(container: Object, expected: list[str]) -> None:
    """The pod's command replaces the image's entrypoint and with it the image's arguments."""
    assert planning.command(container, IMAGE, {"A": "1"}) == expected


def test_capabilities() -> None:
    """Defaults, less what is dropped, plus what is added; `ALL` both ways."""
    drop_all = {"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}
    assert planning.capabilities(drop_all) == ["CAP_NET_BIND_SERVICE"]
    assert planning.capabilities({}) == list(spec.DEFAULT_CAPABILITIES)
    add_all = {"securityContext": {"capabilities": {"add": ["ALL"]}}}
    assert planning.capabilities(add_all) == list(spec.ALL_CAPABILITIES)
    for everything in (add_all, {"securityContext": {"privileged": True}}):
        available = [
            "CAP_CHOWN",
            "CAP_SYS_ADMIN",
        ]  # on a host that has fewer, a runtime would refuse the others
        assert planning.capabilities(everything, available) == available


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
    assert planning.capabilities(context) == expected


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
    assert planning.account(pod, {"securityContext": own}, {"User": image}) == expected


def test_users_and_groups() -> None:
    """The account's group unless another is asked for; the pod's groups beside those the image gives."""
    pod: Object = {"spec": {"securityContext": {"fsGroup": 9, "supplementalGroups": [8]}}}
    assert planning.effective_user(pod, {}, spec.User(5, 2, (3,))) == spec.User(5, 2, (3, 8, 9))
    own = {"securityContext": {"runAsGroup": 7}}
    assert planning.effective_user(pod, own, spec.User()) == spec.User(0, 7, (8, 9))
    pod["spec"]["securityContext"]["supplementalGroupsPolicy"] = "Strict"
    assert planning.effective_user(pod, {}, spec.User(5, 2, (3,))) == spec.User(5, 2, (8, 9))


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
        planning.account(pod, {"securityContext": own}, {"User": image})
        planning.effective_user(pod, {"securityContext": own}, spec.User())

    with pytest.raises(value_sources.ConfigMissing, match=words):
        decide()


@given(st.integers(-900, 900))
def test_oom_score_is_never_lowered(current: int) -> None:
    """No quality of service goes below what the node itself has."""
    guaranteed: Object = {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    for container in ({"name": "c"}, guaranteed):
        score = planning.oom_score_adj({"spec": {"containers": [container]}}, container, 2**30, current)
        assert current <= score <= 1000


def test_limits_in_the_runtime_spec() -> None:
    """CPU becomes shares and quota, memory a limit."""
    container = {"resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}}
    document = spec.runtime_spec(spec.Container("/r", ["x"], "/g", limits=planning.limits(container)))
    resources = document["linux"]["resources"]
    assert resources["cpu"] == {"shares": 256, "period": 100_000, "quota": 50_000}
    assert resources["memory"] == {"limit": 64 * 2**20}


def test_namespaces_are_all_listed() -> None:
    """A kind that is not listed would be the host's: mount, cgroup and pid always are."""
    document = spec.runtime_spec(spec.Container("/r", ["x"], "/g", namespaces={"network": "/n", "ipc": ""}))
    listed = {entry["type"]: entry.get("path") for entry in document["linux"]["namespaces"]}
    assert listed == {"mount": None, "cgroup": None, "pid": None, "network": "/n", "ipc": None}


def planned(own: Object | None = None, pod: Object | None = None, **changes: Any) -> Any:
    """The runtime spec of a container of a pod with such security contexts."""
    container = {"name": "c", "command": ["x"], "securityContext": own or {}, **changes}
    whole = {**POD, "spec": {"containers": [container], "securityContext": pod or {}}}
    place = planning.Place(
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
    return spec.runtime_spec(planning.planned(whole, container, place))


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
    assert planning.inner(path) == expected
