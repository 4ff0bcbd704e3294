"""From a request's meaning to its handler."""

from __future__ import annotations

from typing import Final

from ondol.api import resources
from ondol.apiserver import approvals, lenses, pod_lenses, subresources
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Request
from ondol.apiserver.handlers import changing, paths, reading, removing
from ondol.apiserver.lenses import Lens
from ondol.apiserver.served import Served
from ondol.base import errors

_LENSES: Final = {
    resources.POD: pod_lenses.LENSES,
    resources.CERTIFICATE_SIGNING_REQUEST: approvals.LENSES,
}
"""Parts of single kinds, by their subresources."""
MISSING: Final = "the server could not find the requested resource"
_NAMED: Final = frozenset({"get", "update", "patch", "delete"})


async def handle(core: Core, request: Request) -> Answer:
    """Answer a request that was authenticated and authorized."""
    info = request.info
    if not info.resource:
        return await paths.handle(core, request)
    served = core.catalogue.get(info.group, info.version, info.resource)
    if served is None:
        raise errors.NotFound(MISSING)
    if served.deprecation:
        request.warn(served.deprecation)
    if served.resource.namespaced and not info.namespace and info.verb not in ("list", "watch"):
        raise errors.NotFound(MISSING)
    if info.subresource:
        return await _subresource(core, request, served)
    if info.verb not in served.kind.verbs or (info.verb in _NAMED and not info.name):
        raise not_allowed()
    if info.verb == "create" and info.name:
        raise not_allowed()
    if not served.kind.stored:
        return await subresources.ANSWERED[served.resource.group_resource](core, request, served)
    return await _main(core, request, served)


def not_allowed() -> errors.MethodNotAllowed:
    return errors.MethodNotAllowed("the server does not allow this method on the requested resource")


async def _main(core: Core, request: Request, served: Served) -> Answer:
    match request.info.verb:
        case "get":
            return await reading.get(core, request, served)
        case "list":
            return await reading.list_(core, request, served)
        case "watch":
            return await reading.watch(core, request, served)
        case "create":
            return await changing.create(core, request, served)
        case "update":
            return await changing.update(core, request, served, _whole(served))
        case "patch":
            return await changing.patch(core, request, served, _whole(served))
        case "delete":
            return await removing.delete(core, request, served)
        case "deletecollection":
            return await removing.delete_collection(core, request, served)
    raise not_allowed()


def _whole(served: Served) -> Lens:
    return lenses.Whole(has_status=served.strategy.has_status)


async def _subresource(core: Core, request: Request, served: Served) -> Answer:
    name, verb = request.info.subresource, request.info.verb
    subresource = served.kind.subresource(name)
    if subresource is None:
        raise errors.NotFound(MISSING)
    if verb not in subresource.verbs and name != "proxy":  # which has methods, not verbs
        raise not_allowed()
    lens = _lens(served, name)
    if lens is not None:
        return await _part(core, request, served, lens)
    special = subresources.PARTS.get((served.resource.plural, name))
    if special is None:
        raise errors.NotFound(MISSING)
    return await special(core, request, served)


def _lens(served: Served, name: str) -> Lens | None:
    if name == "status":
        return lenses.Status(served.strategy.status_reset)
    own = _LENSES.get(served.resource, {})
    if name in own:
        return own[name]
    return served.scale if name == "scale" else None


async def _part(core: Core, request: Request, served: Served, lens: Lens) -> Answer:
    match request.info.verb:
        case "get":
            return await reading.get_part(core, request, served, lens)
        case "update":
            return await changing.update(core, request, served, lens)
        case "patch":
            return await changing.patch(core, request, served, lens)
    raise not_allowed()
