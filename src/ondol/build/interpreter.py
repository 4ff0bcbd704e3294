"""The machine's own Python as an image needs to know it: where it lies and what it can load.

Asked of the interpreter itself, in a process of its own, so that any installed Python will do and
a virtual environment answers for the Python it was made from.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors

# Under -I -S nothing of the user or of a virtual environment is in sight.
_PROBE: Final = """
import json, os, sys, sysconfig
stdlib = os.path.dirname(os.__file__)
scheme = dict(base=sys.base_prefix, platbase=sys.base_exec_prefix,
              installed_base=sys.base_prefix, installed_platbase=sys.base_exec_prefix)
name = sysconfig.get_default_scheme()
if name == "venv": name = "posix_prefix"
json.dump(dict(
    executable=os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    version="%d.%d.%d" % sys.version_info[:3],
    tag=sys.implementation.cache_tag,
    prefix=os.path.realpath(sys.base_prefix),
    stdlib=stdlib,
    dynload=[p for p in sys.path if os.path.basename(p) == "lib-dynload"],
    site=sysconfig.get_path("purelib", name, vars=scheme),
    multiarch=getattr(sys.implementation, "_multiarch", ""),
    machine=os.uname().machine,
), sys.stdout)
"""
_CERTIFICATES: Final = "import json, ssl; print(json.dumps(ssl.get_default_verify_paths().openssl_cafile))"
_IMPORT_EACH: Final = """
import json, subprocess, sys
def loads(names):
    return subprocess.run([sys.executable, "-I", "-S", "-c", "import importlib, sys\\n"
        "for n in sys.argv[1:]: importlib.import_module(n)", *names],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
names = sys.argv[1:]
json.dump(names if loads(names) else [n for n in names if loads([n])], sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One installed Python; every path is where it lies here and where it will lie in the image."""

    executable: Path
    version: str
    tag: str
    prefix: Path
    stdlib: Path
    dynload: tuple[Path, ...]
    site: Path
    """Where the image's dependencies go: on this Python's path without further settings."""
    multiarch: str
    machine: str

    @property
    def abi(self) -> str:
        """What compiled dependencies depend on."""
        return f"{self.tag}-{self.machine}-{self.multiarch or 'linux'}"


def probe(executable: Path | None = None) -> Interpreter:
    """The given Python, or the one that runs this; `HostError` if it cannot be run."""
    facts = json.loads(_ask(executable or Path(sys.executable), _PROBE))
    return Interpreter(
        executable=Path(facts["executable"]),
        version=facts["version"],
        tag=facts["tag"],
        prefix=Path(facts["prefix"]),
        stdlib=Path(facts["stdlib"]),
        dynload=tuple(Path(path) for path in facts["dynload"]),
        site=Path(facts["site"]),
        multiarch=facts["multiarch"],
        machine=facts["machine"],
    )


def importable(python: Interpreter, names: list[str]) -> set[str]:
    """Those of the extension modules that import here; the rest lack a library or a machine feature."""
    return set(json.loads(_ask(python.executable, _IMPORT_EACH, *names)))


def certificates(python: Interpreter) -> str:
    """Where this Python's OpenSSL looks for certificates, empty if it has none."""
    try:
        return str(json.loads(_ask(python.executable, _CERTIFICATES)) or "")
    except errors.HostError:
        return ""  # a Python built without ssl


def _ask(executable: Path, program: str, *arguments: str) -> str:
    try:
        return subprocess.run(
            [executable, "-I", "-S", "-c", program, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", "") or errors.why(error)
        raise errors.HostError(
            f"the Python {executable} cannot be used: {detail.strip().splitlines()[-1]}",
            remedy="install python3, or name another with --python",
        ) from error
