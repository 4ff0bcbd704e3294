"""The commands of `ondol func` that need no platform, and how what is deployed is printed."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.commands import one_line, run

from ondol.cli import func_invoke, func_remote


@pytest.fixture
def function(tmp_path: Path) -> Path:
    """A new Python function."""
    place = tmp_path / "hello"
    assert run("func", "create", "-l", "python", place).exit_code == 0
    return place


def spec(function: Path) -> Any:
    return yaml.safe_load((function / "func.yaml").read_text(encoding="utf-8"))


def test_a_new_function_is_whole(function: Path) -> None:
    """Its name is the folder's; `.func` is left out of git."""
    assert spec(function)["name"] == "hello"
    assert spec(function)["runtime"] == "python"
    assert "invoke" not in spec(function)
    assert (function / "function" / "func.py").exists()
    assert "/.func" in (function / ".gitignore").read_text(encoding="utf-8").splitlines()
    run("func", "create", "-l", "go", "-t", "cloudevents", function.parent / "events")
    assert spec(function.parent / "events")["invoke"] == "cloudevent"


def test_a_function_is_not_made_over_something_else(function: Path, tmp_path: Path) -> None:
    """Neither over a function nor over files, nor under a name that no Service can have."""
    assert "has a function already" in one_line(run("func", "create", "-l", "python", function))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("", encoding="utf-8")
    assert "is not empty: it has x" in one_line(run("func", "create", "-l", "python", tmp_path / "full"))
    assert "is no name of a function" in one_line(
        run("func", "create", "-l", "python", tmp_path / "Bad_Name")
    )
    assert not (tmp_path / "Bad_Name").exists()
    assert "the language cobol is not supported" in one_line(
        run("func", "create", "-l", "cobol", tmp_path / "other")
    )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("command", ["run", "invoke", "build", "deploy", "delete", "describe", "subscribe"])
def test_where_no_function_is_one_is_missed_in_one_line(tmp_path: Path, command: str) -> None:
    """With what to do about it."""
    result = run("func", command, "--path", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path} is no function: there is no func.yaml" in one_line(result)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not valid YAML"),
        ("specVersion: 9.0.0", "is newer than 0.36.0"),
        ("specVersion: 0.36.0", "created"),
    ],
)
def test_a_broken_func_yaml_is_one_line(function: Path, text: str, words: str) -> None:
    """Whatever the command."""
    (function / "func.yaml").write_text(text, encoding="utf-8")
    for command in ("run", "build", "deploy"):
        assert words in one_line(run("func", command, "--path", function))


def test_variables_are_set_and_taken_away(function: Path) -> None:
    """Each kind is listed in words; what is wrong is not written."""
    path = ("--path", function)
    add = ("func", "config", "envs", "add", *path)
    run(*add, "--name", "A", "--value", "1")
    run(*add, "--name", "A", "--value", "2")
    run(*add, "--name", "B", "--value", "{{ secret:s:k }}")
    run(*add, "--name", "C", "--value", "{{ env:HERE }}")
    run(*add, "--value", "{{ configMap:c }}")
    assert run("func", "config", "envs", *path).stdout.splitlines() == [
        "A=2",
        "B: key k of secret s",
        "C: what HERE is here",
        "all keys of configMap c",
    ]
    assert "is 'x y', which" not in one_line(run(*add, "--name", "D", "--value", "{{ cat:x }}"))
    assert "{{ cat:x }}" not in (function / "func.yaml").read_text(encoding="utf-8")
    run("func", "config", "envs", "remove", *path, "--name", "A")
    assert [env.get("name") for env in spec(function)["run"]["envs"]] == ["B", "C", None]
    gone = run("func", "config", "envs", "remove", *path, "--name", "A")
    assert (gone.exit_code, one_line(gone)) == (4, "error: there is no variable A")


def test_labels_volumes_and_the_repository_are_set_and_taken_away(function: Path) -> None:
    """As with variables."""
    path = ("--path", function)
    run("func", "config", "labels", "add", *path, "--name", "team", "--value", "blue")
    assert run("func", "config", "labels", *path).stdout == "team: blue\n"
    for kind, source, place in (("secret", "s", "/a"), ("configmap", "c", "/b"), ("pvc", "p", "/c")):
        run("func", "config", "volumes", "add", *path, "-t", kind, "-s", source, "-m", place)
    run("func", "config", "volumes", "add", *path, "-t", "emptydir", "-m", "/d", "--size", "1Gi")
    assert run("func", "config", "volumes", *path).stdout.splitlines() == [
        "/a: Secret s",
        "/b: ConfigMap c",
        "/c: PersistentVolumeClaim p",
        "/d: EmptyDir",
    ]
    assert "the path /a/ is there twice" in one_line(
        run("func", "config", "volumes", "add", *path, "-t", "secret", "-s", "x", "-m", "/a/")
    )
    run("func", "config", "volumes", "remove", *path, "-m", "/a/")
    run("func", "config", "labels", "remove", *path, "--name", "team")
    run(
        "func",
        "config",
        "git",
        "set",
        *path,
        "--git-url",
        "https://example.com/f.git",
        "--git-branch",
        "main",
    )
    assert spec(function)["build"]["git"] == {"url": "https://example.com/f.git", "revision": "main"}
    run("func", "config", "git", "remove", *path)
    assert "build" not in spec(function)
    assert "labels" not in spec(function).get("deploy", {})
    assert len(spec(function)["run"]["volumes"]) == 3


