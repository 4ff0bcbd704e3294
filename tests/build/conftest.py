"""One image store with a base layer in it, shared by the tests that build."""

from __future__ import annotations

import pytest

from ondol.build.store import ImageStore


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """A store for the whole run: the base layer is made once, as on a user's machine."""
    return ImageStore(tmp_path_factory.mktemp("data") / "images")
