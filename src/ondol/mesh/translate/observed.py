"""Which pods are observed how: the Telemetries of a world, remembered for as long as they are the same."""

from __future__ import annotations

from functools import partial

from ondol.mesh.config import MeshConfig
from ondol.mesh.model.kube import Client
from ondol.mesh.policy.selection import Workload
from ondol.mesh.translate import guards, reach, telemetry
from ondol.mesh.translate.cache import Cache
from ondol.mesh.translate.observing import Log, Observation
from ondol.mesh.translate.registry import Registry
from ondol.mesh.translate.telemetry import Observed, Telemetries
from ondol.mesh.translate.world import World


class Observing:
    def __init__(self, config: MeshConfig, cache: Cache) -> None:
        is_text = config.access_log_is_text
        is_logged = config.access_log is not None and config.access_log_is_on
        self._base = Observation(
            config.observe_address,
            config.trace_sampling_percent,
            access_log=config.access_log,
            logs=(Log(is_text),) if is_logged else (),
            log_is_text=is_text,
        )
        self._cache = cache
        self._roots = frozenset({reach.ISTIO_SYSTEM, config.ingress_namespace})
        self._telemetries = Telemetries((), self._roots, self._base)
        self._selector = guards.Selector()

    def use(self, world: World, current: Registry) -> None:
        """Go by the Telemetries of a world from now on."""
        listed = world.of(telemetry.KIND)
        origins = tuple(rule.origin for rule in listed)
        make = partial(Telemetries, listed, self._roots, self._base)
        self._telemetries = self._cache.of_translation.get(("telemetries", origins), make, listed)
        if self._telemetries.names_services:
            self._selector.use(current.services.values())

    def of(self, client: Client) -> Observed:
        """How a pod's calls are observed."""
        if not self._telemetries.rules:
            return self._telemetries.of(_NOBODY)
        services: frozenset[str] = frozenset()
        if self._telemetries.names_services:
            services = frozenset(
                each.key.name for each in self._selector.selecting(client.key.namespace, client.labels)
            )
        return self._telemetries.of(Workload.of(client.key.namespace, client.labels, services))

    @property
    def ingress(self) -> Observed:
        """How those of the ingress gateway are, and of the platform's own parts."""
        return self._telemetries.of(Workload(reach.ISTIO_SYSTEM, reach.INGRESS_SELECTOR))


_NOBODY = Workload("", {})
