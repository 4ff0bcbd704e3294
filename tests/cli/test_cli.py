"""The command line as a person or a script meets it, without a platform."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from tests.cli.commands import one_line, run
from typer.testing import CliRunner

from ondol import __version__
from ondol.base import errors
from ondol.cli import connection, get, main, output, platform
from ondol.cli.output import Format
from ondol.compose import instance as instances
from ondol.compose import platform as compose_platform
from ondol.compose import settings
from ondol.compose.lifecycle import State
from ondol.compose.platform import PartStatus, PlatformStatus

COMMANDS = list(main._COMMANDS)


def test_version() -> None:
    """`--version` prints the version alone."""
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    ("path", "complete"),
    [
        ("/usr/bin:/bin", "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"),
        ("/usr/sbin:/usr/bin", "/usr/sbin:/usr/bin:/usr/local/sbin:/sbin"),
        ("", "/usr/local/sbin:/usr/sbin:/sbin"),
    ],
)
def test_system_folders_are_searched(path: str, complete: str) -> None:
    """Users whose shell does not look where nft and runc are find them; no folder comes twice."""
    assert main.complete_path(path) == complete
    assert main.complete_path(complete) == complete


def test_help_lists_every_command() -> None:
    """`ondol --help` names each command and what it is for."""
    result = run("--help")
    assert result.exit_code == 0
    assert [name for name in COMMANDS if f" {name} " not in result.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(command: str, flag: str) -> None:
    """Each command explains itself by the long and the short flag."""
    result = run(command, flag)
    assert result.exit_code == 0
    assert f"ondol {command}" in result.stdout or f"{command} [OPTIONS]" in result.stdout
    assert "completion" not in result.stdout  # belongs to `ondol` alone


@pytest.mark.parametrize(
    "words",
    [
        ("bogus",),
        ("up", "--bogus"),
        ("status", "surplus"),
        ("apply",),
        ("get",),
        ("logs",),
        ("status", "-o", "xml"),
        ("up", "--api-port", "many"),
    ],
)
def test_wrong_usage_exits_with_2(words: tuple[str, ...]) -> None:
    """What the command line does not understand is usage, told on standard error."""
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--show-completion` prints a script for the shell it is told."""
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    result = CliRunner().invoke(main.app, ["--show-completion", shell], prog_name="ondol")
    assert result.exit_code == 0
    assert "_ONDOL_COMPLETE" in result.stdout


def test_completion_knows_the_commands() -> None:
    """The shell is offered each command that begins as the word does."""
    env = {"_ONDOL_COMPLETE": "complete_bash", "COMP_WORDS": "ondol st", "COMP_CWORD": "1"}
    result = CliRunner().invoke(main.app, [], prog_name="ondol", env=env)
    assert result.stdout.split() == ["status"]


