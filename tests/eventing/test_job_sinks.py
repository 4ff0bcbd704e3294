"""JobSinks: a Job for each event, made once, and what its sender hears of it."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.eventing.calling import call, header, roomy
from tests.eventing.eventing_world import NAMESPACE, Scene, not_true, play

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import applications
from ondol.eventing.cloudevents import http, json_format
from ondol.eventing.cloudevents.event import new
from ondol.eventing.exchange import Answer
from ondol.eventing.sinks import jobs
from ondol.eventing.sinks.job_sink import JobSinks
from ondol.eventing.sinks.jobs import Place
from ondol.web.application import Asgi

EVENT = new(id="a/1", source="/orders?x=ü", type="t", data=b'{"a":1}', datacontenttype="application/json")


def _job(**container: Any) -> Object:
    main = {"name": "main", "image": "app:1", **container}
    return {
        "metadata": {"labels": {"team": "a"}},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [main]}}},
    }


Story = Callable[[Scene, Asgi], Awaitable[None]]


def _play(story: Story) -> None:
    async def run(scene: Scene) -> None:
        manager = scene.world.manager("ondol-events")
        sinks = JobSinks(manager)
        await scene.world.start(manager)
        await story(scene, applications.application(sinks.handle, roomy(scene.world.clock), bytes_max=5000))

    play(run)


async def _post(application: Asgi, path: str = "/default/work", event: Any = EVENT) -> Answer:
    return await call(application, "POST", path, *http.encode(event), pieces=3)


def test_an_event_becomes_a_job() -> None:
    """With the event in a file, and its variables; the same event again is the same Job."""

    async def story(scene: Scene, application: Asgi) -> None:
        await scene.create(eventing.JOB_SINK, "work", {"job": _job()})
        sink = await scene.settled(eventing.JOB_SINK, "work")
        assert not_true(sink) == {}
        status = objects.status(sink)
        assert status["address"]["url"] == "http://job-sink.knative-eventing.svc.cluster.local/default/work"
        assert status["job"]["selector"] == "sinks.knative.dev/job-sink-name=work"
        answers = [await _post(application), await _post(application, "/default/work/")]
        location = "/namespaces/default/name/work/sources/%2Forders%3Fx=%C3%BC/ids/a%2F1"
        assert [(a.status, header(a, b"location")) for a in answers] == [(202, location)] * 2
        listed = await scene.client.list(resources.JOB, NAMESPACE, label_selector=status["job"]["selector"])
        [job] = listed.items
        assert objects.name(job) == Place(Key(NAMESPACE, "work"), EVENT.source, EVENT.id).job_name
        assert objects.labels(job)["team"] == "a"
        assert objects.labels(job)["sinks.knative.dev/job-sink-id"] == objects.name(job)
        assert objects.is_controlled_by(job, sink)
        pod = objects.spec(job)["template"]["spec"]
        [container] = pod["containers"]
        assert {each["name"]: each["value"] for each in container["env"]} == {
            "K_EXECUTION_MODE": "batch",
            "K_EVENT_PATH": "/etc/jobsink-event",
        }
        assert container["volumeMounts"] == [
            {"name": "jobsink-event", "readOnly": True, "mountPath": "/etc/jobsink-event"}
        ]
        assert pod["volumes"][0]["secret"]["secretName"] == objects.name(job)
        secret = await scene.get(resources.SECRET, objects.name(job))
        assert json_format.decode(base64.b64decode(secret["data"]["event"])) == EVENT
        assert secret["immutable"] is True
        assert objects.is_controlled_by(secret, job)

    _play(story)


def test_a_sender_asks_what_becomes_of_its_job() -> None:
    """202 while it runs, 200 when it is complete, 400 when it failed."""

    async def story(scene: Scene, application: Asgi) -> None:
        await scene.create(eventing.JOB_SINK, "work", {"job": _job()})
        await scene.settled(eventing.JOB_SINK, "work")
        location = header(await _post(application), b"location") or ""
        answer = await call(application, "GET", location)
        assert (answer.status, header(answer, b"location")) == (202, location)
        name = Place(Key(NAMESPACE, "work"), EVENT.source, EVENT.id).job_name
        complete = [{"type": type_, "status": "True"} for type_ in ("SuccessCriteriaMet", "Complete")]
        times = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z"}
        patch = {"status": {**times, "conditions": complete}}
        await scene.client.patch(resources.JOB, name, NAMESPACE, patch=patch, subresource="status")
        answer = await call(application, "GET", location)
        assert (answer.status, header(answer, b"reason")) == (200, "Complete")
        failed = {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}
        assert jobs.progress(failed) == (400, "Failed")

    _play(story)


def test_what_is_missing_is_made_by_the_next_attempt() -> None:
    """A Job whose Secret was never made gets it when the event comes again."""

    async def story(scene: Scene, application: Asgi) -> None:
        await scene.create(eventing.JOB_SINK, "work", {"job": _job()})
        await scene.settled(eventing.JOB_SINK, "work")
        await _post(application)
        name = Place(Key(NAMESPACE, "work"), EVENT.source, EVENT.id).job_name
        await scene.client.delete(resources.SECRET, name, NAMESPACE)
        assert (await _post(application)).status == 202
        assert objects.name(await scene.get(resources.SECRET, name)) == name

    _play(story)


def test_what_is_not_taken() -> None:
    """Other paths and methods, events that are none or too large, sinks that are not there."""

    async def story(scene: Scene, application: Asgi) -> None:
        await scene.create(eventing.JOB_SINK, "work", {"job": _job()})
        await scene.settled(eventing.JOB_SINK, "work")
        assert (await _post(application, "/default")).status == 400
        assert (await _post(application, "/default/other")).status == 404
        assert (await _post(application, "/a/b/c")).status == 400
        assert (await call(application, "POST", "/default/work", body=b"{}")).status == 400
        large = new(id="1", source="/s", type="t", data=b"x" * 6000)
        assert (await _post(application, event=large)).status == 413
        assert (await call(application, "PUT", "/default/work")).status == 405
        assert header(await call(application, "OPTIONS", "/default/work"), b"allow") == "POST, GET, OPTIONS"
        assert (await call(application, "GET", "/default/work")).status == 400
        for path in (Place(Key("default", "other"), "/s", "1"), Place(Key("default", "work"), "/s", "1")):
            assert (await call(application, "GET", path.location())).status == 404
        listed = await scene.client.list(resources.JOB, NAMESPACE)
        assert listed.items == []

    _play(story)


def test_a_job_that_the_server_refuses() -> None:
    """Its sender hears why, and keeps the event."""

    async def story(scene: Scene, application: Asgi) -> None:
        await scene.create(eventing.JOB_SINK, "work", {"job": _job()})
        sink = await scene.settled(eventing.JOB_SINK, "work")
        name = Place(Key(NAMESPACE, "work"), EVENT.source, EVENT.id).job_name
        foreign = jobs.job(sink, name)
        foreign["metadata"] = {"name": name, "namespace": NAMESPACE}
        await scene.client.create(resources.JOB, foreign)
        answer = await _post(application)
        assert answer.status == 500
        assert b"is there already, and not of this JobSink" in answer.body
        assert "is there already" in (header(answer, b"reason") or "")

    _play(story)


def test_the_name_of_a_job_is_a_hash_of_its_event() -> None:
    """MD5 of source and id, as Knative has it, so that both make the same Job of an event."""
    assert Place(Key("a", "work"), "/s", "1").job_name == "work-b8a765b7041c79e3f785739f20361857"
    long = Place(Key("a", "w" * 60), "/s", "1").job_name
    assert len(long) == 63
    place = Place(Key("a", "work"), "https://x.example/a b?c=d", "ü/1")
    assert jobs.place_of(place.location()) == place
    assert jobs.place_of("/namespaces/a/name/b/sources/c/other/d") is None


def test_a_volume_of_ones_own_is_used() -> None:
    """The event is where its mount says."""
    mount = {"name": "jobsink-event", "mountPath": "/elsewhere"}
    sink = {"metadata": {"name": "work", "namespace": "a", "uid": "1"}, "apiVersion": "v1", "kind": "JobSink"}
    sink["spec"] = {"job": _job(volumeMounts=[mount], env=[{"name": "K_EXECUTION_MODE", "value": "x"}])}
    spec = objects.spec(jobs.job(sink, "work-1"))["template"]["spec"]
    [container] = spec["containers"]
    assert container["volumeMounts"] == [mount]
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "K_EXECUTION_MODE": "x",
        "K_EVENT_PATH": "/elsewhere",
    }


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({}, "spec.job", "missing field(s)"),
        ({"job": {}}, "spec.job.spec", ""),
        (
            {"job": {"spec": {"template": {"spec": {"containers": []}}}}},
            "spec.job.spec.template.spec.containers",
            "Required",
        ),
        ({"job": {"spec": {"template": {"spec": {"containers": "x"}}}}}, "spec.job", "Invalid value"),
        ({"job": _job(image="")}, "spec.job.spec.template.spec.containers[0].image", "Required"),
    ],
)
def test_job_sinks_that_are_refused(spec: Object, field: str, message: str) -> None:
    """By the rules of the Job that would be made."""

    async def story(scene: Scene) -> None:
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.JOB_SINK, "work", spec)
        causes = raised.value.causes
        assert any(c.field.startswith(field) and message in c.message for c in causes), causes

    play(story, control=False, plane=False)
