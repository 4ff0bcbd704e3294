"""Dead letters as objects: the oldest of each broker and channel are shown as DeadLetters, and obeyed.

The journal has them all, and is the truth; an object is made for each of the first ones. Whoever deletes the
object has the letter forgotten: a finalizer holds it until that is done, though this process be away. Whoever
sets its `redeliver` has the event sent once more.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.base.clock import rfc3339
from ondol.contracts import eventing
from ondol.eventing.delivery.outcome import Outcome
from ondol.eventing.plane import letters, planning
from ondol.eventing.plane.errands import Errands
from ondol.eventing.plane.letters import Letter
from ondol.eventing.plane.reporting import FIELD_MANAGER
from ondol.eventing.plane.serving import RETRIES, Services, is_ours
from ondol.sdk import Children, Controller, Manager, Retry, finalizers, status
from ondol.sdk import children as sdk_children

SHOWN_MAX: Final = 100
"""Dead letters of one broker that have objects; those behind them follow as these go."""
SOURCE_LABEL: Final = f"{eventing.JOURNAL}/source"
"""On a DeadLetter: the Trigger or Subscription that the event was for."""
PARENT_LABEL: Final = f"{eventing.JOURNAL}/parent"
"""On a DeadLetter: the Broker or channel that the event was sent to."""
FINALIZER: Final = f"{eventing.JOURNAL}/letter"
_LETTERS_MANAGER: Final = "ondol-events-letters"
"""Who says on a Broker that letters were dropped; its other conditions are applied by another name."""
_DATA_MAX: Final = 4096
_NAME_MAX: Final = 200
_AT_ONCE: Final = 16
_SENT: Final = "Redelivered"


def document(parent: Object, letter: Letter) -> Object:
    """The object that shows a letter."""
    name = f"{objects.name(parent)[:_NAME_MAX]}-{letter.sequence}"
    source = {"kind": letter.kind, "name": letter.name, "parent": letter.parent}
    return {
        "apiVersion": eventing.DEAD_LETTER.api_version,
        "kind": eventing.DEAD_LETTER.kind,
        "metadata": {
            "name": name,
            "namespace": objects.namespace(parent),
            "labels": {SOURCE_LABEL: letter.name[:63], PARENT_LABEL: letter.parent[:63]},
            "finalizers": [FINALIZER],
            "ownerReferences": [objects.controller_reference(parent)],
        },
        "spec": {
            "source": source,
            "sequence": letter.sequence,
            "buriedAt": rfc3339(letter.buried_at_s),
            "event": {"attributes": dict(letter.event.attributes), **_data(letter.event.data or b"")},
            "reason": {
                "destination": letter.destination,
                "code": letter.code,
                "answer": letter.answer.decode(errors="replace"),
                "attempts": letter.attempts,
            },
        },
    }


def _data(data: bytes) -> Mapping[str, Any]:
    shown = data[:_DATA_MAX]
    cut = {"truncated": True} if len(data) > _DATA_MAX else {}
    try:
        text = shown.decode()
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(shown).decode(), **cut}
    return {"data": text, **cut} if data else {}


class DeadLetterServer:
    """Keeps the DeadLetters of Brokers, or of channels, in step with the journal."""

    def __init__(self, manager: Manager, services: Services, parent: Resource) -> None:
        self._resource = parent
        self._services = services
        self._client = manager.client
        self._parents = manager.informer(parent)
        self._shown = manager.informer(eventing.DEAD_LETTER)
        self._children = Children(manager.client, field_manager=FIELD_MANAGER)
        self._errands = Errands(manager.clock, manager.rng, at_once=_AT_ONCE)
        self._status = status.Writer(
            manager.client, eventing.DEAD_LETTER, field_manager=FIELD_MANAGER, conditions=(_SENT,)
        )
        self._parent_status = status.Writer(
            manager.client, parent, field_manager=_LETTERS_MANAGER, conditions=(eventing.DEAD_LETTERS_KEPT,)
        )
        self._clock = manager.clock
        self._controller = Controller(
            f"events-{parent.kind.lower()}-letters", self.reconcile, backoff=RETRIES
        )
        self._answered: dict[str, int] = {}
        """The generation of each letter, by uid, that has no wish any more: the cache may lag behind."""
        self._dropped: dict[Key, int] = {}
        """How many letters there was no room for, by parent, since this process began."""

    def controller(self) -> Controller:
        self._controller.watch(self._parents)
        self._controller.watch(self._shown, self._parents_of)
        return self._controller

    async def run(self) -> None:
        """Send once more what the reconciler begins."""
        await self._errands.run()

    def buried(self, parent: Key) -> None:
        """There is another dead letter."""
        self._controller.enqueue(parent, 1.0)

    def dropped(self, parent: Key, count: int) -> None:
        """So many of the oldest had to go."""
        self._dropped[parent] = self._dropped.get(parent, 0) + count
        self._controller.enqueue(parent)

    def _parents_of(self, letter: Object) -> Iterable[Key]:
        owner = objects.controller_of(letter)
        if owner is None or owner["kind"] != self._resource.kind:
            return ()
        return (Key(objects.namespace(letter), str(owner["name"])),)

    async def reconcile(self, key: Key) -> None:
        parent = self._parents.lister.get(key)
        if parent is None or not self._serves(parent):
            self._children.forget(key)
            self._dropped.pop(key, None)
            for letter in self._letters(key):
                if objects.is_deleting(letter):  # what is kept of it goes with its parent's
                    await self._release(letter)
            return
        if not conditions.is_true(parent, eventing.PLANE_CONDITIONS[self._resource][0]):
            return  # its streams are not there yet
        stream = planning.dead_stream(objects.uid(parent))
        for letter in self._letters(key):
            if objects.is_deleting(letter) and objects.is_controlled_by(letter, parent):
                await self._services.journal.erase(stream, int(objects.spec(letter)["sequence"]))
            if objects.is_deleting(letter):
                await self._release(letter)
        await self._show(key, parent, stream)

    def _serves(self, parent: Object) -> bool:
        if objects.is_deleting(parent):
            return False
        return self._resource != eventing.BROKER or is_ours(parent)

    def _letters(self, parent: Key) -> list[Object]:
        """Those of a parent of this name, also of former ones."""
        return [
            each for each in self._shown.lister.list(parent.namespace) if parent in self._parents_of(each)
        ]

    async def _release(self, letter: Object) -> None:
        """Let the object go."""
        self._errands.end(objects.key(letter))
        self._answered.pop(objects.uid(letter), None)
        await finalizers.remove(self._client, eventing.DEAD_LETTER, letter, FINALIZER)

    async def _show(self, key: Key, parent: Object, stream: str) -> None:
        kept = [letters.letter(each) for each in await self._services.journal.read(stream, limit=SHOWN_MAX)]
        family = self._children.of(parent)
        live = [each for each in self._letters(key) if objects.is_controlled_by(each, parent)]
        by_name = {objects.name(each): each for each in live if not objects.is_deleting(each)}
        for letter in kept:
            desired = document(parent, letter)
            shown = by_name.pop(objects.name(desired), None)
            if shown is None or FINALIZER not in objects.finalizers(shown):
                await family.apply(eventing.DEAD_LETTER, desired, shown)
                continue
            family.keep(eventing.DEAD_LETTER, objects.key(shown))
            self._obey(key, stream, letter, shown)
        for surplus in by_name.values():
            await self._release(surplus)  # it is gone from the journal: there is nothing to forget
        await family.prune(eventing.DEAD_LETTER, by_name.values())
        await self._tell(key, parent, are_there=bool(kept))

    async def _tell(self, key: Key, parent: Object, *, are_there: bool) -> None:
        """Say on the parent that letters were dropped, until somebody has dealt with all that are left."""
        listed, count = conditions.of(parent), self._dropped.get(key, 0)
        if not are_there:
            self._dropped.pop(key, None)
            listed = conditions.remove(listed, eventing.DEAD_LETTERS_KEPT)
        elif count:
            bound = f"{planning.dead_letters(parent).bytes_max} bytes ({planning.DEAD_LETTERS_BYTES})"
            message = (
                f"{count} dead letters were dropped, the oldest first: all of them may have {bound}. "
                "Delete some, have them sent again, or name a sink for them"
            )
            listed = conditions.set(
                listed,
                eventing.DEAD_LETTERS_KEPT,
                conditions.FALSE,
                reason="DeadLettersDropped",
                message=message,
                now=self._clock.now(),
            )
        await self._parent_status.write(parent, {"conditions": listed})

    def _obey(self, parent: Key, stream: str, letter: Letter, shown: Object) -> None:
        """Have the event sent once more if that is wished, as an errand: it may take long."""
        is_answered = objects.generation(shown) <= self._answered.get(objects.uid(shown), 0)
        if not objects.spec(shown).get("redeliver") or is_answered:
            return

        def ended(after_s: float) -> None:
            self._controller.enqueue(parent, after_s)

        self._errands.begin(
            objects.key(shown), objects.uid(shown), lambda: self._redeliver(stream, letter, shown), ended
        )

    async def _redeliver(self, stream: str, letter: Letter, shown: Object) -> None:
        """Send the event once more: the letter goes if it is taken, else the wish is over."""
        dispatcher = self._services.dispatcher
        if not dispatcher.serves(letter.consumer):
            raise Retry(f"{letter.kind} {letter.name} is not served", after_s=10.0)
        attempt = await dispatcher.attempt(letter.consumer, letter.event, letter.handed_on)
        if attempt.outcome is Outcome.DELIVERED:
            await self._services.journal.erase(stream, letter.sequence)
            await sdk_children.delete(self._client, eventing.DEAD_LETTER, shown)
            return
        answer = attempt.body[:200].decode(errors="replace")
        listed = conditions.set(
            conditions.of(shown),
            _SENT,
            conditions.FALSE,
            reason="NotTaken",
            message=f"{attempt.destination} answered {attempt.code}: {answer}",
            now=self._clock.now(),
        )
        await self._status.write(shown, {"conditions": listed})
        wish = {"metadata": {"uid": objects.uid(shown)}, "spec": {"redeliver": False}}
        try:
            written = await self._client.patch(
                eventing.DEAD_LETTER, objects.name(shown), objects.namespace(shown), patch=wish
            )
        except errors.NotFound:
            return
        self._answered[objects.uid(shown)] = objects.generation(written)
