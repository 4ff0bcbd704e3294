"""Writes a receipt for each order that is placed; it runs while there are orders, and not otherwise."""

from __future__ import annotations

import json
from typing import Any


class Receipts:
    """Takes the events of orders."""

    async def handle(self, scope: Any, _receive: Any, _send: Any) -> None:
        """Print what was ordered; an event that is not answered by another is simply taken."""
        order = scope["event"].get_data()
        print(receipt(json.loads(order) if isinstance(order, str | bytes) else order), flush=True)


def receipt(order: dict[str, Any]) -> str:
    """One line for the books."""
    return f"receipt for {order['customer']}: {order['product']}, {order['in_cart']} in the cart"


def new() -> Receipts:
    """Called once in each process."""
    return Receipts()
