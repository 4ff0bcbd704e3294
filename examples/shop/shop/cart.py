"""Shopping carts, kept in the cache: this service itself keeps nothing."""

from __future__ import annotations

import json
import os
import re
import uuid

from shop.web import Answer, CallFailed, Request, call, serve

CACHE = os.environ.get("CACHE_URL", "http://carts")
SINK = os.environ.get("K_SINK", "")
"""Where orders are told of, as CloudEvents; nowhere if it is empty."""


def read(request: Request, customer: str) -> list[str]:
    try:
        return list(call(f"{CACHE}/keys/cart-{customer}", request))
    except CallFailed as error:
        if error.status == 404:
            return []
        raise


def cart(request: Request, match: re.Match[str]) -> Answer:
    items = read(request, match[1])
    if request.method == "POST":
        items.append(str(json.loads(request.body)["product"]))
        call(f"{CACHE}/keys/cart-{match[1]}", request, method="PUT", body=json.dumps(items).encode())
        if SINK:
            tell(request, {"customer": match[1], "product": items[-1], "in_cart": len(items)})
    return Answer({"customer": match[1], "items": items})


def tell(request: Request, order: dict[str, object]) -> None:
    """An event for whoever cares about orders; once it is taken, it is not lost."""
    event = {
        "ce-specversion": "1.0",
        "ce-id": uuid.uuid4().hex,
        "ce-source": "/shop/cart",
        "ce-type": "dev.ondol.shop.order.placed",
        "ce-subject": str(order["customer"]),
        "content-type": "application/json",
    }
    call(SINK, request, method="POST", body=json.dumps(order).encode(), headers=event)


if __name__ == "__main__":
    serve({"/carts/([a-z]+)": cart})
