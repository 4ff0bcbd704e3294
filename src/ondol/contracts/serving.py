"""Serving towards the others: the labels by which its objects and pods are known, and the ports they have."""

from __future__ import annotations

from typing import Final

GROUP: Final = "serving.knative.dev"
SERVICE_LABEL: Final = f"{GROUP}/service"
"""On what a Service of Serving leads to, its pods among them: the Service's name."""
CONFIGURATION_LABEL: Final = f"{GROUP}/configuration"
REVISION_LABEL: Final = f"{GROUP}/revision"
"""On what a Revision has, its pods and EndpointSlice among them: the Revision's name."""
ROUTE_LABEL: Final = f"{GROUP}/route"

HTTP_PORT: Final = 80
"""The port of a Revision's Service."""
