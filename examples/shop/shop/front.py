"""The shop front: a page put together from the other services."""

from __future__ import annotations

import html
import os
import re

from shop.web import Answer, Request, call, serve

CATALOG = os.environ.get("CATALOG_URL", "http://catalog")
REVIEWS = os.environ.get("REVIEWS_URL", "http://reviews")
CART = os.environ.get("CART_URL", "http://cart")
CUSTOMER = "guest"


def product_page(request: Request, match: re.Match[str]) -> Answer:
    """Everything about one product, as JSON: catalogue, reviews and the customer's cart."""
    product = call(f"{CATALOG}/products/{match[1]}", request)
    reviews = call(f"{REVIEWS}/reviews/{match[1]}", request)
    cart = call(f"{CART}/carts/{CUSTOMER}", request)
    return Answer({"product": product, "reviews": reviews, "cart": cart["items"]})


def buy(request: Request, match: re.Match[str]) -> Answer:
    body = f'{{"product": "{match[1]}"}}'.encode()
    return Answer(call(f"{CART}/carts/{CUSTOMER}", request, method="POST", body=body))


def home(request: Request, _match: re.Match[str]) -> Answer:
    """The list of products as a page."""
    items = "".join(
        f'<li><a href="/products/{p["id"]}">{html.escape(p["name"])}</a>: {p["price"]}</li>'
        for p in call(f"{CATALOG}/products", request)
    )
    page = f"<!doctype html><title>Shop</title><h1>Shop</h1><ul>{items}</ul>"
    return Answer(page.encode(), content_type="text/html; charset=utf-8")


if __name__ == "__main__":
    serve({"/": home, "/products/([a-z]+)": product_page, "/buy/([a-z]+)": buy})
