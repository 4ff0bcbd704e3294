"""What pods refer to: what volumes are made from, Services, Namespaces and service account tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup

from ondol import sdk
from ondol.api import objects, pod_references, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import clock as time
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.node import value_sources
from ondol.node.pods import env
from ondol.node.pods.model import Spec
from ondol.node.volumes import registry
from ondol.node.volumes.lookup import Reference
from ondol.node.volumes.volume import TokenRequest
from ondol.sdk.informer import Selection

Handler: TypeAlias = Callable[[Object | None, Object | None], None]

_BY_ADDRESS: Final = "address"
_REFRESH_SHARE: Final = 0.8
_REFRESH_MAX_S: Final = 24 * 3600.0
_FOLLOW_AFTER_S: Final = 1.0
"""How long after it was read something is followed: the connection for it must not delay the pod's start."""
LINGER_S: Final = 60.0
"""How long something is followed after its last pod: what scales to zero comes back to it."""


@dataclass(frozen=True, slots=True)
class Token:
    value: str
    refresh_at: float


class Referenced:
    """Objects of one kind that pods have mounted, ConfigMaps say, each followed by a watch of its own.

    A node may read no others, so there is no cache of all of them. What nobody has mounted for a while is let
    go again; one that says that it never changes is read, not followed.
    """

    def __init__(self, manager: sdk.Manager, resource: Resource) -> None:
        self._manager = manager
        self._resource = resource
        self._followed: dict[Key, _Followed] = {}
        self._tasks: TaskGroup | None = None
        self._handlers: list[Handler] = []

    def start(self, tasks: TaskGroup) -> None:
        """From now on what is asked for with `follow` is followed, in these tasks."""
        self._tasks = tasks

    def add_handler(self, handler: Handler) -> None:
        """Call `handler(old, new)` on each change of what is followed."""
        self._handlers.append(handler)

    @property
    def followed(self) -> frozenset[Key]:
        return frozenset(self._followed)

    async def get(self, key: Key, *, follow: bool) -> Object | None:
        """The object as it is, None if there is none; from now on followed if asked."""
        followed = self._followed.get(key)
        if followed is not None:
            followed.used_at = self._manager.clock.monotonic()
            if followed.informer.synced and (obj := followed.informer.lister.get(key)) is not None:
                return obj
        obj = await _ask(self._manager.client, self._resource, key)
        is_fixed = obj is not None and obj.get("immutable") is True
        if follow and not is_fixed and key not in self._followed and self._tasks is not None:
            self._follow(self._tasks, key)
        if followed := self._followed.get(key):
            return self._read(followed, key, obj)
        return obj

    def _read(self, followed: _Followed, key: Key, obj: Object | None) -> Object | None:
        """The newer of what was answered and what is followed by now; news of the older may be over."""
        informer, version = followed.informer, objects.resource_version(obj or {})
        if not informer.synced:
            followed.answers.append(obj)
            return obj
        cached = informer.lister.get(key)
        is_newer = version.isdigit() and int(version) > informer.revision
        return obj if is_newer else cached

    def _follow(self, tasks: TaskGroup, key: Key) -> None:
        """Hear of what differs from what was answered before."""

        def changed(old: Object | None, new: Object | None) -> None:
            if followed.informer.synced:
                self._tell(old, new)

        def synced() -> None:
            """Nothing was heard of until now: not of a change since an answer, nor of a deletion."""
            current = followed.informer.lister.get(key)
            stale = [each for each in followed.answers if _version(each) != _version(current)]
            if stale:
                self._tell(stale[0], current)
            followed.answers.clear()

        selection = Selection(self._resource, key.namespace, field_selector=f"metadata.name={key.name}")
        informer = sdk.Informer(
            self._manager.client, selection, clock=self._manager.clock, rng=self._manager.rng
        )
        informer.add_handler(changed)
        informer.when(lambda: True, synced)
        followed = _Followed(informer, anyio.CancelScope(), self._manager.clock.monotonic())
        self._followed[key] = followed
        tasks.start_soon(_run, followed, self._manager.clock)

    def _tell(self, old: Object | None, new: Object | None) -> None:
        for handler in self._handlers:
            handler(old, new)

    def keep(self, used: Collection[Key]) -> None:
        """Let go of what has not been used for a while and is not among these keys."""
        now = self._manager.clock.monotonic()
        for key, followed in list(self._followed.items()):
            if key in used:
                followed.used_at = now
            elif now - followed.used_at >= LINGER_S:
                followed.scope.cancel()
                del self._followed[key]


@dataclass(slots=True)
class _Followed:
    informer: sdk.Informer
    scope: anyio.CancelScope
    used_at: float
    answers: list[Object | None] = field(default_factory=list)
    """What was read before the watch could tell of its changes."""


def _version(obj: Object | None) -> str:
    return objects.resource_version(obj or {})


async def _run(followed: _Followed, clock: Clock) -> None:
    with followed.scope:
        await clock.sleep(_FOLLOW_AFTER_S)
        await followed.informer.run()


async def _ask(client: Client, resource: Resource, key: Key) -> Object | None:
    try:
        return {"kind": resource.kind, **await client.get(resource, key.name, key.namespace)}
    except errors.NotFound:
        return None


