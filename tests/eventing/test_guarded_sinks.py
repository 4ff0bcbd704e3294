"""Sinks and EventTransforms, where tokens are asked for: the same rules as at brokers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from tests.eventing.calling import call, header
from tests.eventing.eventing_world import NAMESPACE, Scene, not_true, play
from tests.eventing.kafka_played import PlayedKafka
from tests.eventing.sources_world import Recorder

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import beside
from ondol.eventing.beside import Beside
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import new
from ondol.eventing.configuration.live import Live
from ondol.eventing.kafka.records import Partition
from ondol.eventing.plane.guard import Guard
from ondol.eventing.plane.reviews import Reviews
from ondol.eventing.sinks import addressed
from ondol.web.application import Asgi

EVENT = new(id="1", source="/s", type="t")
HOST = "shape-jsonata.default.svc.cluster.local"
POD = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
JOB = {"spec": {"template": {"spec": POD}}}


class Register:
    """Tokens are `<audience> <subject>`."""

    def __init__(self) -> None:
        self.is_away = False

    async def subject(self, token: str, audience: str) -> str:
        if self.is_away:
            raise errors.Unavailable("the API server is away", retry_after_s=1)
        of, _, subject = token.partition(" ")
        return subject if of == audience else ""


Story = Callable[[Scene, Beside, Register], Awaitable[None]]


def _play(story: Story) -> None:
    async def run(scene: Scene) -> None:
        kafka = PlayedKafka(scene.world.clock)
        kafka.logs[Partition("t", 0)] = []
        manager, register = scene.world.manager("ondol-events"), Register()
        guard = Guard(manager, Live(manager), cast("Reviews", register))
        parts = beside.add_to(manager, Recorder(scene.world.clock), guard, lambda: kafka)
        await scene.world.start(manager)
        await scene.world.run_until_stable()
        patch = {"data": {"authentication-oidc": "enabled"}}
        await scene.client.patch(resources.CONFIG_MAP, "config-features", eventing.NAMESPACE, patch=patch)
        try:
            await story(scene, parts, register)
        finally:
            await parts.evaluator.aclose()

    play(run)


async def _send(
    application: Asgi, path: str, token: str = "", *, method: str = "POST", host: str = ""
) -> tuple[int, Any]:
    headers, body = http.encode(EVENT)
    listed = [*headers, (b"host", host.encode())]
    if token:
        listed.append((b"authorization", f"Bearer {token}".encode()))
    answer = await call(application, method, path, listed, body)
    return answer.status, header(answer, b"location")


def _subject(namespace: str) -> str:
    return f"system:serviceaccount:{namespace}:app"


def test_a_job_sink_asks_who_it_is() -> None:
    """Also whoever asks after a Job; while nobody can be verified it is 503."""
    audience = "sinks.knative.dev/jobsink/default/work"

    async def story(scene: Scene, parts: Beside, register: Register) -> None:
        await scene.create(eventing.JOB_SINK, "work", {"job": JOB})
        sink = await scene.settled(eventing.JOB_SINK, "work")
        assert objects.status(sink)["address"]["audience"] == audience
        application, own = parts.services[eventing.JOB_SINK_SERVICE], f"{audience} {_subject(NAMESPACE)}"
        assert await _send(application, "/default/work") == (401, None)
        assert await _send(application, "/default/work", f"another {_subject(NAMESPACE)}") == (401, None)
        assert await _send(application, "/default/work", f"{audience} {_subject('other')}") == (403, None)
        status, location = await _send(application, "/default/work", own)
        assert status == 202
        assert (await _send(application, location, method="GET"))[0] == 401
        assert (await _send(application, location, f"{audience} {_subject('other')}", method="GET"))[0] == 403
        assert (await _send(application, location, own, method="GET"))[0] == 202
        assert (await _send(application, "/default/work", method="OPTIONS"))[0] == 200
        register.is_away = True
        assert (await _send(application, "/default/work", own))[0] == 503

    _play(story)


def test_every_sink_asks_who_it_is() -> None:
    """Those of the log and of Kafka like JobSinks: no kind takes events from whoever comes."""

    async def story(scene: Scene, parts: Beside, _register: Register) -> None:
        log: Object = {"log": {"level": "INFO"}}
        topic: Object = {"topic": "t", "bootstrapServers": ["kafka.test:9092"]}
        for kind, spec, taken in ((eventing.INTEGRATION_SINK, log, 204), (eventing.KAFKA_SINK, topic, 202)):
            await scene.create(kind, "s", spec)
            await scene.world.advance(10)
            sink = await scene.client.get(kind, "s", NAMESPACE)
            audience = objects.status(sink)["address"]["audience"]
            assert audience == f"{kind.group}/{kind.kind.lower()}/default/s"
            application = parts.services[addressed.SERVICES[kind]]
            assert (await _send(application, "/default/s"))[0] == 401
            assert (await _send(application, "/default/s", f"{audience} {_subject('other')}"))[0] == 403
            assert (await _send(application, "/default/s", f"{audience} {_subject(NAMESPACE)}"))[0] == taken

    _play(story)


def test_a_policy_about_a_sink_allows_what_passes_its_filters() -> None:
    """Who only asks after a Job sends no event, and may if any of its events may pass."""
    audience = "sinks.knative.dev/jobsink/default/work"

    async def story(scene: Scene, parts: Beside, _register: Register) -> None:
        await scene.create(eventing.JOB_SINK, "work", {"job": JOB})
        spec = {"from": [{"sub": _subject("other")}], "filters": [{"exact": {"type": "no-such-type"}}]}
        await scene.create(eventing.EVENT_POLICY, "p", spec)
        assert not_true(await scene.settled(eventing.EVENT_POLICY, "p")) == {}
        application, token = parts.services[eventing.JOB_SINK_SERVICE], f"{audience} {_subject('other')}"
        location = "/namespaces/default/name/work/sources/s/ids/1"
        assert (await _send(application, "/default/work", token))[0] == 403
        assert (await _send(application, location, token, method="GET"))[0] == 404

    _play(story)


def test_a_transform_asks_who_it_is_by_either_address() -> None:
    """By its host, and by its path, which it has by TLS."""
    audience = "eventing.knative.dev/eventtransform/default/shape"

    async def story(scene: Scene, parts: Beside, _register: Register) -> None:
        await scene.create(eventing.EVENT_TRANSFORM, "shape", {"jsonata": {"expression": "$"}})
        await scene.world.advance(10)
        by_path = parts.services[eventing.TRANSFORM_SERVICE]
        for application, path, host in ((parts.transforms, "/", HOST), (by_path, "/default/shape", "x")):
            assert (await _send(application, path, host=host))[0] == 401
            other = f"{audience} {_subject('other')}"
            assert (await _send(application, path, other, host=host))[0] == 403
        assert (await _send(parts.transforms, "/", host="other-jsonata.default.svc"))[0] == 404
        assert (await _send(by_path, "/default/nothing", host="x"))[0] == 404

    _play(story)
