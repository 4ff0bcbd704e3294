"""Volumes that outlive pods, on a real platform: claims, their folders, growing, and their end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import HERE, Kubectl, Platform, Version, ask, eventually, need_host

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def claim(name: str, size: str = "16Mi", **spec: Any) -> Any:
    own = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": own,
    }


def pod(name: str, claimed: str, *init: Any, mount: Any = None, **spec: Any) -> Any:
    mounts = [{"name": "data", "mountPath": "/data", **(mount or {})}]
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claimed}}]
    main = objects.container(volumeMounts=mounts)
    writers = [{**each, "name": f"w{i}", "volumeMounts": mounts} for i, each in enumerate(init)]
    return objects.pod(name, main, initContainers=writers, volumes=volumes, **spec)


def ready(kubectl: Kubectl, name: str) -> str:
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
    return kubectl.path("pod", name, ".status.podIP")


def folder(platform: Platform, kubectl: Kubectl, name: str) -> Path:
    """Where the volume of a claim is on this machine."""
    volume = kubectl.path("pvc", name, ".spec.volumeName")
    path = Path(kubectl.path("pv", volume, ".spec.local.path"))
    assert path == platform.data_dir / "volumes" / volume
    return path


def gone(kubectl: Kubectl, kind: str, name: str) -> None:
    eventually(lambda: name not in kubectl("get", kind, "-o", "name"), f"{kind} {name} is gone")


def phase(kubectl: Kubectl, volume: str, expected: str) -> None:
    eventually(lambda: kubectl.path("pv", volume, ".status.phase") == expected, f"{volume} is {expected}")


def test_data_outlives_its_pod(space: Kubectl, platform: Platform) -> None:
    """One pod writes, another reads; the claim grows; with it the folder goes, not before its users."""
    space.apply(claim("data"))
    assert space.path("pvc", "data", ".status.phase") == "Pending"
    writer = objects.python("open('/data/note','w').write('kept')")
    space.apply(pod("first", "data", writer))
    ready(space, "first")
    place = folder(platform, space, "data")
    assert (place / "note").read_text() == "kept"
    assert stat.S_IMODE(place.stat().st_mode) == 0o777
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    space("delete", "pod", "first")
    assert (place / "note").read_text() == "kept"
    space.apply(pod("second", "data"))
    assert ask(ready(space, "second"), "file", path="/data/note") == "kept"

    larger = '{"spec":{"resources":{"requests":{"storage":"64Mi"}}}}'
    space("patch", "pvc", "data", "-p", larger)
    eventually(lambda: space.path("pvc", "data", ".status.capacity.storage") == "64Mi", "it has grown")
    smaller = '{"spec":{"resources":{"requests":{"storage":"1Mi"}}}}'
    assert "less than status.capacity" in space.refused("patch", "pvc", "data", "-p", smaller)

    space("delete", "pvc", "data", "--wait=false")
    assert space.path("pvc", "data", ".metadata.deletionTimestamp")
    assert (place / "note").exists()
    space("delete", "pod", "second")
    gone(space, "pvc", "data")
    eventually(lambda: not place.exists(), "the folder is gone")
    gone(space, "pv", place.name)


def test_an_ephemeral_volume_goes_with_its_pod(space: Kubectl, platform: Platform) -> None:
    """Its claim is the pod's own."""
    template = {"spec": claim("x")["spec"]}
    volumes = [{"name": "own", "ephemeral": {"volumeClaimTemplate": template}}]
    main = objects.container(volumeMounts=[{"name": "own", "mountPath": "/own"}])
    space.apply(objects.pod("brief", main, volumes=volumes))
    ready(space, "brief")
    place = folder(platform, space, "brief-own")
    assert place.is_dir()
    space("delete", "pod", "brief")
    gone(space, "pvc", "brief-own")
    eventually(lambda: not place.exists(), "the folder is gone")


