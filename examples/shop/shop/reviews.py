"""Reviews of products; version 2 adds stars. `REVIEWS_VERSION` says which one this is."""

from __future__ import annotations

import os
import re

from shop.web import Answer, Request, serve

VERSION = os.environ.get("REVIEWS_VERSION", "v1")
TEXTS = {
    "stove": [("Warm in ten minutes.", 5), ("Heavy to carry.", 3)],
    "floor": [("I sleep on it.", 5)],
    "tea": [("Tastes of autumn.", 4)],
}


def reviews(_request: Request, match: re.Match[str]) -> Answer:
    texts = [
        {"text": text} | ({"stars": stars} if VERSION == "v2" else {})
        for text, stars in TEXTS.get(match[1], [])
    ]
    return Answer({"version": VERSION, "reviews": texts})


if __name__ == "__main__":
    serve({"/reviews/([a-z]+)": reviews})
