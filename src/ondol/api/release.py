"""The release of Kubernetes whose API is served, and by whose names the parts call themselves."""

from __future__ import annotations

from typing import Final

MINOR: Final = 36
NAME: Final = f"1.{MINOR}"
VERSION: Final = f"v{NAME}.0"