def test_a_subscription_is_written_down(function: Path) -> None:
    """More filters for the same broker join those that are there."""
    path = ("--path", function)
    run("func", "subscribe", *path, "--filter", "type=a")
    run("func", "subscribe", *path, "--filter", "source=/b", "--source", "other")
    run("func", "subscribe", *path, "--filter", "extension=c=d")
    assert spec(function)["deploy"]["subscriptions"] == [
        {"source": "default", "filters": {"type": "a", "extension": "c=d"}},
        {"source": "other", "filters": {"source": "/b"}},
    ]
    wrong = run("func", "subscribe", *path, "--filter", "type")
    assert (wrong.exit_code, one_line(wrong)) == (2, "error: --filter type: write NAME=VALUE")


@pytest.mark.parametrize(("invoke", "is_warned"), [("", True), ("invoke: cloudevent\n", False)])
def test_who_answers_no_events_is_warned_before_it_is_sent_some(
    function: Path, invoke: str, is_warned: bool
) -> None:
    """A text as the answer is a failure to a broker, so each event would come again and again."""
    described = function / "func.yaml"
    described.write_text(described.read_text() + invoke)
    result = run("func", "subscribe", "--path", function, "--filter", "type=a")
    assert result.exit_code == 0
    assert ("warning: func.yaml does not say invoke: cloudevent" in result.stderr) == is_warned


def test_what_there_is_is_listed() -> None:
    """Languages with what they lack, templates, and both for programs."""
    rows = run("func", "languages").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["LANGUAGE", "executable", "go", "node", "python"]
    missing = run("func", "languages", env={"PATH": "/nowhere"}).stdout
    assert "missing: apt-get install nodejs npm" in missing
    assert json.loads(run("func", "languages", "--json").stdout) == ["executable", "go", "node", "python"]
    assert run("func", "templates", "go").stdout.split() == ["cloudevents", "http"]
    assert json.loads(run("func", "templates", "--json").stdout)["python"] == ["cloudevents", "http"]
    described = json.loads(run("func", "environment", env={"FUNC_X": "1"}).stdout)
    assert described["SpecVersion"] == "0.36.0"
    assert "FUNC_X=1" in described["Environment"]
    assert yaml.safe_load(run("func", "environment", "--format", "yaml").stdout)["Templates"][
        "executable"
    ] == ["http"]


def test_a_language_without_its_toolchain_is_refused(tmp_path: Path) -> None:
    """When it is built, with what to install."""
    run("func", "create", "-l", "go", tmp_path / "g")
    result = run(
        "func", "build", "-p", tmp_path / "g", "--data-dir", tmp_path / "d", env={"FUNC_GO": "/nowhere/go"}
    )
    assert one_line(result) == "error: this machine has no Go toolchain"
    run("func", "create", "-l", "executable", tmp_path / "e")
    result = run("func", "build", "-p", tmp_path / "e", "--data-dir", tmp_path / "d")
    assert "there is no executable" in one_line(result)


def test_a_build_that_fails_is_said(function: Path, tmp_path: Path) -> None:
    """A function that is none, and one that this platform cannot serve."""
    data = ("--data-dir", tmp_path / "data")
    (function / "function" / "__init__.py").unlink()
    assert "has no module `function`" in one_line(run("func", "build", "--path", function, *data))
    text = (function / "func.yaml").read_text(encoding="utf-8")
    (function / "func.yaml").write_text(text + "deployer: keda\n", encoding="utf-8")
    assert "deployer keda is not supported" in one_line(run("func", "build", "--path", function, *data))


