"""The catalogue: what there is to buy."""

from __future__ import annotations

import re

from shop.web import Answer, Request, serve

PRODUCTS = {
    "stove": {"id": "stove", "name": "Clay stove", "price": 240},
    "floor": {"id": "floor", "name": "Heated floor", "price": 1800},
    "tea": {"id": "tea", "name": "Barley tea", "price": 6},
}


def products(_request: Request, _match: re.Match[str]) -> Answer:
    return Answer(list(PRODUCTS.values()))


def product(_request: Request, match: re.Match[str]) -> Answer:
    details = PRODUCTS.get(match[1])
    return Answer(details) if details else Answer({"error": "no such product"}, status=404)


if __name__ == "__main__":
    serve({"/products": products, "/products/([a-z]+)": product})