def test_a_command_imports_only_what_it_needs() -> None:
    """One command does not pay for the imports of the others."""
    program = (
        "import sys; from ondol.cli import main\n"
        "try: main.app(['kubeconfig', '--help'])\n"
        "except SystemExit: print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "ondol.cli.platform" in loaded
    assert loaded.isdisjoint(
        {"ondol.cli.images", "ondol.cli.demo", "aiohttp", "grpc", "uvicorn", "ondol.sdk"}
    )


# --- without a platform


@pytest.mark.parametrize(
    "words", [("kubeconfig",), ("get", "pods"), ("delete", "pod", "web"), ("logs", "web"), ("traces",)]
)
def test_without_a_platform_exit_status_3(words: tuple[str, ...], tmp_path: Path) -> None:
    """What needs a platform says that none runs, where it looked, and how to start one."""
    result = run(*words, "--data-dir", tmp_path)
    assert result.exit_code == 3
    assert one_line(result) == f"error: no platform is running on {tmp_path}"
    assert f"try: ondol up --detach --data-dir {tmp_path}" in result.stderr
    assert result.stdout == ""


def test_status_without_a_platform(tmp_path: Path) -> None:
    """`status` prints that none runs and exits with 3; it makes no folder."""
    result = run("status", "--data-dir", tmp_path / "never")
    assert result.exit_code == 3
    folder = tmp_path / "never"
    start = f"ondol up --detach --data-dir {folder}"
    assert result.stderr == f"no platform is running on {folder}\n  try: {start}\n"
    assert not (tmp_path / "never").exists()


def test_status_as_json_without_a_platform(tmp_path: Path) -> None:
    """As JSON it is a document with the same exit status."""
    result = run("status", "-o", "json", "--data-dir", tmp_path)
    document = json.loads(result.stdout)
    assert result.exit_code == 3
    assert (document["running"], document["ready"], document["parts"]) == (False, False, [])
    assert document["data_dir"] == str(tmp_path)


def test_data_dir_from_the_environment(tmp_path: Path) -> None:
    """`ONDOL_DATA_DIR` does what `--data-dir` does."""
    result = run("status", "-o", "yaml", env={"ONDOL_DATA_DIR": str(tmp_path)})
    assert yaml.safe_load(result.stdout)["data_dir"] == str(tmp_path)


def test_down_without_a_platform(tmp_path: Path) -> None:
    """Stopping what does not run is no failure."""
    result = run("down", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == f"no platform was running on {tmp_path}\n"


def test_status_says_what_a_part_dies_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a part that is started again and again, and of no other."""
    parts = (
        PartStatus("nats", "backing-off", 0, 3, 0, 0.0, "", "nats-server is not installed"),
        PartStatus("api", "ready", 1, 1, 0, 0.0, "", "it was killed"),
    )
    report = PlatformStatus(True, False, str(tmp_path), "", "", "", "", 1, 0, parts)
    platform._print_status(report, Format.TABLE)
    output = capsys.readouterr().out
    assert f"\nnats: nats-server is not installed; more in {tmp_path}/logs/nats.log\n" in output
    assert "it was killed" not in output


# --- doctor


def test_doctor_as_json(tmp_path: Path) -> None:
    """A list of findings; what is not well has a remedy, and a failure is the exit status."""
    result = run("doctor", "-o", "json", "--data-dir", tmp_path)
    document = json.loads(result.stdout)
    assert {frozenset(f) for f in document} == {frozenset({"name", "verdict", "found", "remedy"})}
    assert {"python", "container runtime", "nftables", "kernel", "cgroups", "disk"} <= {
        f["name"] for f in document
    }
    assert {f["verdict"] for f in document} <= {"ok", "warn", "fail"}
    assert [f["name"] for f in document if (f["verdict"] == "ok") != (f["remedy"] == "")] == []
    assert result.exit_code == (1 if any(f["verdict"] == "fail" for f in document) else 0)


def test_doctor_failure_is_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks something needed makes `doctor` exit with 1 and show the command."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    result = run("doctor", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "crun or runc not found" in result.stdout
    assert "install crun" in result.stdout


# --- settings


def test_unknown_setting(tmp_path: Path) -> None:
    """A setting that does not exist is named, with those that do."""
    (tmp_path / "config.toml").write_text("colour = 'blue'\n")
    result = run("status", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert one_line(result) == f"error: {tmp_path}/config.toml: unknown setting 'colour'"
    assert "api_port" in result.stderr


def test_config_that_is_not_toml(tmp_path: Path) -> None:
    """A file that cannot be read is named."""
    (tmp_path / "config.toml").write_text("api_port 6443\n")
    result = run("up", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert "config.toml is not valid TOML" in one_line(result)


def test_setting_of_the_wrong_type_in_the_environment(tmp_path: Path) -> None:
    """A value that cannot be read names the variable's setting and its type."""
    result = run("status", "--data-dir", tmp_path, env={"ONDOL_API_PORT": "many"})
    assert result.exit_code == 1
    assert one_line(result) == "error: the environment: setting api_port must be int, not 'many'"


# --- documents


def test_data_dir_that_may_not_be_read(tmp_path: Path) -> None:
    """What another user owns is one line, and no wrong usage."""
    (tmp_path / "config.toml").mkdir()  # as unreadable to root as a closed folder is to others
    result = run("doctor", "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert one_line(result).startswith(f"error: {tmp_path / 'config.toml'} cannot be read:")


def test_documents_are_for_people() -> None:
    """Who wrote which field is left out, of an object and of each of a list, as kubectl leaves it out."""
    pod = {"metadata": {"name": "a", "managedFields": [{}]}}
    cleaned = get.without_bookkeeping({"metadata": {}, "items": [pod]})
    assert cleaned["items"] == [{"metadata": {"name": "a"}}]


def test_yaml_shows_long_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate or a script is readable, and reads back the same."""
    document = {"data": {"run.sh": "#!/bin/sh\nset -e\n"}}
    output.document(document, output.Format.YAML)
    printed = capsys.readouterr().out
    assert "  run.sh: |\n    #!/bin/sh\n    set -e\n" in printed
    assert yaml.safe_load(printed) == document


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound('pods "web" not found'), 4),
        (errors.Forbidden("not allowed"), 1),
        (errors.Unavailable("connection refused"), 1),
        (errors.OndolError("anything else"), 1),
        (errors.HostError("no crun", remedy="apt-get install -y crun"), 1),
    ],
)
def test_errors_have_stable_exit_statuses(
    error: errors.OndolError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What went wrong decides the exit status; a remedy is a second line."""
    with pytest.raises(typer.Exit) as ended, output.explained():
        raise error
    assert ended.value.exit_code == status
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert ("  try: " in message) == isinstance(error, errors.HostError)


def test_tables_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as their widest cell and lines end without spaces."""
    output.table(("NAME", "AGE"), [("a-long-name", 1), ("b", "12h")])
    assert capsys.readouterr().out == "NAME          AGE\na-long-name   1\nb             12h\n"


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({}, "export KUBECONFIG='/a b/kubeconfig'; kubectl get nodes"),
        ({"SUDO_UID": "1000"}, "sudo kubectl --kubeconfig '/a b/kubeconfig' get nodes"),
    ],
)
def test_the_line_to_paste_suits_who_started(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], line: str
) -> None:
    """Who came by sudo may not read the kubeconfig, and is told a command that may."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert platform._how_to_use(Path("/a b/kubeconfig")) == line


# --- which API server


def _kubeconfig(file: Path, server: str, namespace: str) -> Path:
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    file.write_text(json.dumps(document))
    return file


def test_a_kubeconfig_names_server_and_namespace(tmp_path: Path) -> None:
    """`$KUBECONFIG` is honoured, its namespace too; `-n` goes before it."""
    path = str(_kubeconfig(tmp_path / "config", "http://127.0.0.1:9", "shop"))
    assert connection.connect(None, path).namespace == "shop"
    assert connection.connect(None, path, "other").namespace == "other"
    result = run("get", "pods", env={"KUBECONFIG": path})
    assert result.exit_code == 1
    assert "127.0.0.1:9" in one_line(result) or "onnect" in one_line(result)


def test_a_data_directory_goes_before_the_kubeconfig(tmp_path: Path) -> None:
    """Who names a platform means that platform."""
    path = str(_kubeconfig(tmp_path / "config", "http://127.0.0.1:9", "shop"))
    result = run("get", "pods", "--data-dir", tmp_path, env={"KUBECONFIG": path})
    assert one_line(result) == f"error: no platform is running on {tmp_path}"


def test_traces_of_a_foreign_cluster(tmp_path: Path) -> None:
    """Traces are of a platform on this machine: another server is named."""
    path = str(_kubeconfig(tmp_path / "config", "https://elsewhere.example:6443", ""))
    result = run("traces", env={"KUBECONFIG": path})
    assert result.exit_code == 3
    assert "https://elsewhere.example:6443" in one_line(result)


# --- output that nobody takes


def _ondol(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ondol.cli", *map(str, words)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=60, **options)


def test_a_full_disk_under_the_output_is_told(tmp_path: Path) -> None:
    """One line and status 1, where the interpreter would print a traceback as it ends."""
    with Path("/dev/full").open("w") as full:
        done = _ondol("status", "-o", "json", "--data-dir", tmp_path, stdout=full)
    assert done.stderr == "error: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("words", [["--version"], ["get", "--help"], ["image", "--help"]])
def test_so_are_the_version_and_help(words: list[str]) -> None:
    """They are printed by libraries."""
    with Path("/dev/full").open("w") as full:
        done = _ondol(*words, stdout=full)
    assert done.stderr == "error: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_a_reader_that_has_ended_is_no_failure(tmp_path: Path) -> None:
    """As in `ondol doctor | head -1`: nothing is said."""
    reader, writer = os.pipe()
    os.close(reader)
    done = _ondol("status", "-o", "json", "--data-dir", tmp_path, stdout=writer)
    os.close(writer)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_doctor_prints_documents(form: str, tmp_path: Path) -> None:
    """Verdicts are words in either form."""
    result = run("doctor", "-o", form, "--data-dir", tmp_path)
    assert {finding["verdict"] for finding in yaml.safe_load(result.stdout)} <= {"ok", "warn", "fail"}


def test_ctrl_c_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """The shell's own status for it, and silence."""
    with pytest.raises(typer.Exit) as ended, output.explained():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == ""


# --- a data directory that has an instance


def test_a_port_asked_for_too_late_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ports are kept from the first start; only one that was asked for is talked about."""
    first = settings.load(tmp_path, flags={"ingress_port": 23456})
    port = instances.load_or_create(first).ports.ingress
    flags = {"ingress_port": port + 1}
    words = "is for a new data directory; {folder} keeps port {port}"
    platform._tell_of_other_ports(
        settings.load(tmp_path, flags=flags), settings.explicit(tmp_path, flags=flags), words
    )
    warning = f"warning: ingress_port {port + 1} is for a new data directory; {tmp_path} keeps port {port}\n"
    assert capsys.readouterr().err == warning
    platform._tell_of_other_ports(settings.load(tmp_path), settings.explicit(tmp_path), words)
    assert capsys.readouterr().err == ""


def test_a_start_is_announced_while_parts_sleep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What starts on demand is not waited for; ports that were taken are told by then, and once."""
    calls: list[str] = []
    progress = platform._Progress(tmp_path / "kubeconfig", lambda: calls.append("ports"))

    def running(state: State) -> list[Any]:
        parts = [("api", state), ("nats", State.DORMANT)]
        return [SimpleNamespace(part=SimpleNamespace(name=n), state=s, error="") for n, s in parts]

    progress(running(State.STARTING))
    assert "ready" not in capsys.readouterr().err
    progress(running(State.READY))
    progress(running(State.READY))
    assert capsys.readouterr().err.count("ready. In another terminal: ") == 1
    assert calls == ["ports"]


def test_removing_the_data(tmp_path: Path) -> None:
    """`down --remove-data` leaves neither the folder nor its promise of networks."""
    folder = tmp_path / "data"
    instance = instances.load_or_create(settings.load(folder))
    assert run("down", "--remove-data", "--data-dir", folder).exit_code == 0
    assert not folder.exists()
    assert instance.id not in {other.id for other in instances.on_this_machine()}
    assert run("down", "--remove-data", "--keep-pods", "--data-dir", folder).exit_code == 2


def test_what_is_mounted_below_is_not_deleted(tmp_path: Path) -> None:
    """A mount shows another's files; spaces in its name are as the kernel writes them."""
    table = tmp_path / "mountinfo"
    table.write_text(
        f"1 2 0:1 / {tmp_path}/a\\040b/c rw - tmpfs tmpfs rw\n"
        f"1 2 0:1 / {tmp_path}/a\\040b rw - tmpfs tmpfs rw\n"
        f"1 2 0:1 / {tmp_path}/ab rw - tmpfs tmpfs rw\n"
    )
    assert compose_platform.mounts_below(tmp_path / "a b", table=table) == [f"{tmp_path}/a b/c"]
