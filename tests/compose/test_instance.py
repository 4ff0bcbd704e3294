"""Instances: chosen once, found again, never in each other's way."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ondol.base import errors, unix_socket
from ondol.compose import addresses, lock
from ondol.compose import instance as instances
from ondol.compose.settings import Settings
from ondol.node import linux


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No other platform of this machine takes part."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")


def new_instance(folder: Path) -> instances.Instance:
    return instances.load_or_create(Settings(data_dir=folder))


def test_none_before_the_first_start(tmp_path: Path) -> None:
    """Looking makes nothing."""
    assert instances.load(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_chosen_once_and_found_again(tmp_path: Path) -> None:
    """A second start finds the identity, ports and networks of the first, whatever the settings now say."""
    first = new_instance(tmp_path / "data")
    again = instances.load_or_create(Settings(data_dir=tmp_path / "data", api_port=1))
    assert again == first == instances.load(tmp_path / "data")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_ports_are_free_and_differ(tmp_path: Path) -> None:
    """A port in use is replaced, no port is given twice."""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        instance = instances.load_or_create(Settings(data_dir=tmp_path, api_port=busy, ingress_port=busy))
        ports = dataclasses.asdict(instance.ports)
        assert busy not in ports.values()
        assert len(set(ports.values())) == len(ports)
        assert not instances.is_free(busy)
    assert instances.is_free(busy)


def test_the_preferred_port_is_taken_when_free(tmp_path: Path) -> None:
    """A wish is granted if it can be."""
    free = next(port for port in range(21000, 22000) if instances.is_free(port))
    assert instances.load_or_create(Settings(data_dir=tmp_path, api_port=free)).ports.api == free


@pytest.mark.parametrize("below", ["", "inner/most"])
def test_a_file_is_no_data_directory(tmp_path: Path, below: str) -> None:
    """A file in the way is named, and the advice is another folder: more rights would not help."""
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(errors.HostError, match=f"{file} is no folder") as caught:
        new_instance(file / below)
    assert caught.value.remedy == "choose another folder with --data-dir"
    assert file.read_text() == "mine"


def test_starts_at_the_same_moment_choose_apart(tmp_path: Path) -> None:
    """Several platforms that are made at once have no port and no network in common."""
    with ThreadPoolExecutor(8) as starts:
        chosen = list(starts.map(lambda n: new_instance(tmp_path / str(n)), range(8)))
    ports = [port for each in chosen for port in dataclasses.asdict(each.ports).values()]
    assert len(set(ports)) == len(ports)
    assert len({each.pod_cidr for each in chosen}) == len(chosen)


def test_one_folder_started_twice_at_once_is_one_platform(tmp_path: Path) -> None:
    """Whoever comes second finds what the first one chose."""
    with ThreadPoolExecutor(8) as starts:
        assert len(set(starts.map(lambda _: new_instance(tmp_path / "data"), range(8)))) == 1


def test_identity_follows_the_folder(tmp_path: Path) -> None:
    """Two folders are two platforms: other ids, bridges and run folders; six digits keep names short."""
    one, two = new_instance(tmp_path / "one"), new_instance(tmp_path / "two")
    assert len({one.id, two.id}) == 2
    assert one.bridge != two.bridge
    assert one.run_dir != two.run_dir
    assert len(one.bridge) <= 15  # IFNAMSIZ
    int(one.id, 16)


def test_networks_do_not_overlap_what_is_routed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods and services get neighbouring /16 networks that this machine does not route already."""
    taken = [ipaddress.IPv4Network("10.100.0.0/16"), ipaddress.IPv4Network("10.103.7.0/24")]
    pods, services = map(ipaddress.IPv4Network, instances._free_networks(taken))
    assert (str(pods), str(services)) == ("10.104.0.0/16", "10.105.0.0/16")
    assert not any(pods.overlaps(network) or services.overlaps(network) for network in taken)


