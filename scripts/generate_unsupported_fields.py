"""Writes docs/unsupported-fields.md from the registrations of the API server's kinds."""

from __future__ import annotations

from pathlib import Path

from ondol.apiserver import kinds

PAGE = Path(__file__).parent.parent / "docs" / "unsupported-fields.md"
HEAD = """# Kinds and fields that are kept but not acted on

Ondol keeps every kind and field Kubernetes knows. What no part acts on yet is answered with a `Warning`
header when it is written, which kubectl prints. This page is written by
`scripts/generate_unsupported_fields.py` from the registrations in `src/ondol/apiserver/kinds/`: change
it there.
"""
KINDS = """
## Kinds

Objects of these kinds are stored, watched and served in full; controllers that run elsewhere may act on them.

| Kind | What its author is told |
|---|---|
"""
COLUMNS = "| Field of the spec | What happens instead | No warning for |\n|---|---|---|\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD, KINDS]
    for kind in kinds.BUILTIN:
        if kind.unsupported is not None and kind.unsupported.kind:
            group = f" of `{kind.group}`" if kind.group else ""
            parts.append(f"| {kind.kind}{group} | {kind.unsupported.kind} |\n")
    for kind in kinds.BUILTIN:
        if kind.unsupported is None or not kind.unsupported.rules or kind.unsupported.path != ("spec",):
            continue  # templates are held to what holds for pods
        heading = "Pods and pod templates" if kind.kind == "Pod" else f"{kind.kind}s"
        section = [f"\n## {heading}\n\n{COLUMNS}"]
        for rule in kind.unsupported.rules:
            harmless = ", ".join(f"`{value}`" for value in rule.harmless)
            section.append(f"| `{rule.path}` | {rule.message} | {harmless} |\n")
        parts.append("".join(section))
    return "".join(dict.fromkeys(parts))  # versions of one kind say the same


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
