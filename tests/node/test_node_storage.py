"""Who has too much of the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.node.pods import storage


def limited(*limits: str | None, size: str | None = None, **volume: Any) -> Object:
    resources = [{"limits": {"ephemeral-storage": limit}} if limit else {} for limit in limits]
    listed = [{"name": f"c{number}", "resources": each} for number, each in enumerate(resources)]
    empty = {**volume, **({"sizeLimit": size} if size else {})}
    return {"spec": {"containers": listed, "volumes": [{"name": "v", "emptyDir": empty}]}}


@pytest.mark.parametrize(
    ("pod", "volume", "containers", "words"),
    [
        (limited(None), 2**40, {"c0": 2**40}, ""),
        (limited(None, size="1Ki"), 1024, {}, ""),
        (limited(None, size="1Ki"), 1025, {}, 'Usage of EmptyDir volume "v" exceeds the limit "1Ki".'),
        (limited("1Ki", None), 0, {"c0": 1024, "c1": 9999}, ""),
        (
            limited("1Ki", None),
            0,
            {"c0": 1025},
            'Container c0 exceeded its local ephemeral storage limit "1Ki".',
        ),
        (
            limited("1Ki", "1Ki"),
            100,
            {"c0": 1000, "c1": 1000},
            "exceeds the total limit of containers 2048 bytes",
        ),
        (limited("1Ki", None), 9999, {"c0": 1000}, ""),
    ],
)
def test_what_holds_too_much(pod: Object, volume: int, containers: dict[str, int], words: str) -> None:
    """A volume, a container, or all of a pod whose containers are all limited; in the kubelet's words."""
    message = storage.excess(pod, storage.Usage({"v": volume}, containers))
    assert words in message if words else message == ""


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (limited(None), False),
        (limited("1Ki"), True),
        (limited(None, size="1Ki"), True),
        (limited(None, size="0"), False),
        (limited(None, size="1Ki", medium="Memory"), False),
    ],
)
def test_who_is_worth_a_look(pod: Object, expected: bool) -> None:
    """Only who has a limit that nothing else holds it to."""
    assert storage.is_limited(pod) is expected


def test_sizes_on_the_disk(tmp_path: Path) -> None:
    """Blocks, not lengths; a file with two names is one; nothing is nothing."""
    assert storage.size_bytes(tmp_path / "none") == 0
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" * 100_000)
    once = storage.size_bytes(tmp_path)
    assert 100_000 <= once <= 140_000
    (tmp_path / "again").hardlink_to(tmp_path / "d" / "f")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert storage.size_bytes(tmp_path) <= once + 8192
