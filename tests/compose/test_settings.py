"""Settings: where they come from, which one wins, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ondol.api import eviction_thresholds
from ondol.base import errors
from ondol.compose import settings
from ondol.compose.settings import Settings


def config(folder: Path, text: str) -> Path:
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return folder


def test_defaults(tmp_path: Path) -> None:
    """Without a file, an environment or flags, the documented defaults hold."""
    assert settings.load(tmp_path, environment={}) == Settings(data_dir=tmp_path)


def test_settings_cannot_change(tmp_path: Path) -> None:
    """They are one value, read once."""
    loaded = settings.load(tmp_path, environment={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.api_port = 1  # type: ignore[misc]  # that it cannot is the test


OWN_TEXTS = {
    "access_log": "access.log",
    "access_log_format": "text",
    "outbound_traffic_policy": "REGISTRY_ONLY",
    "audit_log": "/tmp/audit.log",
    "audit_policy": __file__,
    "authentication_config": __file__,
    "allowed_unsafe_sysctls": "net.core.*",
    "deny_external_ips": "1",
    "dns_servers": "192.0.2.53,corp.example=10.0.0.53:5353",
    "enforce_owner_references": "1",
    "load_balancer_address": "192.0.2.1",
    "eviction_hard": "memory.available<1Gi",
    "ingress_address": "0.0.0.0",
    "ingress_ports": "80,9000-9099",
    "knative_features": "kubernetes.podspec-affinity",
    "metric_labels_allowlist": "pods=[app]",
    "metric_annotations_allowlist": "namespaces=[example.org/*]",
    "log_level": "debug",
    "pod_security_audit": "baseline:v1.30",
    "pod_security_enforce": "baseline:v1.30",
    "pod_security_warn": "baseline:v1.30",
    "registry_ca_file": __file__,
    "registry_mirrors": "docker.io=http://127.0.0.1:5000",
    "requestheader_client_ca_file": __file__,
    "runtime": "runc",
    "eventing": "false",
    "serverless": "false",
    "token_file": __file__,
}
"""What a setting is set to that does not take any text or number."""


@pytest.mark.parametrize(
    ("file", "environment", "flags", "expected"),
    [
        ("", {}, {}, 6443),
        ("api_port = 7000", {}, {}, 7000),
        ("api_port = 7000", {"ONDOL_API_PORT": "7001"}, {}, 7001),
        ("api_port = 7000", {"ONDOL_API_PORT": "7001"}, {"api_port": 7002}, 7002),
        ("api_port = 7000", {}, {"api_port": None}, 7000),
    ],
)
def test_later_sources_win(
    tmp_path: Path, file: str, environment: dict[str, str], flags: dict[str, int | None], expected: int
) -> None:
    """File, then environment, then flags; a flag that was not given is none."""
    loaded = settings.load(config(tmp_path, file), environment=environment, flags=flags)
    assert loaded.api_port == expected


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Settings) if f.name != "data_dir"])
def test_each_setting_can_come_from_the_environment(tmp_path: Path, field: str) -> None:
    """The variable is the field's name in capitals behind `ONDOL_`, and its text becomes the field's type."""
    default = getattr(Settings(data_dir=tmp_path), field)
    text = OWN_TEXTS.get(field, "other" if isinstance(default, str) else "61")
    value = getattr(settings.load(tmp_path, environment={f"ONDOL_{field.upper()}": text}), field)
    assert type(value) is type(default)
    assert value == (text if isinstance(default, str) else text == "1" if isinstance(default, bool) else 61)


def test_other_variables_are_none_of_ours(tmp_path: Path) -> None:
    """A variable that only begins alike is left alone."""
    assert settings.load(tmp_path, environment={"ONDOL_GOLDEN": "write"}) == Settings(data_dir=tmp_path)


def test_data_dir_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is taken from where the command was called, `~` from the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert settings.load(Path("here"), environment={}).data_dir == tmp_path / "here"
    assert settings.load(None, environment={"ONDOL_DATA_DIR": "~/x"}).data_dir == tmp_path / "me" / "x"


def test_a_given_data_dir_wins_over_the_environment(tmp_path: Path) -> None:
    """`--data-dir` is a flag like the others."""
    loaded = settings.load(tmp_path, environment={"ONDOL_DATA_DIR": "/nowhere"})
    assert loaded.data_dir == tmp_path


def test_default_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks means the machine's one platform: `sudo ondol up`, then `ondol status`."""
    for user in (0, 1000):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        assert settings.load(None, environment={}).data_dir == Path("/var/lib/ondol")


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("", {}, False),
        ("deny_external_ips = true", {}, True),
        ("deny_external_ips = true", {"ONDOL_DENY_EXTERNAL_IPS": "false"}, False),
        ("", {"ONDOL_DENY_EXTERNAL_IPS": "True"}, True),
        ("", {"ONDOL_DENY_EXTERNAL_IPS": "1"}, True),
    ],
)
def test_yes_and_no(tmp_path: Path, text: str, environment: dict[str, str], expected: bool) -> None:
    """The word false in the environment is not true because it is a word."""
    loaded = settings.load(config(tmp_path, text), environment=environment)
    assert loaded.deny_external_ips is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deny_external_ips = 'perhaps'", "deny_external_ips must be bool"),
        ("api_port = 'many'", "setting api_port must be int, not 'many'"),
        ("api_port = [1]", "setting api_port must be int"),
        ("colour = 1", "unknown setting 'colour'"),
        ("api_port", "not valid TOML"),
        ("api_port = 70000", "api_port must be"),
        ("ingress_ports = '80, many'", "ingress_ports must be"),
        ("ingress_ports = '9099-9000'", "ingress_ports must be"),
        ("ingress_port = -1", "ingress_port must be"),
        ("trace_sampling_percent = 101", "trace_sampling_percent must be"),
        ("scale_to_zero_after_s = 1", "scale_to_zero_after_s must be"),
        ("max_pods = 0", "max_pods must be from 1 to 1000"),
        ("restart_backoff_max_s = 301", "restart_backoff_max_s must be from 1 to 300 seconds"),
        ("log_level = 'loud'", "log_level must be"),
        ("runtime = 'docker'", "runtime must be"),
        ("ingress_address = 'here'", "ingress_address must be"),
        ("pod_pids_limit = 3", "pod_pids_limit must be"),
        ("allowed_unsafe_sysctls = 'net.core.*, vm.*'", "allowed_unsafe_sysctls must be"),
        ("pod_security_enforce = 'strict'", "pod_security_enforce must be"),
        ("pod_security_warn = 'baseline:1.30'", "pod_security_warn must be"),
        ("pod_security_exempt_namespaces = ['a']", "pod_security_exempt_namespaces must be"),
        ("access_log = '../access.log'", "access_log must be"),
        ("access_log = 'access'", "access_log must be"),
        ("access_log = '/nowhere/access.log'", "access_log must be"),
        ("access_log_format = 'xml'", "access_log_format must be"),
        ("outbound_traffic_policy = 'x'", "outbound_traffic_policy must be"),
        ("data_dir = '/elsewhere'", "data_dir"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A setting that is wrong is an error that names the source, the setting and what to do."""
    with pytest.raises(errors.HostError, match="config") as raised:
        settings.load(config(tmp_path, text), environment={})
    assert message in str(raised.value)
    assert raised.value.remedy
    assert "\n" not in str(raised.value)


def test_a_wrong_flag_is_refused(tmp_path: Path) -> None:
    """Flags are held to the same limits."""
    with pytest.raises(errors.HostError, match="api_port must be"):
        settings.load(tmp_path, environment={}, flags={"api_port": 70000})


def test_the_thresholds_of_a_machine_are_the_nodes() -> None:
    """What the page of settings shows is what the node does by itself."""
    assert settings.Settings(data_dir=Path("x")).eviction_hard == eviction_thresholds.DEFAULT
