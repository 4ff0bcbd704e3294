"""The kinds of the group `apiextensions.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.apiextensions import custom_resource_definition

KINDS: Final = (custom_resource_definition.KIND,)
