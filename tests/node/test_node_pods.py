"""Pods as a user sees them: real containers, an API server in this process."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from typing import Any

import anyio
import anyio.to_thread
import grpc
import grpc.aio
import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.client import PatchType
from ondol.node import agent
from ondol.node.network import sandbox
from ondol.node.pods import machine
from ondol.node.runtime import cgroups

pytestmark = [pytest.mark.anyio, pytest.mark.root]


def state(pod: Object, index: int = 0) -> dict[str, Any]:
    container: dict[str, Any] = objects.status(pod)["containerStatuses"][index]
    return container


async def test_a_pod_comes_and_goes_without_a_trace(world: Any) -> None:
    """Of several pods created at once all become ready; of one deleted no file and no namespace stays."""
    async with world.node():
        for index in range(5):
            await world.create(world.pod(f"p{index}"))
        for index in range(5):
            await world.ready(f"p{index}")
        pod = await world.get("p0")
        await world.delete("p0")
        await world.absent(world.config.pod_dir(objects.uid(pod)))
        assert not (world.config.run_dir / "netns" / objects.uid(pod)).exists()


async def test_status_of_a_running_pod(world: Any) -> None:
    """Address, conditions, container state and events are what kubectl shows."""
    async with world.node():
        await world.create(world.pod("a", "echo hello; sleep 1000"))
        pod = await world.ready("a")
        status = objects.status(pod)
        assert status["podIP"].startswith(world.config.pod_cidr.rsplit(".", 1)[0])
        assert (status["phase"], status["qosClass"], status["hostIP"]) == (
            "Running",
            "BestEffort",
            "192.0.2.2",
        )
        assert {c["type"]: c["status"] for c in status["conditions"]} == dict.fromkeys(
            ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
        )
        assert not any(c.get("message") for c in status["conditions"])
        assert state(pod)["state"]["running"]["startedAt"]
        assert (await world.log("a")) == "hello\n"
        await world.until_events("a", {"Pulled", "Created", "Started"})
        listed = await world.client.list(resources.EVENT, "default")
        [started] = [event for event in listed.items if event["reason"] == "Started"]
        assert started["involvedObject"]["fieldPath"] == "spec.containers{main}"
        assert started["source"] == {"component": "kubelet", "host": "node-under-test"}
        assert started["reportingInstance"] == "node-under-test"


async def test_environment_and_arguments(world: Any) -> None:
    """Variables from everywhere, expanded in order, reach the command."""
    client = world.client
    await client.create(
        resources.CONFIG_MAP,
        {"metadata": {"name": "conf", "namespace": "default"}, "data": {"color": "blue"}},
    )
    secret = {
        "metadata": {"name": "hush", "namespace": "default"},
        "data": {"key": base64.b64encode(b"s3cret").decode()},
    }
    await client.create(resources.SECRET, secret)
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "color"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "hush", "key": "key"}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "BOTH", "value": "$(NAME)-$(COLOR)-$$(NAME)"},
    ]
    container = {
        "command": [
            "/bin/sh",
            "-c",
            'echo "$NAME $COLOR $KEY $LIMIT $BOTH $FROM $color $0"; echo $IP',
            "$(COLOR)!",
        ],
        "env": env,
        "envFrom": [{"configMapRef": {"name": "conf"}}],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    async with world.node():
        await world.create(world.pod("env", container=container, restartPolicy="Never"))
        pod = await world.phase("env", "Succeeded")
        first, second = (await world.log("env")).splitlines()
        assert first == "env blue s3cret 64 env-blue-$(NAME) image blue blue!"
        assert second == objects.status(pod)["podIP"]


async def test_the_full_name_inside(world: Any) -> None:
    """`setHostnameAsFQDN`: the kernel, the file and the variable say the same."""
    fields = {"hostname": "box", "subdomain": "sub", "setHostnameAsFQDN": True, "restartPolicy": "Never"}
    script = "cat /proc/sys/kernel/hostname /etc/hostname; echo $HOSTNAME"
    async with world.node():
        await world.create(world.pod("fqdn", script, **fields))
        await world.phase("fqdn", "Succeeded")
        assert (await world.log("fqdn")).split() == ["box.sub.default.svc.cluster.local"] * 3


async def test_any_printable_name_is_a_variable(world: Any) -> None:
    """A key with a dash and a prefix that begins with a digit reach the process."""
    data = {"metadata": {"name": "conf", "namespace": "default"}, "data": {"data-1": "x"}}
    await world.client.create(resources.CONFIG_MAP, data)
    sources = [{"configMapRef": {"name": "conf"}, "prefix": "1-"}, {"configMapRef": {"name": "conf"}}]
    # A shell hands no such variable on: the process is asked what it was given.
    container = {"envFrom": sources, "command": ["cat", "/proc/self/environ"]}
    async with world.node():
        await world.create(world.pod("env", container=container, restartPolicy="Never"))
        await world.phase("env", "Succeeded")
        assert {"1-data-1=x", "data-1=x"} <= set((await world.log("env")).split("\0"))


@pytest.mark.parametrize("kind", ["sidecar", "deadline"])
async def test_no_terminal_phase_while_a_container_runs(world: Any, kind: str) -> None:
    """A sidecar and a pod over its deadline end before the pod is said to have ended."""
    slow = "trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.05; done"
    image = world.pod("x")["spec"]["containers"][0]["image"]
    side = {"name": "side", "image": image, "command": ["/bin/sh", "-c", slow], "restartPolicy": "Always"}
    late = {"activeDeadlineSeconds": 1} if kind == "deadline" else {"initContainers": [side]}
    script = slow if kind == "deadline" else "sleep 0.3"
    over: list[Object] = []

    def has_ended(pod: Object) -> bool:
        over[:] = [pod]
        return objects.status(pod).get("phase") in ("Succeeded", "Failed")

    async with world.node():
        pod = world.pod("end", script, restartPolicy="Never", **late)
        pod["spec"]["terminationGracePeriodSeconds"] = 20
        await world.create(pod)
        await world.until("end", has_ended)
        status = objects.status(over[0])
        states = [*status["containerStatuses"], *status.get("initContainerStatuses", ())]
        assert [s["name"] for s in states if "terminated" not in s["state"]] == []
        assert status["phase"] == ("Failed" if kind == "deadline" else "Succeeded")
        assert status.get("reason") == ("DeadlineExceeded" if kind == "deadline" else None)


async def test_init_containers_and_sidecars(world: Any) -> None:
    """Init containers run one after another; a sidecar starts before what follows and stays."""
    image = world.pod("x")["spec"]["containers"][0]["image"]

    def step(name: str, script: str, **more: Any) -> Object:
        mount = {"name": "shared", "mountPath": "/shared"}
        return {
            "name": name,
            "image": image,
            "command": ["/bin/sh", "-c", script],
            "volumeMounts": [mount],
            **more,
        }

    init = [
        step("first", "sleep 0.1; echo first >> /shared/order"),
        step("side", "echo side >> /shared/order; sleep 1000", restartPolicy="Always"),
        step("second", "sleep 0.1; echo second >> /shared/order"),
    ]
    main = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    async with world.node():
        pod = world.pod(
            "init",
            "cat /shared/order",
            container=main,
            initContainers=init,
            volumes=[{"name": "shared", "emptyDir": {}}],
            restartPolicy="Never",
        )
        await world.create(pod)
        read = await world.phase("init", "Succeeded")
        assert (await world.log("init")).split() == ["first", "side", "second"]
        read = await world.until(
            "init", lambda p: "terminated" in objects.status(p)["initContainerStatuses"][1]["state"]
        )
        reasons = [s["state"]["terminated"]["reason"] for s in objects.status(read)["initContainerStatuses"]]
        assert reasons[0] == reasons[2] == "Completed"


async def test_crash_loop(world: Any) -> None:
    """A crashing container restarts at once, then backs off and says so; its last end is kept."""
    async with world.node():
        await world.create(world.pod("crash", "echo attempt; exit 3"))

        def backs_off(pod: Object) -> bool:
            waiting = (
                state(pod)["state"].get("waiting", {}) if objects.status(pod).get("containerStatuses") else {}
            )
            return bool(waiting.get("reason") == "CrashLoopBackOff")

        pod = await world.until("crash", backs_off)
        assert state(pod)["restartCount"] == 1
        last = state(pod)["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (3, "Error")
        assert objects.status(pod)["phase"] == "Running"
        pod = await world.until("crash", lambda p: state(p)["restartCount"] == 2)


@pytest.mark.parametrize(
    ("policy", "script", "phase"),
    [("Never", "exit 1", "Failed"), ("Never", "exit 0", "Succeeded"), ("OnFailure", "exit 0", "Succeeded")],
)
async def test_terminal_phases(world: Any, policy: str, script: str, phase: str) -> None:
    """A pod that will not run again is Succeeded or Failed, and its sandbox is given back."""
    async with world.node():
        created = await world.create(world.pod("end", script, restartPolicy=policy))
        await world.phase("end", phase)
        netns = world.config.run_dir / "netns" / objects.uid(created)
        await world.absent(netns)


async def test_out_of_memory(world: Any) -> None:
    """A container over its limit is OOMKilled."""
    container = {"resources": {"limits": {"memory": "32Mi"}}}
    async with world.node():
        await world.create(
            world.pod("oom", "a=x; while :; do a=$a$a; done", container=container, restartPolicy="Never")
        )
        pod = await world.phase("oom", "Failed")
        assert state(pod)["state"]["terminated"]["reason"] == "OOMKilled"
        assert state(pod)["state"]["terminated"]["exitCode"] == 137


async def test_probes(world: Any) -> None:
    """Readiness does not wait for its probe's second period; a failed liveness probe restarts."""
    ready = {"readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 3600}}
    live = {
        "livenessProbe": {"exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
    }
    async with world.node():
        await world.create(
            world.pod("ready", "mkdir -p /tmp; sleep 0.3; touch /tmp/ready; sleep 1000", container=ready)
        )
        await world.ready("ready")
        await world.create(
            world.pod(
                "live", "mkdir -p /tmp; touch /tmp/ok; sleep 0.5; rm /tmp/ok; sleep 1000", container=live
            )
        )
        pod = await world.until(
            "live",
            lambda p: bool(objects.status(p).get("containerStatuses")) and state(p)["restartCount"] == 1,
        )
        assert state(pod)["lastState"]["terminated"]["exitCode"] == 137
        await world.until_events("live", {"Unhealthy", "Killing"})


async def test_a_failing_probe_is_told_before_its_threshold(world: Any) -> None:
    """Who waits for a pod that never gets ready reads why after a period or two, not after the last."""
    probe = {"httpGet": {"port": "nosuch"}, "periodSeconds": 1, "failureThreshold": 1000}
    async with world.node():
        await world.create(world.pod("deaf", container={"readinessProbe": probe}))
        await world.until_events("deaf", {"Unhealthy"}, timeout_s=30)


async def test_a_grpc_probe(world: Any) -> None:
    """A pod in the host's network is ready once the server there says that the service is."""
    states = {b"\x0a\x04shop": b"\x08\x02"}

    async def check(request: bytes, _context: Any) -> bytes:
        return states[request]

    async with world.node():
        server = grpc.aio.server()
        methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        service = grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)
        server.add_generic_rpc_handlers((service,))
        port = server.add_insecure_port(f"{world.config.host_ip}:0")
        await server.start()
        probe = {"grpc": {"port": port, "service": "shop"}, "periodSeconds": 1}
        await world.create(world.pod("shop", container={"readinessProbe": probe}, hostNetwork=True))
        await world.until_events("shop", {"Unhealthy"}, timeout_s=30)
        assert not conditions.is_true(await world.get("shop"), "Ready")
        states[b"\x0a\x04shop"] = b"\x08\x01"
        await world.ready("shop")
        await server.stop(None)


async def test_stops_gracefully(world: Any) -> None:
    """PreStop runs, SIGTERM is sent, and the pod is gone as soon as the process is."""
    container = {
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "echo bye > /shared/stop"]}}}
    }
    container["volumeMounts"] = [{"name": "shared", "mountPath": "/shared"}]  # type: ignore[assignment]  # another shape
    script = "trap 'cat /shared/stop; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    async with world.node():
        pod = world.pod("stop", script, container=container, volumes=[{"name": "shared", "emptyDir": {}}])
        pod["spec"]["terminationGracePeriodSeconds"] = 3600
        pod["metadata"]["finalizers"] = ["test.ondol.dev/look"]
        await world.create(pod)
        await world.ready("stop")
        await world.until_it_says("stop", "up")
        await world.client.delete(resources.POD, "stop", "default")
        last = await world.phase("stop", "Succeeded")
        assert state(last)["state"]["terminated"]["exitCode"] == 0
        await world.client.patch(resources.POD, "stop", "default", patch={"metadata": {"finalizers": None}})
        await world.until_deleted("stop")


