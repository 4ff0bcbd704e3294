"""The workers of all pods of this node: who gets one, what each hears of, and what is looked after for all.

It knows the machine only by its ports, so that a simulation runs it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from anyio.abc import TaskGroup

from ondol import sdk
from ondol.api import objects, pods
from ondol.api.objects import Key, Object
from ondol.base import log
from ondol.node import logs
from ondol.node.pods import admission, decide, lifecycle, model, port_admission, resizing, storage
from ondol.node.pods.host import Host
from ondol.node.pods.model import Record, Spec
from ondol.node.pods.references import ReferenceIndex
from ondol.node.pods.worker import PodWorker
from ondol.node.pressure import ranking
from ondol.node.pressure.manager import Pressure
from ondol.node.volumes.lookup import Reference

_WORKER_RETRY_S: Final = 5.0

_log = log.get("node")


class PodWorkers:
    """`start` takes up what an earlier agent left, and follows the pods of `informer` from then on."""

    def __init__(self, host: Host, informer: sdk.Informer) -> None:
        self._host = host
        self._informer = informer
        self._by_uid: dict[str, PodWorker] = {}
        self._references = ReferenceIndex()
        self._tasks: TaskGroup | None = None
        self._pressure = Pressure(host, lambda: self)

    @property
    def conditions(self) -> frozenset[str]:
        """Of the Node, what the machine is short of."""
        return self._pressure.conditions

    async def collect_images(self) -> None:
        """Remove images that nothing uses where the disk is too full."""
        await self._host.machine.free_images(self._pressure.used_images(), is_urgent=False)

    def __iter__(self) -> Iterator[PodWorker]:
        return iter(list(self._by_uid.values()))

    def named(self, key: Key) -> PodWorker | None:
        """The worker of the pod that has this name; once it is gone from the API, of the one that had it."""
        pod = self._informer.lister.get(key)
        workers = [worker for worker in self._by_uid.values() if objects.key(worker.pod) == key]
        current = [worker for worker in workers if pod is not None and worker.uid == objects.uid(pod)]
        return next(reversed(current or workers), None)

    async def start(self, tasks: TaskGroup) -> None:
        """Match the disk, the runtime and the API: adopt what belongs to a pod, remove what does not."""
        self._tasks = tasks
        host = self._host
        host.sources.add_handler(self._source_changed)
        records = {record.uid: self._current(record) for record in host.records.all()}
        before = self._listed()
        await host.machine.adopt(records, set(before))
        # Until the handler is there nobody hears of a deletion: from this list on nothing is awaited.
        current = self._listed()
        gone = {uid: _remembered(record) for uid, record in records.items()} | before
        for uid, pod in current.items():
            self._begin(pod, records.get(uid))
        for uid, pod in gone.items():
            if uid not in current:
                self._begin(pod, records.get(uid), has_vanished=True)
        self._informer.add_handler(self._pod_changed)

    def _listed(self) -> dict[str, Object]:
        """The pods that the API has now, by uid."""
        return {objects.uid(pod): pod for pod in self._informer.lister.list()}

    def _current(self, record: Record) -> Record:
        """The record as it is true now: nothing runs of what ran before the machine started anew."""
        host = self._host
        has_sandbox = not record.address or host.machine.has_sandbox(record.uid)
        if record.boot == host.boot and (has_sandbox or not record.has_sandbox):
            return record
        renewed = model.rebooted(record, host.boot, host.clock.now())
        try:
            host.records.save(renewed)
        except OSError as error:  # a full disk, say: the former record leads here again
            _log.warning("record_not_renewed", pod=f"{record.namespace}/{record.name}", error=str(error))
        return renewed

    # News

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            worker = self._by_uid.get(objects.uid(new))
            if worker is not None:
                worker.update(new)
                self._references.put(new)
                if worker.wants_resize:
                    self._allocate()
            else:
                self._begin(new, None)
        if old is not None and (new is None or objects.uid(new) != objects.uid(old)):
            worker = self._by_uid.get(objects.uid(old))
            if worker is not None:
                worker.vanish()

    def _source_changed(self, reference: Reference) -> None:
        named = self._references.referring_to(reference)
        for worker in self:
            if worker.uid in named or reference in worker.references:
                worker.refresh_volumes()

    async def images_changed(self) -> None:
        """Other images are here than before: who waits for one that has come is tried again at once."""
        awaited = set[str]().union(*(worker.awaited_images() for worker in self._by_uid.values()))
        arrived = {image for image in sorted(awaited) if await self._host.machine.has_image(image)}
        for worker in self if arrived else ():
            worker.images_arrived(arrived)

    # Workers

    def _begin(self, pod: Object, record: Record | None, *, has_vanished: bool = False) -> None:
        """`has_vanished`: it is gone from the API, only what is left of it is to be ended."""
        is_ending = has_vanished or objects.is_deleting(pod)
        if self._tasks is None or (pods.is_terminal(pod) and record is None and not is_ending):
            return  # it has ended, and nothing of it is here: it must not run a second time
        worker = PodWorker(self._host, pod, _with_api_failure(pod, record))
        if has_vanished:
            worker.vanish()
        elif record is None and not is_ending:
            self._admit(worker)
            self._keep_ports_apart(worker)
        self._by_uid[worker.uid] = worker
        self._references.put(pod)
        self._tasks.start_soon(self._drive, worker)

    def _admit(self, worker: PodWorker) -> None:
        """Whoever names its node itself passes by the scheduler, but not by what the node takes.

        A pod that asked for more than there is would otherwise count with the scheduler for as long as it
        likes, and no other pod would find room.
        """
        if refusal := ranking.refusal(worker.pod, self._pressure.conditions):
            worker.fail(decide.EVICTED, f"Pod was rejected: {refusal}")
            return
        lack = admission.lack(worker.pod, self._others(worker), self._host.allocatable)
        if lack is not None:
            worker.fail(f"OutOf{lack.resource}", f"Pod was rejected: Node didn't have enough {lack}")

    def _others(self, worker: PodWorker) -> list[Spec]:
        """The pods that take of the node beside one, in the sizes that it has taken on for them."""
        others = (other for other in self._by_uid.values() if other is not worker and not other.is_over)
        return [other.allocated for other in others]

    def _allocate(self) -> None:
        """Let pods that ask for another size have it, as far as there is room, each in its turn."""
        waiting = [worker for worker in self._by_uid.values() if worker.wants_resize]
        for worker in sorted(waiting, key=lambda each: resizing.turn(each.pod, each.record)):
            reason, message = resizing.pending(worker.pod, self._others(worker), self._host.allocatable)
            worker.resize(reason, message)

    async def _drive(self, worker: PodWorker) -> None:
        """Run the worker to its end; one that fails unexpectedly starts anew from the disk."""
        try:
            await worker.run()
            del self._by_uid[worker.uid]
            self._references.remove(worker.uid)
            self._allocate()
            return
        except Exception as error:  # noqa: BLE001 - one pod's defect must not end all others
            leaves = [str(leaf) for leaf in _leaves(error)]
            _log.error("pod_worker_failed", pod=str(objects.key(worker.pod)), error=leaves, exc_info=error)
        await self._host.clock.sleep(_WORKER_RETRY_S)
        self._begin_again(worker)

    def _begin_again(self, failed: PodWorker) -> None:
        """The name may be another pod's by now; and the worker that failed takes nothing of the node."""
        del self._by_uid[failed.uid]
        self._references.remove(failed.uid)
        record = next((r for r in self._host.records.all() if r.uid == failed.uid), None)
        pod = self._listed().get(failed.uid)
        self._begin(failed.pod if pod is None else pod, record, has_vanished=pod is None)

    def _keep_ports_apart(self, worker: PodWorker) -> None:
        """A pod that names its node itself takes no port from one that is there already."""
        others = (other.pod for other in self._by_uid.values() if not other.is_over)
        if refusal := port_admission.refusal(worker.pod, others):
            worker.fail(port_admission.REASON, refusal)

    # House-keeping

    async def housekeeping(self) -> None:
        """One turn: logs, storage, records a full disk had no room for, sources nobody uses any more."""
        self._allocate()
        await self._pressure.look()
        for worker in self:
            worker.save_again()
            await self._rotate_logs(worker)
            await self._hold_to_its_storage(worker)
        self._host.sources.keep(frozenset[Reference]().union(*(worker.references for worker in self)))

    async def _hold_to_its_storage(self, worker: PodWorker) -> None:
        if not storage.is_limited(worker.pod) or not worker.record.is_any_running:
            return
        try:
            usage = await self._host.machine.measured(worker.pod, worker.record)
        except OSError as error:
            _log.warning("storage_not_measured", pod=str(objects.key(worker.pod)), error=str(error))
            return
        if message := storage.excess(worker.pod, usage):
            worker.fail(decide.EVICTED, message)

    async def _rotate_logs(self, worker: PodWorker) -> None:
        config = self._host.config
        for name, container in worker.record.containers.items():
            attempt = container.current
            if attempt is None or attempt.handle is None or not container.is_running:
                continue
            path = config.log_path(worker.uid, name, attempt.number)
            if not logs.due_for_rotation(iter([path]), config.log_bytes_max):
                continue
            try:
                logs.set_aside(path, self._host.clock.now(), config.log_files_max)
                await self._host.runtime.reopen_log(attempt.handle)
            except OSError as error:
                _log.warning("log_not_rotated", path=str(path), error=str(error))


def _with_api_failure(pod: Object, record: Record | None) -> Record | None:
    """The record with the failure that the API knows of, should the disk have had no room for it."""
    status = objects.status(pod)
    is_lost = status.get("phase") == "Failed" and status.get("reason") and record is not None
    if not is_lost or record is None or record.failed_reason:
        return record
    return lifecycle.failed(record, str(status["reason"]), str(status.get("message", "")))


def _remembered(record: Record) -> Object:
    """Enough of a pod that is gone from the API to end what is left of it."""
    names = sorted(record.containers)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": record.name, "namespace": record.namespace, "uid": record.uid},
        "spec": {"containers": [{"name": name, "image": ""} for name in names]},
    }


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
