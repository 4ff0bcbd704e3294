"""Shopping carts, kept in the cache: this service itself keeps nothing."""

from __future__ import annotations

import json
import os
import re

from shop.web import Answer, CallFailed, Request, call, serve

CACHE = os.environ.get("CACHE_URL", "http://carts")


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
    return Answer({"customer": match[1], "items": items})


if __name__ == "__main__":
    serve({"/carts/([a-z]+)": cart})