class Sources:
    """Reads caches first; what is not there yet is asked for, since caches may lag behind the pod."""

    def __init__(self, manager: sdk.Manager, clock: Clock) -> None:
        self._manager = manager
        self._client: Client = manager.client
        self._clock = clock
        self._tasks: TaskGroup | None = None
        self._handlers: list[Callable[[Reference], None]] = []
        self._referenced: dict[Resource, Referenced] = {}
        self.config_maps = self._of_kind(resources.CONFIG_MAP)
        self.secrets = self._of_kind(resources.SECRET)
        self.services = manager.informer(resources.SERVICE)
        self.namespaces = manager.informer(resources.NAMESPACE)
        self.endpoint_slices = manager.informer(resources.ENDPOINT_SLICE)
        self.endpoint_slices.add_index(_BY_ADDRESS, _addresses)
        self._tokens: dict[tuple[str, TokenRequest], Token] = {}

    def start(self, tasks: TaskGroup) -> None:
        """From now on what pods have mounted is followed, in these tasks."""
        self._tasks = tasks
        for referenced in self._referenced.values():
            referenced.start(tasks)

    def add_handler(self, handler: Callable[[Reference], None]) -> None:
        """Call `handler` with what has changed, of all that volumes were made from."""
        self._handlers.append(handler)

    def _of_kind(self, resource: Resource) -> Referenced:
        if resource in self._referenced:
            return self._referenced[resource]
        referenced = self._referenced[resource] = Referenced(self._manager, resource)

        def changed(old: Object | None, new: Object | None) -> None:
            for handler in self._handlers:
                handler((resource, objects.key(new or old or {})))

        referenced.add_handler(changed)
        if self._tasks is not None:
            referenced.start(self._tasks)
        return referenced

    async def read(self, resource: Resource, key: Key) -> Object | None:
        """An object that a volume is made from, None if there is none; followed from now on."""
        return await self._of_kind(resource).get(key, follow=True)

    async def of(self, pod: Spec) -> value_sources.Sources:
        """Every ConfigMap and Secret the pod refers to; those it mounts are followed."""
        namespace = objects.namespace(pod)
        maps, secrets = pod_references.of(objects.spec(pod))
        mounted = pod_references.of_volumes(objects.spec(pod))
        return value_sources.Sources(
            {
                name: await self.config_maps.get(Key(namespace, name), follow=name in mounted.config_maps)
                for name in maps
            },
            {
                name: await self.secrets.get(Key(namespace, name), follow=name in mounted.secrets)
                for name in secrets
            },
        )

    def keep(self, references: Collection[Reference]) -> None:
        """Let go of what is not among these: no volume is made from it any more."""
        for resource, referenced in self._referenced.items():
            referenced.keep({key for each, key in references if each == resource})

    async def namespace(self, name: str) -> Object | None:
        cached = self.namespaces.lister.get(Key("", name))
        return cached if cached is not None else await _ask(self._client, resources.NAMESPACE, Key("", name))

    async def runtime_handler(self, name: str) -> str | None:
        """What a RuntimeClass calls its runtime, which never changes; None if there is no such class."""
        obj = await _ask(self._client, resources.RUNTIME_CLASS, Key("", name))
        return None if obj is None else str(obj.get("handler") or "")

    def service_environment(self, pod: Spec) -> dict[str, str]:
        """Variables for the Services of the pod's namespace and for the API server's."""
        namespace = objects.namespace(pod)
        listed = self.services.lister.list(namespace) if _wants_links(pod) else []
        api = self.services.lister.get(Key("default", "kubernetes"))
        if api is not None and namespace != "default":
            listed = [*listed, api]
        return env.service_variables(sorted(listed, key=objects.name))

    def is_endpoint(self, namespace: str, address: str, *, leaving: bool = False) -> bool:
        """Whether a Service of the namespace leads to the address; `leaving`: or did until just now."""
        words = ("ready", "serving") if leaving else ("ready",)
        return any(
            (endpoint.get("conditions") or {}).get(word, True)
            for each in self.endpoint_slices.lister.by_index(_BY_ADDRESS, address)
            if objects.namespace(each) == namespace
            for endpoint in each.get("endpoints") or ()
            if address in endpoint["addresses"]
            for word in words
        )

    async def tokens(self, pod: Spec) -> dict[TokenRequest, str]:
        """A current token for each that the pod's volumes ask for."""
        values: dict[TokenRequest, str] = {}
        for request in registry.token_requests(pod):
            token = self._tokens.get((objects.uid(pod), request))
            if token is None or self._clock.now() >= token.refresh_at:
                token = await self._issue(pod, request)
                self._tokens[objects.uid(pod), request] = token
            values[request] = token.value
        return values

    def next_refresh(self, pod: Spec) -> float | None:
        tokens = [self._tokens.get((objects.uid(pod), request)) for request in registry.token_requests(pod)]
        return min((token.refresh_at for token in tokens if token is not None), default=None)

    def forget(self, uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]

    async def _issue(self, pod: Spec, token_request: TokenRequest) -> Token:
        account = str(objects.spec(pod).get("serviceAccountName") or "default")
        bound = {"apiVersion": "v1", "kind": "Pod", "name": objects.name(pod), "uid": objects.uid(pod)}
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [token_request.audience] if token_request.audience else [],
                "expirationSeconds": token_request.expiration_s,
                "boundObjectRef": bound,
            },
        }
        answer = await self._client.create(
            resources.SERVICE_ACCOUNT, request, objects.namespace(pod), name=account, subresource="token"
        )
        now = self._clock.now()
        lifetime_s = time.parse_rfc3339(answer["status"]["expirationTimestamp"]) - now
        return Token(answer["status"]["token"], now + min(lifetime_s * _REFRESH_SHARE, _REFRESH_MAX_S))


def _addresses(each: Object) -> list[str]:
    return [address for endpoint in each.get("endpoints") or () for address in endpoint["addresses"]]


def _wants_links(pod: Spec) -> bool:
    return bool(objects.spec(pod).get("enableServiceLinks", True))
