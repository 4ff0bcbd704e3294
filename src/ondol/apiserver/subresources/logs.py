"""pods/log: what a container wrote, streamed from the agent of the pod's node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ondol.api import objects, resources, status
from ondol.api.objects import Object
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Request, Stream, while_connected
from ondol.apiserver.served import Served
from ondol.base import errors

_OK: Final = 200
_OPTIONS: Final = ("follow", "previous", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "timestamps")
_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"


async def get(core: Core, request: Request, served: Served) -> Stream:
    info = request.info
    pod = core.lookup(served.resource, info.namespace, info.name)
    if pod is None:
        raise status.not_found(served.resource, info.name)
    container = container_of(pod, request.query.get("container") or "")
    for option in ("sinceSeconds", "tailLines", "limitBytes"):
        if (number := request.number(option)) is not None and number < 0:
            raise errors.BadRequest(f"{option} must be greater than or equal to 0")
    node = node_of(core, pod)
    if core.node_proxy is None:
        raise errors.Unavailable("this server has no way to reach node agents")
    proxy = core.node_proxy
    query = {option: request.query[option] for option in _OPTIONS if request.query.get(option)}
    path = f"/containerLogs/{info.namespace}/{info.name}/{container}"

    async def produce(emit: Callable[[bytes], Awaitable[None]]) -> None:
        async def copy() -> None:
            async with proxy.get(node, path, query) as answer:
                if answer.status != _OK:
                    text = b"".join([chunk async for chunk in answer.chunks()])
                    raise _refused(answer.status, text.decode(errors="replace"))
                await emit(b"")
                async for chunk in answer.chunks():
                    await emit(chunk)

        await while_connected(request, copy)

    return Stream(produce, b"text/plain")


def _refused(code: int, text: str) -> errors.ApiError:
    if code == errors.NotFound.status_code:
        return errors.NotFound(text)
    return errors.BadRequest(text) if code < 500 else errors.Internal(text)


def container_of(pod: Object, requested: str) -> str:
    """The container meant; `BadRequest` if that is not clear or there is none of the name."""
    name, spec = objects.name(pod), objects.spec(pod)
    main = [container["name"] for container in spec.get("containers") or ()]
    others = [
        container["name"]
        for field in ("initContainers", "ephemeralContainers")
        for container in spec.get(field) or ()
    ]
    if requested:
        if requested not in (*main, *others):
            raise errors.BadRequest(f"container {requested} is not valid for pod {name}")
        return requested
    if len(main) == 1:
        return str(main[0])
    preferred = objects.annotations(pod).get(_DEFAULT_CONTAINER, "")
    if preferred in main:
        return preferred
    choices = f"choose one of: [{' '.join(main)}]"
    inits = f" or one of the init containers: [{' '.join(others)}]" if others else ""
    raise errors.BadRequest(f"a container name must be specified for pod {name}, {choices}{inits}")


def node_of(core: Core, pod: Object) -> str:
    """The node whose agent runs the pod."""
    node_name = objects.spec(pod).get("nodeName") or ""
    if not node_name:
        raise errors.BadRequest(f"pod {objects.name(pod)} does not have a host assigned")
    if core.lookup(resources.NODE, "", node_name) is None:
        raise status.not_found(resources.NODE, node_name)
    return str(node_name)
