"""Commands about images: build, ls, rm."""

from __future__ import annotations
