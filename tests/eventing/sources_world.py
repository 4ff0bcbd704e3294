"""For stories about sources: somebody who takes what they send, and the adapters beside the control plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.eventing.eventing_world import Scene, play

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Answer, Target
from ondol.eventing.kafka import loading
from ondol.eventing.kafka.loading import Load
from ondol.eventing.sources import wiring


class Recorder:
    """A way out that ends here: it notes what was sent and when, and answers as it is told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.events: list[tuple[float, Event, Target]] = []
        self.taken: list[Event] = []
        """Those that were accepted."""
        self.answers: list[int] = []
        """Statuses for the next requests; 0 is nobody who answers. Then all are accepted."""

    async def send(self, event: Event, target: Target) -> Answer:
        status = self.answers.pop(0) if self.answers else 202
        self.events.append((self._clock.now(), event, target))
        if not status:
            raise errors.Unavailable("nobody is there")
        if 200 <= status < 300:
            self.taken.append(event)
        return Answer(status)

    @property
    def ids(self) -> list[str]:
        return [event.id for _, event, _ in self.events]


Story = Callable[[Scene, Recorder], Awaitable[None]]


def play_sources(story: Story, *, seed: int = 0, kafka: Callable[[Clock], Load] | None = None) -> None:
    """Play a story with the adapters of the process `events` in place of a played data plane.

    `kafka` makes the loader of a Kafka client; without it there is none.
    """

    async def run(scene: Scene) -> None:
        recorder = Recorder(scene.world.clock)
        manager = scene.world.manager("ondol-events")
        load = kafka(scene.world.clock) if kafka is not None else loading.missing
        wiring.add_adapters_to(manager, recorder, load)
        await scene.world.start(manager)
        await story(scene, recorder)

    play(run, seed=seed, plane=False)
