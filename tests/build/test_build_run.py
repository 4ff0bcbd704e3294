"""Built images run: a real runtime starts them, and Python inside finds all it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from ondol.build import image
from ondol.build.image import Built
from ondol.build.store import ImageStore

pytestmark = pytest.mark.root

_INSIDE = """
import json, os, pwd, socket, sqlite3, ssl, subprocess, sys, zoneinfo
import http.server, ctypes, decimal, lzma, bz2, zlib, uuid, asyncio
import greeting
loaded = [name.split(".")[0] for name in os.listdir(next(p for p in sys.path if p.endswith("lib-dynload")))]
subprocess.run([sys.executable, "-c", "pass"], check=True)
print(json.dumps({
    "greeting": greeting.TEXT,
    "cached": greeting.__cached__,
    "user": pwd.getpwuid(os.getuid()).pw_name,
    "zone": str(zoneinfo.ZoneInfo("Asia/Seoul").key),
    "certificates": len(ssl.create_default_context().get_ca_certs()),
    "localhost": socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4][0],
    "shell": subprocess.run("echo $((6 * 7))", shell=True, capture_output=True, text=True).stdout,
    "modules": all(__import__(name) for name in loaded),
    "port": os.environ["PORT"],
    "encoding": sys.getfilesystemencoding(),
    "directory": os.getcwd(),
}))
"""


@pytest.fixture
def runc() -> str:
    if os.geteuid() != 0:
        pytest.skip("starting containers needs root")
    program = shutil.which("runc")
    if program is None:
        pytest.skip("runc is not installed")
    return program


def _bundle(store: ImageStore, built: Built, folder: Path) -> Path:
    """A runtime bundle of the image, with the runtime's own default settings."""
    rootfs = folder / "rootfs"
    rootfs.mkdir(parents=True)
    for layer in built.layers:
        subprocess.run(["tar", "-xpf", store.blob(layer.digest), "-C", rootfs], check=True)
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    config = store.config(built.digest)["config"]
    spec: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    uid, gid = config["User"].split(":")
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": int(uid), "gid": int(gid)},
        "args": [*config["Entrypoint"], *config.get("Cmd", [])],
        "env": config["Env"],
        "cwd": config["WorkingDir"],
    }
    spec["root"]["readonly"] = True
    (folder / "config.json").write_text(json.dumps(spec))
    return folder


def _run(runc: str, bundle: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [runc, "run", f"ondol-build-{uuid.uuid4().hex[:8]}"],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_python_works_inside(tmp_path: Path, images: ImageStore, runc: str) -> None:
    """Every extension module imports; names, certificates, zones, a shell and the user are there."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "main.py").write_text(_INSIDE)
    (folder / "greeting.py").write_text("TEXT = 'hello'\n")
    built = image.build(folder, "inside", images)
    done = _run(runc, _bundle(images, built, tmp_path / "bundle"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["greeting"] == "hello"
    assert (tmp_path / "bundle" / "rootfs" / report["cached"].lstrip("/")).is_file()
    assert report["user"] == "app"
    assert report["zone"] == "Asia/Seoul"
    assert report["localhost"] == "127.0.0.1"
    assert report["shell"] == "42\n"
    assert report["port"] == "8080"
    assert report["encoding"] == "utf-8"
    assert report["directory"] == "/app"
    assert report["modules"]
    if Path("/etc/ssl/certs/ca-certificates.crt").is_file():
        assert report["certificates"] > 0


def test_a_script_runs_inside(tmp_path: Path, images: ImageStore, runc: str) -> None:
    """A launcher of `[project.scripts]` starts the function of a package under `src`."""
    package = tmp_path / "app" / "src" / "teapot"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def main():\n    print('short and stout')\n    return 3\n")
    text = '[project]\nname = "teapot"\nversion = "1"\nscripts = {teapot = "teapot:main"}\n'
    (tmp_path / "app" / "pyproject.toml").write_text(text)
    built = image.build(tmp_path / "app", "teapot", images)
    done = _run(runc, _bundle(images, built, tmp_path / "bundle"))
    assert (done.returncode, done.stdout) == (3, "short and stout\n"), done.stderr


def test_other_tools_read_the_store(tmp_path: Path, images: ImageStore) -> None:
    """An independent tool finds the image by its full reference and agrees on the digest."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    (tmp_path / "main.py").write_text("print('hello')\n")
    built = image.build(tmp_path, "inspected:v1", images)
    done = subprocess.run(
        [skopeo, "inspect", f"oci:{images.directory}:{built.reference}"],
        capture_output=True,
        text=True,
        check=True,
    )
    index = json.loads(done.stdout)
    assert index["Digest"] == built.digest
    assert index["Layers"] == [layer.digest for layer in built.layers]
