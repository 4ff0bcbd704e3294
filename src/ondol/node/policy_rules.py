"""Keeps the kernel's table of NetworkPolicies in step with the objects and with the pods that are here.

A pod begins once its policies are in the kernel, and its address is another's only after it has left the
table: `admit` and `release` return then. What cannot be programmed keeps new pods waiting; what was, stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol import sdk
from ondol.api import objects, pods, resources
from ondol.api.objects import Object
from ondol.base import errors, log
from ondol.base.signal import Signal
from ondol.node.config import NodeConfig
from ondol.node.network import policies, policy_table
from ondol.node.network.kernel_table import KernelTable
from ondol.node.network.nft_table import Table
from ondol.node.network.policies import NamedPort, Pod
from ondol.node.pods.model import Record

_DEBOUNCE_S: Final = 0.01
_RETRY_S: Final = 1.0
_RESOLVER: Final = ("kube-system", {"k8s-app": "kube-dns"})
"""The namespace and labels by which public policies know the cluster's name server."""

_log = log.get("node.network")


class PolicyRules:
    """`listen` before the informers start; `keep` does the work from when they have all objects."""

    def __init__(
        self,
        config: NodeConfig,
        manager: sdk.Manager,
        pods: sdk.Informer,
        namespaces: sdk.Informer,
        kernel: KernelTable | None = None,
    ) -> None:
        self._instance = config.instance
        self._resolver = _resolver(str(config.gateway), config.dns_port)
        self._clock = manager.clock
        self._policies = manager.informer(resources.NETWORK_POLICY)
        self._pods = pods
        self._namespaces = namespaces
        self._kernel = kernel or KernelTable()
        self._here: dict[str, _Here] = {}
        """By uid, the pods that have an address now."""
        self._changed = Signal()
        self._tried = Signal()
        self._asked = 1
        self._done = 0
        """How often was asked for a table, the first included that is put unasked; what is in the kernel."""
        self._refusal: tuple[int, str] = (0, "")
        """The latest that could not be had, and why."""

    def listen(self) -> None:
        self._policies.add_handler(lambda _old, _new: self._changed.set())
        self._namespaces.add_handler(self._namespace_changed)
        self._pods.add_handler(self._pod_changed)

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or objects.labels(old) != objects.labels(new):
            self._changed.set()

    def _pod_changed(self, _old: Object | None, new: Object | None) -> None:
        """Only of pods that are here, and only what policies look at."""
        here = None if new is None else self._here.get(objects.uid(new))
        if new is None or here is None:
            return  # what is gone from the API keeps its address until it is released
        if here.document is None or here.looks(here.document) != here.looks(new):
            self._changed.set()
        here.document = new

    # Pods that come and go

    def adopt(self, record: Record) -> None:
        """A pod that an earlier agent left here."""
        self._here[record.uid] = _Here(record.namespace, record.address, self._document(record.uid))

    async def admit(self, pod: Mapping[str, Any], address: str) -> None:
        """Return once the kernel holds what policies say of the pod; `HostError` if it cannot.

        By the newest of its object: it may have been labelled since the worker was told of it.
        """
        document = self._document(objects.uid(pod)) or dict(pod)
        self._here[objects.uid(pod)] = _Here(objects.namespace(pod), address, document)
        await self._programmed()

    async def release(self, uid: str) -> None:
        """Return once the kernel knows nothing of the pod; `HostError` if that cannot be."""
        if self._here.pop(uid, None) is not None:
            await self._programmed()

    def _document(self, uid: str) -> Object | None:
        listed = self._pods.lister.list() if self._pods.synced else ()
        return next((pod for pod in listed if objects.uid(pod) == uid), None)

    async def _programmed(self) -> None:
        if self._done and not self._policies.lister.list():
            return  # without policies the table is empty, whoever is here
        self._asked += 1
        number = self._asked
        self._changed.set()
        while self._done < number:
            upcoming = self._tried.next
            if self._refusal[0] >= number:
                raise errors.HostError(
                    f"NetworkPolicies cannot be enforced: {self._refusal[1]}",
                    remedy="see that nftables works; it is tried again every second",
                )
            await upcoming.wait()

    # The table

    async def look_again(self) -> None:
        """Check what no object shows: somebody may have removed the table."""
        try:
            is_there = await self._kernel.check()
        except OSError as error:
            _log.warning("policies_not_checked", error=str(error))
            return
        if not is_there:
            self._changed.set()

    async def keep(self) -> None:
        """Put the table in place whenever it may differ, at most once a debounce."""
        self._changed.set()
        while True:
            await self._changed.wait()
            await self._clock.sleep(_DEBOUNCE_S)
            self._changed.clear()
            asked = self._asked
            try:
                await self._kernel.put(self._table())
            except (errors.HostError, OSError) as error:
                _log.error("policies_not_programmed", error=str(error))
                self._refusal = (asked, str(error))
                self._tried.set()
                await self._clock.sleep(_RETRY_S)
                self._changed.set()
                continue
            self._done = asked
            self._tried.set()

    def _table(self) -> Table:
        namespaces = {objects.name(each): objects.labels(each) for each in self._namespaces.lister.list()}
        here = [pod for each in self._here.values() if (pod := each.pod()) is not None]
        listed = self._policies.lister.list()
        return policy_table.table(self._instance, policies.compiled(listed, here, namespaces, self._resolver))


class _Here:
    """A pod with an address, as the API last told of it; without a document where it never did."""

    def __init__(self, namespace: str, address: str, document: Object | None) -> None:
        self._namespace = namespace
        self._address = address
        self.document = document

    def pod(self) -> Pod | None:
        """None for one that has ended: it is nobody's peer."""
        if self.document is None:
            return Pod(self._namespace, self._address, None)
        return self.looks(self.document)

    def looks(self, document: Object) -> Pod | None:
        return None if pods.is_terminal(document) else policies.pod(document, self._address)


def _resolver(address: str, port: int) -> Pod:
    namespace, labels = _RESOLVER
    ports = (NamedPort("dns", "UDP", port), NamedPort("dns-tcp", "TCP", port))
    return Pod(namespace, address, labels, ports)