async def test_a_pod_is_deleted_during_its_first_hook(world: Any) -> None:
    """A postStart hook that takes for ever holds up readiness, not the end of the pod."""
    hook = {"lifecycle": {"postStart": {"exec": {"command": ["sleep", "1000"]}}}}
    sleepy = {"lifecycle": {"postStart": {"sleep": {"seconds": 1000}}}}
    async with world.node():
        for name, container in (("hook", hook), ("sleepy", sleepy)):
            await world.create(world.pod(name, container=container))
            pod = await world.phase(name, "Running")
            assert not conditions.is_true(pod, "Ready")
            await world.delete(name, grace_s=0)


async def test_a_hook_and_then_ready(world: Any) -> None:
    """The container is ready once its postStart hook has ended; one that fails ends the container."""
    done = {"lifecycle": {"postStart": {"exec": {"command": ["touch", "/hooked"]}}}}
    failed = {"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}}
    async with world.node():
        await world.create(
            world.pod("done", "while [ ! -e /hooked ]; do sleep 0.05; done; sleep 1000", container=done)
        )
        await world.ready("done")
        await world.create(world.pod("failed", container=failed, restartPolicy="Never"))
        pod = await world.phase("failed", "Failed")
        assert state(pod)["state"]["terminated"]["exitCode"] == 137
        await world.until_events("failed", {"FailedPostStartHook"})


async def test_long_last_words(world: Any) -> None:
    """Of a termination message of any length the end is kept."""
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done > /dev/termination-log"
    async with world.node():
        await world.create(world.pod("wordy", script, restartPolicy="Never"))
        pod = await world.phase("wordy", "Succeeded")
        message = state(pod)["state"]["terminated"]["message"]
        assert len(message) == 4096
        assert message.endswith("line 1999\n")


async def test_missing_and_late_things(world: Any) -> None:
    """A missing image or ConfigMap is told in the waiting reason; what comes later is noticed."""
    async with world.node():
        missing = world.pod("img", container={"image": "no.such/image:1", "imagePullPolicy": "Never"})
        await world.create(missing)
        pod = await world.until("img", lambda p: "ErrImageNeverPull" in json.dumps(p.get("status", {})))
        assert "not present" in state(pod)["state"]["waiting"]["message"]
        await world.create(world.pod("pull", container={"image": "no.such/image:1"}))
        await world.until("pull", lambda p: "ImagePullBackOff" in json.dumps(p.get("status", {})))
        late = {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]}
        await world.create(world.pod("late", container=late))
        await world.until("late", lambda p: "CreateContainerConfigError" in json.dumps(p.get("status", {})))
        await world.client.create(
            resources.CONFIG_MAP, {"metadata": {"name": "late", "namespace": "default"}, "data": {"a": "1"}}
        )
        await world.ready("late")


