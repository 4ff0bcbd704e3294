"""Writes docs/unsupported-fields.md from the table of the API server's warnings."""

from __future__ import annotations

from pathlib import Path

from ondol.apiserver import unsupported

PAGE = Path(__file__).parent.parent / "docs" / "unsupported-fields.md"
HEAD = """# Fields that are kept but not acted on

Ondol keeps every field Kubernetes knows. A field that no part acts on yet is answered with a `Warning`
header when it is written, which kubectl prints. This page is written by
`scripts/generate_unsupported_fields.py` from `src/ondol/apiserver/unsupported.py`: change it there.
"""
COLUMNS = "| Field of the spec | What happens instead | No warning for |\n|---|---|---|\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for kind, rules in unsupported.TABLE.items():
        heading = "Pods and pod templates" if kind == "Pod" else f"{kind}s"
        parts.append(f"\n## {heading}\n\n{COLUMNS}")
        for rule in rules:
            harmless = ", ".join(f"`{value}`" for value in rule.harmless)
            parts.append(f"| `{rule.path}` | {rule.message} | {harmless} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