def test_what_only_knatives_own_tool_reads_is_said(tmp_path: Path) -> None:
    """A list of ignored files under another name; comments alone are nothing."""
    run("func", "create", "-l", "executable", tmp_path / "e")
    shutil.copy(shutil.which("true") or "", tmp_path / "e" / "main")
    build = ("func", "build", "-p", tmp_path / "e", "--data-dir", tmp_path / "d")
    (tmp_path / "e" / ".funcignore").write_text("# nothing\n\n", encoding="utf-8")
    assert "warning" not in run(*build).stderr
    (tmp_path / "e" / ".funcignore").write_text("*.log\n", encoding="utf-8")
    assert "warning: .funcignore has no effect" in run(*build).stderr


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers what it was asked."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/fail":
            self.send_error(500, "broken")
            return
        answer = json.dumps(
            {**{k.lower(): v for k, v in self.headers.items()}, "body": body.decode()}
        ).encode()
        self.send_response(200)
        if "ce-id" in self.headers:
            self.send_header("ce-id", "r1")
            self.send_header("ce-type", "reply")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def echo() -> Iterator[str]:
    """An address that answers what it is asked."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_function_is_sent_what_knatives_own_tool_sends(function: Path, echo: str) -> None:
    """A greeting in JSON, or an event with the same source and type."""
    invoke = ("func", "invoke", "--path", function, "--target", echo)
    plain = json.loads(run(*invoke).stdout)
    assert (plain["body"], plain["content-type"]) == ('{"message":"Hello World"}', "application/json")
    assert "ce-id" not in plain
    event = run(*invoke, "-f", "cloudevent", "-e", "my=x", "--data", "1")
    lines = event.stdout.splitlines()
    assert lines[:2] == ["id: r1", "type: reply"]
    sent = json.loads(lines[2].removeprefix("data: "))
    assert (sent["ce-source"], sent["ce-type"], sent["ce-my"], sent["body"]) == (
        "/boson/fn",
        "boson.fn",
        "x",
        "1",
    )
    assert "warning: sent as cloudevent, but func.yaml has invoke: http" in event.stderr


def test_what_goes_wrong_with_an_invocation_is_one_line(function: Path, echo: str, tmp_path: Path) -> None:
    """Nobody there, an answer that is an error, words that mean nothing."""
    invoke = ("func", "invoke", "--path", function)
    assert "is not running here" in one_line(run(*invoke, "--target", "local"))
    assert "neither running here nor deployed" in one_line(run(*invoke))
    assert "does not answer" in one_line(run(*invoke, "--target", "http://127.0.0.1:1"))
    failed = run(*invoke, "--target", f"{echo}/fail")
    assert failed.stderr.splitlines()[-1] == f"error: {echo}/fail answered 500"
    assert "write http or cloudevent" in one_line(run(*invoke, "-f", "grpc"))
    assert "--extension is for --format cloudevent" in one_line(run(*invoke, "-e", "a=b"))
    assert "cannot be read" in one_line(run(*invoke, "--file", tmp_path / "none"))


def test_names_below_localhost_are_this_machine(echo: str) -> None:
    """Whatever resolves them: the platform's ingress answers there, by the name."""
    port = int(echo.rpartition(":")[2])
    request = func_invoke.Request("POST", {"content-type": "text/plain"}, b"x")
    reply = func_invoke.send(f"http://f.ns.localhost:{port}/", request)
    assert json.loads(reply.body)["host"] == f"f.ns.localhost:{port}"


SERVICE: Any = {
    "metadata": {
        "name": "f",
        "namespace": "ns",
        "labels": {"boson.dev/function": "true", "function.knative.dev/runtime": "go"},
        "annotations": {"function.knative.dev/deployer": "knative"},
    },
    "status": {"url": "http://f.ns.localhost", "conditions": [{"type": "Ready", "status": "True"}]},
}


def test_a_deployed_function_is_one_row() -> None:
    """With how many instances it has now."""
    pod = {"metadata": {"namespace": "ns", "labels": {"serving.knative.dev/service": "f"}}}
    other = {"metadata": {"namespace": "other", "labels": {"serving.knative.dev/service": "f"}}}
    assert func_remote._item(SERVICE, [pod, other]) == {
        "name": "f",
        "namespace": "ns",
        "runtime": "go",
        "url": "http://f.ns.localhost",
        "ready": "True",
        "deployer": "knative",
        "replicas": 1,
    }


def test_a_described_function_has_the_words_of_knatives_own_tool() -> None:
    """For people and for programs."""
    described = {
        "route": "http://f",
        "routes": ["http://f"],
        "name": "f",
        "image": "i:1",
        "namespace": "ns",
        "subscriptions": [{"source": "/s", "type": "t", "broker": "default"}],
        "ready": "True",
        "deployer": "knative",
        "labels": {"a": "b"},
    }
    human = func_remote._human(described)
    assert human[:4] == ["Function name:", "  f", "Function is built in image:", "  i:1"]
    assert "Subscriptions (Source, Type, Broker):" in human
    assert "  /s t default" in human
    assert func_remote._plain(described) == [
        "Name f",
        "Image i:1",
        "Namespace ns",
        "Route http://f",
        "Ready True",
        "Deployer knative",
        "Subscription /s t default",
        "Label a b",
    ]