def test_group_sub_path_and_read_only(space: Kubectl, platform: Platform) -> None:
    """What is there becomes the group's; a part is mounted; who may only read cannot write."""
    space.apply(claim("shared"))
    code = "import os; os.makedirs('/data/part'); open('/data/part/f','w').write('here')"
    space.apply(pod("maker", "shared", objects.python(code)))
    ready(space, "maker")
    place = folder(platform, space, "shared")
    (place / "part/out").symlink_to("/etc/hostname")
    space.apply(
        pod("user", "shared", mount={"subPath": "part"}, securityContext={"fsGroup": 4321, "runAsUser": 1234})
    )
    assert ask(ready(space, "user"), "file", path="/data/f") == "here"
    assert (place / "part/f").stat().st_gid == 4321
    assert os.lstat("/etc/hostname").st_gid == 0
    reader = pod("reader", "shared")
    reader["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = True
    space.apply(reader)
    ready(space, "reader")
    code = "import os,sys\ntry: os.mkdir('/data/new')\nexcept OSError as e: sys.exit(e.strerror)"
    assert "Read-only file system" in space.refused("exec", "reader", "--", "python3", "-c", code)


def test_a_volume_of_the_machine(space: Kubectl, tmp_path: Path) -> None:
    """A person's own PersistentVolume: found by its class, kept when the claim goes; a csi one is told of."""
    name = space.path("namespace", space.namespace, ".metadata.name")
    tmp_path.chmod(0o777)
    own = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name}
    place = {"hostPath": {"path": str(tmp_path), "type": "Directory"}}
    driver = {"csi": {"driver": "d.example.com", "volumeHandle": "h"}}
    for volume, source in ((f"{name}-here", place), (f"{name}-far", driver)):
        document = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}}
        space.apply({**document, "spec": {**own, **source}})
        space.apply(claim(volume, storageClassName=name, volumeName=volume))
        phase(space, volume, "Bound")
        space.apply(pod(volume, volume, objects.python("open('/data/f','w').write('x')")))
    ready(space, f"{name}-here")
    assert (tmp_path / "f").read_text() == "x"
    events = ("get", "events", "--field-selector", f"involvedObject.name={name}-far")
    words = f"volume {name}-far is none of the kinds that are supported on this node"
    eventually(lambda: words in space(*events), "an event tells")
    for volume in (f"{name}-here", f"{name}-far"):
        space("delete", "pod", volume)
        space("delete", "pvc", volume)
        phase(space, volume, "Released")
        space("delete", "pv", volume)
    assert (tmp_path / "f").read_text() == "x"


def test_the_lifecycle_of_a_volume_and_a_claim(space: Kubectl) -> None:
    """As Kubernetes' conformance asks: labels and statuses can be patched, both can be deleted."""
    name = f"{space.namespace}-cycle"
    spec = {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name}
    source = {"csi": {"driver": "e2e.example.com", "volumeHandle": "e2e-conformance"}}
    document = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}}
    space.apply({**document, "spec": {**spec, **source}}, claim(name, storageClassName=name))
    eventually(lambda: space.path("pvc", name, ".status.phase") == "Bound", "it is bound")
    for kind in ("pv", "pvc"):
        space("label", kind, name, "cycle=patched")
        assert name in space("get", kind, "-l", "cycle=patched", "-o", "name")
    status = '{"status":{"message":"StatusPatched","reason":"E2E patchStatus"}}'
    space("patch", "pv", name, "--subresource=status", "--type=merge", "-p", status)
    condition = '{"status":{"conditions":[{"type":"StatusPatched","status":"True"}]}}'
    space("patch", "pvc", name, "--subresource=status", "--type=merge", "-p", condition)
    space("label", "pv", name, "cycle=again", "--overwrite")
    eventually(lambda: space.path("pvc", name, ".status.conditions[0].type") == "StatusPatched", "it stays")
    assert space.path("pv", name, ".status.message") == "StatusPatched"
    space("delete", "pvc", "-l", "cycle=patched")
    gone(space, "pvc", name)
    space("delete", "pv", "-l", "cycle=again")
    gone(space, "pv", name)


def test_the_lifecycle_of_a_class(cluster: Kubectl) -> None:
    """Likewise: made, listed by label, patched, replaced, deleted; the platform's own is the default."""
    own = cluster.get("storageclass", "local")
    assert own["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert (own["provisioner"], own["volumeBindingMode"]) == ("ondol.dev/local", "WaitForFirstConsumer")
    document = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "e2e.example.com"}
    cluster.apply({**document, "metadata": {"name": "cycle", "labels": {"cycle": "new"}}})
    cluster("label", "storageclass", "cycle", "cycle=patched", "--overwrite")
    assert cluster("get", "sc", "-l", "cycle=patched", "-o", "name").strip().endswith("/cycle")
    refused = cluster.refused("patch", "sc", "cycle", "-p", '{"provisioner":"other.example.com"}')
    assert "updates to provisioner are forbidden" in refused
    cluster("delete", "sc", "-l", "cycle=patched")
    gone(cluster, "sc", "/cycle")


def test_data_outlives_the_platform(tmp_path: Path, kubectl_version: Version) -> None:
    """`down` and `up` leave it; `down --remove-data` takes it away."""
    need_host()
    platform = Platform(tmp_path / "data")
    try:
        platform.up()
        platform("image", "build", HERE / "app", "--tag", "probe:1")
        kubectl = Kubectl(platform.kubeconfig, kubectl_version, "default")
        writer = objects.python("open('/data/note','a').write('x')")
        kubectl.apply(claim("data"), pod("first", "data", writer))
        ready(kubectl, "first")
        place = folder(platform, kubectl, "data")
        kubectl("delete", "pod", "first")
        platform.down()
        assert (place / "note").read_text() == "x"
        platform.up()
        kubectl.apply(pod("second", "data", writer))
        assert ask(ready(kubectl, "second"), "file", path="/data/note") == "xx"
        platform.down("--remove-data")
        assert not place.exists()
    finally:
        if platform.data_dir.exists():
            platform.down()
