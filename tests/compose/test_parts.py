"""How the parts of a platform are put together."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import time
from pathlib import Path

import anyio
import pytest
from tests.apiserver.edge import App, config, serving

from ondol.apiserver import pki
from ondol.base.clock import ManualClock, SystemClock
from ondol.client import Client
from ondol.compose import exposition, parts
from ondol.compose import instance as instances
from ondol.compose.part import Notify
from ondol.compose.parts import api, envoy, node, process
from ondol.compose.settings import Settings
from ondol.mesh.translate.translator import port_problem


def test_what_settings_hold_pods_to(tmp_path: Path) -> None:
    """Levels with or without a release, and names separated by commas."""
    settings = Settings(
        tmp_path,
        pod_security_enforce="baseline:v1.30",
        pod_security_warn="restricted",
        pod_security_exempt_users="system:admin, bob",
        pod_security_exempt_namespaces="kube-system",
    )
    policy = api.pod_security(settings)
    assert str(policy.defaults.enforce) == "baseline:v1.30"
    assert str(policy.defaults.audit) == "privileged:latest"
    assert str(policy.defaults.warn) == "restricted:latest"
    assert policy.exempt_users == {"system:admin", "bob"}
    assert policy.exempt_namespaces == {"kube-system"}
    assert policy.exempt_runtime_classes == frozenset()


def test_servers_outlive_their_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever connects to the API server ends before it; spans of the proxy's end are still taken in."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data")
    by_name = {part.name: part for part in parts.of(instances.load_or_create(settings), settings)}
    assert set(by_name["api"].outlives) == {"control", "node", "gateway", "events"}
    assert by_name["observe"].outlives == ("envoy",)
    assert {name for part in by_name.values() for name in (*part.outlives, *part.needs)} <= set(by_name)


def test_events_cost_nothing_before_somebody_needs_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both processes start on demand, who keeps before who delivers, and end the other way round."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data")
    by_name = {part.name: part for part in parts.of(instances.load_or_create(settings), settings)}
    assert {name for name, part in by_name.items() if part.on_demand} == {"nats", "events"}
    assert by_name["events"].needs == ("nats",)
    assert by_name["nats"].outlives == ("events",)


def test_without_serverless_there_is_no_gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody waits for its end, and nobody asks for its metrics."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data", serverless=False, eventing=False)
    instance = instances.load_or_create(settings)
    by_name = {part.name: part for part in parts.of(instance, settings)}
    assert set(by_name) == {"api", "control", "node", "observe", "envoy"}
    assert set(by_name["api"].outlives) == {"control", "node"}
    assert "gateway" not in exposition.expositions(instance, settings)


def test_every_part_has_to_show_that_it_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A part that hangs is found out: a Python part no longer speaks, an engine no longer answers."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data")
    all_parts = parts.of(instances.load_or_create(settings), settings)
    assert all(
        part.silence_max_s is not None and part.silence_max_s >= 3 * process.BEAT_S for part in all_parts
    )
    assert {part.name for part in all_parts if part.probe is not None} == {"envoy", "nats"}


def test_a_part_speaks_for_as_long_as_its_loop_goes_round(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The signs of life come from the part's own event loop, before it serves and after."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    monkeypatch.setattr(process, "BEAT_S", 0.01)
    settings = Settings(data_dir=tmp_path / "data")
    messages: list[str] = []

    class Recorder(Notify):
        def alive(self) -> None:
            messages.append("alive")

        def write(self, line: str) -> None:
            messages.append(line)

    async def main(context: process.Context) -> None:
        await anyio.sleep(0.05)
        context.notify()
        messages.append("hangs")
        time.sleep(0.05)  # noqa: ASYNC251 - what a part must not do
        messages.append("goes on")
        await anyio.sleep(0.05)

    process.runner(main, instances.load_or_create(settings), settings)(Recorder(-1))
    assert messages[0] == "alive"
    hangs = messages.index("hangs")
    assert messages[hangs - 1 : hangs + 2] == ["READY", "hangs", "goes on"]
    assert messages[-1] == "alive"


def test_what_a_part_has_when_it_serves_is_spared_by_the_garbage_collector() -> None:
    """A collection looks at what came since, and comes after more than a few requests."""
    before, threshold = [object()], gc.get_threshold()
    try:
        process.settle()
        since = [object()]
        seen = {id(each) for each in gc.get_objects()}
        assert id(since) in seen
        assert id(before) not in seen
        assert gc.get_threshold()[0] > threshold[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)


def test_the_parts_share_the_memory_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each has its bound, and those that always run, with the supervisor, stay below 300 MiB at rest."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data")
    all_parts = parts.of(instances.load_or_create(settings), settings)
    assert all(part.idle_memory_mib > 0 for part in all_parts)
    assert sum(part.idle_memory_mib for part in all_parts if not part.on_demand) + 22 <= 300


async def test_a_part_waits_for_the_api_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Until it answers at the socket of the part; then it is the part's user who asks."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    monkeypatch.setattr(instances, "_RUN_ROOT", tmp_path / "r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    issued = pki.ensure(tmp_path / "pki", clock=SystemClock())
    settings, clock = Settings(data_dir=tmp_path / "data"), ManualClock()
    context = process.Context(instances.load_or_create(settings), settings, clock, Notify(-1))
    context.instance.run_dir.mkdir(parents=True)
    connected: list[Client] = []

    async def connect() -> None:
        client, requests = await process.connected(context, "node")
        assert client.transport is requests
        connected.append(client)

    async with anyio.create_task_group() as group:
        group.start_soon(connect)
        await clock.advance(1.0)
        assert connected == []
        local = api._local(context.instance, "n1")
        async with serving(App(), config(issued, local=local)):
            with anyio.fail_after(10):
                while not connected:
                    await clock.advance(0.02)
                    await anyio.sleep(0.01)
            answer = await connected[0].raw("GET", "/")
            await connected[0].aclose()
    assert json.loads(answer.body)["ondol.certificate"] == {
        "name": "system:node:n1",
        "groups": ["system:nodes"],
    }


def test_no_gateway_is_given_a_port_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the API server's nor those that pods use; the ingress port is there for Gateways."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data")
    instance = instances.load_or_create(settings)
    ports = envoy.mesh_config(instance, settings).reserved_ports
    own = instance.ports
    assert ports == {own.api, own.observe, own.ingress_tls, own.events, own.events_tls, own.nats, 53}
    assert instance.ports.ingress not in ports


def test_gateways_open_the_ports_that_the_administrator_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a word of theirs the web's and those from 1024 on; the ingress port whatever its number."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data", ingress_port=28080)
    instance = instances.load_or_create(settings)
    config = envoy.mesh_config(instance, settings)
    own = instance.ports.ingress
    numbers = (22, 80, 443, 1023, 5432, 8080, 31400, own, instance.ports.api)
    allowed = [number for number in numbers if not port_problem(config, number)]
    assert allowed == [80, 443, 5432, 8080, 31400, own]
    few = envoy.mesh_config(instance, dataclasses.replace(settings, ingress_ports="80, 9000-9099"))
    meant = [number for number in (*numbers, 9000) if not port_problem(few, number)]
    assert meant == [80, 443, 8080, own, 9000], (
        "443 is the TLS port of this machine, as 8080 is the ingress port"
    )


def test_the_proxy_is_not_told_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rules can have the proxy write its variables into headers; whoever starts the platform has secrets."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    monkeypatch.setenv("SECRET_OF_THE_ADMINISTRATOR", "x")
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda *called: started.append(called[2]))
    settings = Settings(data_dir=tmp_path / "data")
    instance = instances.load_or_create(settings)
    instance.run_dir.mkdir(parents=True, exist_ok=True)
    envoy.run(instance, settings, Notify(-1))
    (variables,) = started
    assert set(variables) == {"LC_ALL"}


def test_the_node_is_told_what_was_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """How many pods it may run and how long a crashed container waits at most."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data", max_pods=250, restart_backoff_max_s=4.0)
    instance = instances.load_or_create(settings)
    instance.pki_dir.mkdir()
    config = node.config(instance, settings)
    assert config.max_pods == 250
    assert (config.restart_backoff.initial_s, config.restart_backoff.maximum_s) == (4.0, 4.0)