def test_networks_can_run_out() -> None:
    """When every pair is taken, the error says what to do."""
    with pytest.raises(errors.HostError, match="no free") as raised:
        instances._free_networks([ipaddress.IPv4Network("10.0.0.0/8")])
    assert raised.value.remedy


def test_networks_of_platforms_that_are_down_are_kept(tmp_path: Path) -> None:
    """What another platform was promised is not given away while it rests, only once it is gone."""
    first = new_instance(tmp_path / "one")
    second = new_instance(tmp_path / "two")
    assert not ipaddress.ip_network(second.pod_cidr).overlaps(ipaddress.ip_network(first.pod_cidr))
    shutil.rmtree(tmp_path / "one")
    assert new_instance(tmp_path / "three").pod_cidr == first.pod_cidr


def test_networks_of_a_running_platform_are_not_shared(tmp_path: Path) -> None:
    """Two platforms that came to the same networks cannot run together, and the second one says so."""
    first, other = new_instance(tmp_path / "one"), new_instance(tmp_path / "two")
    second = dataclasses.replace(other, pod_cidr=first.pod_cidr)
    instances.promise_networks(first)
    with lock.hold(first.lock_file), pytest.raises(errors.HostError, match="are in use by the one on"):
        instances.promise_networks(second)
    instances.promise_networks(second)


def test_addresses_follow_from_the_networks(tmp_path: Path) -> None:
    """The bridge has the first address of the pods' network; the API is on loopback."""
    instance = new_instance(tmp_path)
    assert instance.bridge_address == str(ipaddress.ip_network(instance.pod_cidr)[1])
    assert instance.api_url == f"https://127.0.0.1:{instance.ports.api}"


def test_a_file_of_before_with_ports_for_every_part_is_read(tmp_path: Path) -> None:
    """Ports that are sockets now are not asked for any more, and stand in nobody's way."""
    former = dict.fromkeys(("api", "ingress", "xds", "envoy_admin", "observe", "node"), 1)
    (tmp_path / "instance.json").write_text(_with_wrong(ports=former), encoding="utf-8")
    ports = {"api": 1, "ingress": 1, "observe": 1, "ingress_tls": 0, "events": 0, "nats": 0, "events_tls": 0}
    assert dataclasses.asdict(new_instance(tmp_path).ports) == ports


def test_a_port_that_a_former_file_lacks_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next start, for good; those that are known outside stay as they are."""
    (tmp_path / "instance.json").write_text(_with_wrong(), encoding="utf-8")
    monkeypatch.setattr(instances, "is_free", lambda _port, _address="": True)
    chosen = instances.with_free_inner_ports(new_instance(tmp_path)).ports
    assert (chosen.api, chosen.ingress) == (1, 1)
    assert chosen.ingress_tls > 1
    assert new_instance(tmp_path).ports == chosen


def test_events_alone_are_proxied_plain_and_by_tls(tmp_path: Path) -> None:
    """With strict transport encryption nothing could be sent from outside otherwise."""
    instance = new_instance(tmp_path)
    chosen = dataclasses.replace(instance.ports, events=5, events_tls=6)
    assert addresses.proxied_ports(dataclasses.replace(instance, ports=chosen)) == {5, 6}
    chosen = dataclasses.replace(chosen, events_tls=0)
    assert addresses.proxied_ports(dataclasses.replace(instance, ports=chosen)) == {5}


def test_parts_meet_in_the_run_folder(tmp_path: Path) -> None:
    """However long the data directory's name is, the kernel takes the names of the sockets."""
    instance = dataclasses.replace(new_instance(tmp_path), data_dir=tmp_path / ("long" * 50))
    for name in ("xds", "envoy-admin", "observe", "node"):
        unix_socket.require_short(instance.socket(name))
        assert instance.socket(name).parent == instance.run_dir


