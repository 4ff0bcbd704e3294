"""The condition `Available` of an APIService, in Kubernetes' words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.apiserver.aggregation.remotes import Remote
from ondol.apiserver.service_endpoints import Address, Endpoints, port_name

TYPE: Final = "Available"


class Availability(NamedTuple):
    """What the condition says."""

    status: conditions.Status
    reason: str
    message: str


LOCAL: Final = Availability("True", "Local", "Local APIServices are always available")
PASSED: Final = Availability("True", "Passed", "all checks passed")


class Standing(NamedTuple):
    """Whom to ask, or why there is nobody to."""

    endpoints: Sequence[Address] = ()
    failure: Availability | None = None


def standing(remote: Remote, endpoints: Endpoints) -> Standing:
    """What the Service and its slices say, before anybody is asked."""
    place = f'service/{remote.service} in "{remote.namespace}"'
    service = endpoints.service()
    if service is None:
        return _failing("ServiceNotFound", f"{place} is not present")
    if objects.spec(service).get("type") == "ExternalName":
        return _failing("FailedDiscoveryCheck", 'unsupported service type "ExternalName"')
    port = port_name(service, remote.port)
    if port is None:
        return _failing("ServicePortError", f"{place} is not listening on port {remote.port}")
    if not any(True for _ in endpoints.slices()):
        return _failing("EndpointsNotFound", f"cannot find endpointslices for {place}")
    ready = endpoints.ready(port)
    if not ready:
        message = f'endpointslices for {place} have no addresses with port name "{port}"'
        return _failing("MissingEndpoints", message)
    return Standing(ready)


def _failing(reason: str, message: str) -> Standing:
    return Standing(failure=Availability("False", reason, message))


def undiscovered(message: str) -> Availability:
    """It was asked, and did not answer as it should."""
    return Availability("False", "FailedDiscoveryCheck", message)


def of_answer(url: str, status: int) -> str:
    """What is wrong with the answer's status; empty if nothing is."""
    if status in range(200, 300):
        return ""
    return f"failing or missing response from {url}: bad status from {url}: {status}"


def of_silence(url: str, why: str) -> str:
    return f'failing or missing response from {url}: Get "{url}": {why}'


def changed(service: Object, availability: Availability, now: float) -> Object | None:
    """The APIService with this condition; None if it says so already."""
    current = conditions.get(service, TYPE)
    if current is not None and availability == tuple(
        current.get(field) or "" for field in ("status", "reason", "message")
    ):
        return None
    status, reason, message = availability
    listed = conditions.set(conditions.of(service), TYPE, status, reason=reason, message=message, now=now)
    return {**service, "status": {**objects.status(service), "conditions": listed}}
