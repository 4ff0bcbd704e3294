"""The page at which a process shows its metrics."""

from __future__ import annotations

from ondol.base import metrics
from ondol.web.application import Application, Request, Response, Route

PATH = "/metrics"


def page_route(page: metrics.Page) -> Route:
    """`GET /metrics`; the page is written in the event loop, where what it counts is changed."""

    async def get(_request: Request) -> Response:
        return Response(page.text(), media_type=metrics.CONTENT_TYPE)

    return Route(PATH, get)


def application(page: metrics.Page) -> Application:
    """An application that shows a page, and nothing else."""
    return Application([page_route(page)])
