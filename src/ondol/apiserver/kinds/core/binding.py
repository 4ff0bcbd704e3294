"""Bindings: created and answered, never stored, and nameless at their pod."""

from __future__ import annotations

from typing import Final

from ondol.api.validation import Rules
from ondol.apiserver.kinds.registration import Kind

KIND: Final = Kind("", "Binding", rules=Rules(nameless=True))