async def test_command_that_is_not_there(world: Any) -> None:
    """A command missing from the image ends as StartError with the runtime's message."""
    async with world.node():
        await world.create(world.pod("bad", container={"command": ["/no/such"]}, restartPolicy="Never"))
        pod = await world.phase("bad", "Failed")
        ended = state(pod)["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
        assert "no/such" in ended["message"] or "No such file" in ended["message"]


async def test_containers_outlive_the_agent(world: Any) -> None:
    """A new agent takes up running containers without a restart, and learns of ends it did not see."""
    async with world.node():
        await world.create(world.pod("stay", "sleep 1000"))
        script = "while [ ! -e /go ]; do sleep 0.05; done; exit 4"
        await world.create(world.pod("end", script, restartPolicy="Never"))
        before = await world.ready("stay")
        ending = machine.container_id(objects.uid(await world.ready("end")), "main", 0)
    data = anyio.Path(world.config.data_dir)
    await (data / "rootfs" / ending / "root" / "go").touch()
    with anyio.fail_after(15):
        while not await anyio.Path(world.config.run_dir, "exits", ending).exists():  # noqa: ASYNC110 - a file tells nobody
            await anyio.sleep(0.01)
    async with world.node():
        ended = await world.phase("end", "Failed")
        assert state(ended)["state"]["terminated"]["exitCode"] == 4
        after = await world.get("stay")
        assert state(after) == state(before)
        assert conditions.is_true(after, "Ready")
        await world.delete("stay")
    async with world.node():
        assert sandbox.existing(agent._network(world.config)) == []


async def test_pods_deleted_while_away_are_removed(world: Any) -> None:
    """What belongs to no pod any more is ended when the agent comes back."""
    async with world.node():
        await world.create(world.pod("orphan"))
        pod = await world.ready("orphan")
    await world.client.delete(resources.POD, "orphan", "default", grace_period_s=0)
    async with world.node():
        await world.absent(world.config.pod_dir(objects.uid(pod)))
        assert sandbox.existing(agent._network(world.config)) == []


async def test_control_groups_of_nobody_are_removed(world: Any) -> None:
    """An agent that was killed while it removed the last of a pod left them, and no other word of it."""
    group = world.config.pod_cgroup("00000000-0000-0000-0000-000000000001")
    folders = [hierarchy / group.lstrip("/") / "c1" for hierarchy in cgroups.hierarchies()]
    for folder in folders:
        folder.mkdir(parents=True)
    async with world.node():
        for folder in folders:
            await world.absent(folder.parent)


async def test_damaged_records_do_not_stop_the_node(world: Any) -> None:
    """A pod whose record cannot be read starts anew, and what it had before is removed."""
    async with world.node():
        await world.create(world.pod("hurt"))
        before = await world.ready("hurt")
    path = world.config.pod_dir(objects.uid(before)) / "record.json"
    path.write_text("{half")
    (world.config.data_dir / "addresses.json").write_text("")
    async with world.node():
        await world.until(
            "hurt", lambda p: json.dumps(p["status"]["conditions"]) and path.stat().st_size > 100
        )
        after = await world.ready("hurt")
        assert len(list((world.config.data_dir / "containers").iterdir())) == 1
        assert objects.uid(after) == objects.uid(before)


async def test_a_new_boot_recreates_containers(world: Any) -> None:
    """After the machine restarted, pods get new sandboxes and containers, and count a restart."""
    async with world.node():
        await world.create(world.pod("boot"))
        pod = await world.ready("boot")
    path = world.config.pod_dir(objects.uid(pod)) / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "boot": "an-earlier-boot"}))
    async with world.node():
        read = await world.until(
            "boot", lambda p: state(p)["restartCount"] == 1 and conditions.is_true(p, "Ready")
        )
        assert state(read)["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


async def test_down_and_up_again(world: Any) -> None:
    """After a removal from the host pods start anew, ended ones stay ended and emptyDirs keep their files."""
    mount = {"volumeMounts": [{"name": "keep", "mountPath": "/keep"}]}
    volumes = [{"name": "keep", "emptyDir": {}}]
    async with world.node():
        await world.create(world.pod("done", "exit 0", restartPolicy="Never"))
        await world.create(world.pod("on", "date >> /keep/f; sleep 1000", container=mount, volumes=volumes))
        await world.phase("done", "Succeeded")
        await world.ready("on")
    await anyio.to_thread.run_sync(agent.remove, world.config)
    pod_dir = world.config.pod_dir(objects.uid(await world.get("done")))
    await anyio.to_thread.run_sync(shutil.rmtree, pod_dir)
    async with world.node():
        pod = await world.until(
            "on", lambda p: state(p)["restartCount"] == 1 and conditions.is_true(p, "Ready")
        )
        file = world.config.pod_dir(objects.uid(pod)) / "volumes" / "keep" / "f"
        with anyio.fail_after(5):
            while len((await anyio.Path(file).read_text()).splitlines()) < 2:  # noqa: ASYNC110 - a file tells nobody
                await anyio.sleep(0.01)
        assert objects.status(await world.get("done"))["phase"] == "Succeeded"
        await world.delete("done")


async def test_files_of_forgotten_pods_are_removed(world: Any) -> None:
    """A pod's files go with it even if what the disk knew of it cannot be read, and it went unseen."""
    async with world.node():
        await world.create(world.pod("lost", "exit 0", restartPolicy="Never"))
        pod = await world.phase("lost", "Succeeded")
    folder = world.config.pod_dir(objects.uid(pod))
    (folder / "record.json").write_text("{")
    await world.client.delete(resources.POD, "lost", "default", grace_period_s=0)
    async with world.node():
        await world.absent(folder)


async def test_a_changed_image_restarts(world: Any) -> None:
    """A new image in a running pod replaces its container."""
    async with world.node():
        await world.create(world.pod("swap", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"))
        pod = await world.ready("swap")
        await world.until_it_says("swap", "up")
        other = "ondol.test/other:1"
        index = world.config.data_dir / "images" / "index.json"
        listed = json.loads(index.read_text())
        entry = dict(listed["manifests"][0], annotations={"org.opencontainers.image.ref.name": other})
        index.write_text(json.dumps({**listed, "manifests": [*listed["manifests"], entry]}))
        change = [{"op": "replace", "path": "/spec/containers/0/image", "value": other}]
        await world.client.patch(resources.POD, "swap", "default", patch=change, patch_type=PatchType.JSON)
        pod = await world.until("swap", lambda p: state(p)["image"] == other and state(p)["ready"])
        assert state(pod)["restartCount"] == 1


async def test_a_node_takes_no_more_pods_than_it_may(world: Any) -> None:
    """One that names its node itself is refused beyond the limit; one that has ended makes room."""
    world.config = dataclasses.replace(world.config, max_pods=1)
    async with world.node():
        await world.create(world.pod("first", "sleep 0.5", restartPolicy="Never"))
        await world.until("first", lambda p: objects.status(p).get("podIP"))
        await world.create(world.pod("second"))
        status = objects.status(await world.phase("second", "Failed"))
        assert status["reason"] == "OutOfpods"
        assert "requested: 1, used: 1, capacity: 1" in status["message"]
        await world.phase("first", "Succeeded")
        await world.create(world.pod("third"))
        await world.ready("third")


async def test_a_node_takes_no_pod_that_asks_for_more_than_there_is(world: Any) -> None:
    """It would count with the scheduler for as long as it ran, and nobody else would find room."""
    async with world.node():
        pod = world.pod("greedy")
        pod["spec"]["containers"][0]["resources"] = {"requests": {"memory": "9e999"}}
        await world.create(pod)
        status = objects.status(await world.phase("greedy", "Failed"))
        assert status["reason"] == "OutOfmemory"
        assert "resource: memory, requested: 9" in status["message"]


async def test_unsupported_fields_are_refused(world: Any) -> None:
    """A pod the node cannot honour fails and says which field it was."""
    async with world.node():
        await world.create(world.pod("users", hostUsers=False))
        pod = await world.phase("users", "Failed")
        assert objects.status(pod)["reason"] == "UnsupportedField"
        assert "hostUsers" in objects.status(pod)["message"]


async def test_identity_inside(world: Any) -> None:
    """User, groups, read-only root and host name are the pod's."""
    security = {"runAsUser": 1234, "runAsGroup": 99, "readOnlyRootFilesystem": True}
    script = "id -u; id -g; id -G; cat /etc/hostname; touch /x 2>/dev/null || echo no-write"
    async with world.node():
        await world.create(
            world.pod(
                "who",
                script,
                container={"securityContext": security},
                securityContext={"fsGroup": 77},
                hostname="box",
                restartPolicy="Never",
            )
        )
        await world.phase("who", "Succeeded")
        assert (await world.log("who")).splitlines() == ["1234", "99", "99 77 1300", "box", "no-write"]


async def test_node_is_registered(world: Any) -> None:
    """The Node tells its capacity and that it is Ready, and a Lease is renewed."""
    async with world.node():
        node = await world.client.get(resources.NODE, world.config.name)
        assert conditions.is_true(node, "Ready")
        assert int(objects.status(node)["capacity"]["cpu"]) >= 1
        assert objects.status(node)["nodeInfo"]["containerRuntimeVersion"].startswith(("crun://", "runc://"))
        lease = await world.client.get(resources.LEASE, world.config.name, "kube-node-lease")
        assert lease["spec"]["holderIdentity"] == world.config.name
