"""What Envoy starts with, and whether it is there."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest

from ondol.contracts import proxy
from ondol.mesh import bootstrap, process
from ondol.mesh.config import MeshConfig


@pytest.mark.parametrize("address", ["127.0.0.1:15010", "unix:/run/x.sock"])
def test_envoy_finds_the_bootstrap_valid(mesh_config: MeshConfig, address: str) -> None:
    """`envoy --mode validate` accepts the document, whichever way the control plane is reached."""
    mark = proxy.mark("abcdef")
    config = dataclasses.replace(mesh_config, xds_address=address, admin_address=address, mark=mark)
    command = process.command(config)
    outcome = subprocess.run([*command, "--mode", "validate"], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert bootstrap.document(config)["overload_manager"]["resource_monitors"]


def test_envoy_is_not_ready_when_it_is_not_there(mesh_config: MeshConfig) -> None:
    """Readiness is an answer, not an error, while nothing runs."""
    assert not process.ready(mesh_config)
    assert not process.ready(dataclasses.replace(mesh_config, admin_address="127.0.0.1:1"))
