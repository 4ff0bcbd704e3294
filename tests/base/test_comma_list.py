"""Lists with commas between are read alike wherever they stand."""

from __future__ import annotations

import pytest

from ondol.base import comma_list


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", ()),
        (" ", ()),
        (",", ()),
        ("a", ("a",)),
        (" a , b,, c c ,", ("a", "b", "c c")),
        ("b,a,b", ("b", "a", "b")),
        (" net.core.*,, kernel.msgmax ,", ("net.core.*", "kernel.msgmax")),
    ],
)
def test_items_stand_in_order_without_blanks(text: str, items: tuple[str, ...]) -> None:
    """Blanks around an item and empty items mean nothing; order and repeats stay."""
    assert comma_list.items(text) == items
