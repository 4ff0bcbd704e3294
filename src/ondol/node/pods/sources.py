"""What pods refer to: ConfigMaps, Secrets, Services, Namespaces and service account tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ondol import sdk
from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import clock as time
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.node.pods import env, volumes
from ondol.node.pods.model import Spec

_BY_ADDRESS: Final = "address"
_REFRESH_SHARE: Final = 0.8
_REFRESH_MAX_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Token:
    value: str
    refresh_at: float


class Sources:
    """Reads caches first; what is not there yet is asked for, since caches may lag behind the pod."""

    def __init__(self, manager: sdk.Manager, clock: Clock) -> None:
        self._client: Client = manager.client
        self._clock = clock
        self.config_maps = manager.informer(resources.CONFIG_MAP)
        self.secrets = manager.informer(resources.SECRET)
        self.services = manager.informer(resources.SERVICE)
        self.namespaces = manager.informer(resources.NAMESPACE)
        self.endpoint_slices = manager.informer(resources.ENDPOINT_SLICE)
        self.endpoint_slices.add_index(_BY_ADDRESS, _addresses)
        self._tokens: dict[tuple[str, volumes.TokenRequest], Token] = {}

    async def of(self, pod: Spec) -> env.Sources:
        """Every ConfigMap and Secret the pod refers to."""
        namespace = objects.namespace(pod)
        maps, secrets = volumes.references(pod)
        return env.Sources(
            {name: await self._find(self.config_maps, Key(namespace, name)) for name in maps},
            {name: await self._find(self.secrets, Key(namespace, name)) for name in secrets},
        )

    async def namespace(self, name: str) -> Object | None:
        return await self._find(self.namespaces, Key("", name))

    async def _find(self, informer: sdk.Informer, key: Key) -> Object | None:
        found = informer.lister.get(key)
        return found if found is not None else await self._ask(informer.resource, key)

    async def _ask(self, resource: Resource, key: Key) -> Object | None:
        try:
            return {"kind": resource.kind, **await self._client.get(resource, key.name, key.namespace)}
        except errors.NotFound:
            return None

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

    async def tokens(self, pod: Spec) -> dict[volumes.TokenRequest, str]:
        """A current token for each that the pod's volumes ask for."""
        found: dict[volumes.TokenRequest, str] = {}
        for asked in volumes.token_requests(pod):
            held = self._tokens.get((objects.uid(pod), asked))
            if held is None or self._clock.now() >= held.refresh_at:
                held = await self._issue(pod, asked)
                self._tokens[objects.uid(pod), asked] = held
            found[asked] = held.value
        return found

    def next_refresh(self, pod: Spec) -> float | None:
        held = [self._tokens.get((objects.uid(pod), asked)) for asked in volumes.token_requests(pod)]
        return min((token.refresh_at for token in held if token is not None), default=None)

    def forget(self, uid: str) -> None:
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]

    async def _issue(self, pod: Spec, asked: volumes.TokenRequest) -> Token:
        account = str(objects.spec(pod).get("serviceAccountName") or "default")
        bound = {"apiVersion": "v1", "kind": "Pod", "name": objects.name(pod), "uid": objects.uid(pod)}
        request: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [asked.audience] if asked.audience else [],
                "expirationSeconds": asked.expiration_s,
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