def _with_wrong(**wrong: object) -> str:
    """The file of an instance with something wrong in it."""
    ports = dict.fromkeys(("api", "ingress", "observe"), 1)
    networks = {"pod_cidr": "10.100.0.0/16", "service_cidr": "10.101.0.0/16"}
    return json.dumps({"id": "abcdef", "ports": ports, **networks, **wrong})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"id": "abcdef"}',
        '{"id": 1, "ports": {"api": 1}}',
        _with_wrong(id="../../etc"),
        _with_wrong(ports=[]),
        _with_wrong(pod_cidr="everything"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    """A file that is not an instance is an error with a remedy, never replaced in silence."""
    file = tmp_path / "instance.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(errors.HostError, match=r"instance\.json cannot be read") as raised:
        new_instance(tmp_path)
    assert str(file) in raised.value.remedy
    assert file.read_text(encoding="utf-8") == text


def test_a_folder_that_cannot_be_made_is_told() -> None:
    """Where no folder can be made at all, the path is named, with what to do."""
    with pytest.raises(errors.HostError, match="cannot create /proc/none/data") as raised:
        new_instance(Path("/proc/none/data"))
    assert "--data-dir" in raised.value.remedy


def test_the_file_is_whole_or_absent(tmp_path: Path) -> None:
    """It is written beside and moved in place; no draft is left."""
    new_instance(tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["instance.json"]
    document = json.loads((tmp_path / "data" / "instance.json").read_text(encoding="utf-8"))
    assert {"id", "ports", "pod_cidr", "service_cidr"} <= set(document)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a mount")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    """Where nothing can be written, the file is named, with what to do."""
    # A file system of its own that is read-only; the other promises stay where they were.
    tmp_path = tmp_path / "data"
    tmp_path.mkdir()
    linux.mount("tmpfs", str(tmp_path), "tmpfs", linux.MS_RDONLY)
    try:
        with pytest.raises(errors.HostError, match=r"instance\.json cannot be written: Read-only") as raised:
            new_instance(tmp_path)
    finally:
        linux.unmount(str(tmp_path))
    assert "--data-dir" in raised.value.remedy


def test_a_folder_that_cannot_be_looked_into_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user finds no platform there, and what it was promised stays its own."""
    instance = new_instance(tmp_path / "private")
    promise = tmp_path / "run" / "promises" / instance.id
    assert promise.exists()

    def refuse(path: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", refuse)
        patched.setattr(instances, "load", lambda _: None)
        assert list(instances.on_this_machine()) == []
    assert promise.exists()


def test_a_folder_without_a_format_is_of_the_first(tmp_path: Path) -> None:
    """What 0.1.0 has written before formats were, as it is; saving it names the format."""
    first = new_instance(tmp_path / "data")
    file = tmp_path / "data" / instances.FILE
    document = json.loads(file.read_text())
    assert document.pop("format") == instances.FORMAT == 1
    file.write_text(json.dumps(document))
    assert instances.load(tmp_path / "data") == first
    instances.save(first)
    assert json.loads(file.read_text())["format"] == 1


@pytest.mark.parametrize(
    ("stamp", "is_readable"),
    [
        ({"format": 2}, False),
        ({"format": 3, "oldest_reader": 2}, False),
        ({"format": 2, "oldest_reader": 1}, True),
    ],
)
def test_a_folder_of_a_newer_format_is_opened_if_that_says_so(
    tmp_path: Path, stamp: dict[str, int], *, is_readable: bool
) -> None:
    """Otherwise it is refused in words, before anything in it is touched."""
    first = new_instance(tmp_path / "data")
    file = tmp_path / "data" / instances.FILE
    text = json.dumps(json.loads(file.read_text()) | stamp | {"something": "new"})
    file.write_text(text)
    if is_readable:
        assert instances.load(tmp_path / "data") == first
        return
    with pytest.raises(errors.HostError, match="written by a newer version") as caught:
        instances.load_or_create(Settings(data_dir=tmp_path / "data"))
    assert "use the version of ondol that wrote it" in caught.value.remedy
    assert file.read_text() == text
