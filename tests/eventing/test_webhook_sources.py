"""WebhookSources: requests of GitHub and GitLab, verified and sent on as events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from tests.eventing.calling import call, header, roomy
from tests.eventing.eventing_world import NAMESPACE, Scene, not_true, play
from tests.eventing.sources_world import Recorder

from ondol.api import objects, resources
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import applications
from ondol.eventing.exchange import Answer, Incoming
from ondol.eventing.sources import webhooks, wiring
from ondol.eventing.sources.webhook_source import WebhookSources
from ondol.web.application import Asgi

SINK = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
SECRET = b"s3cret"
KEY = {"secretKeyRef": {"name": "hook", "key": "token"}}
REPOSITORY = {"name": "repo", "owner": {"login": "me"}, "html_url": "https://github.com/me/repo", "id": 5}
PUSH = {
    "ref": "refs/heads/main",
    "compare": "https://github.com/me/repo/compare/a1...b2",
    "repository": REPOSITORY,
    "sender": {"login": "you"},
}
Headers = list[tuple[bytes, bytes]]
Story = Callable[[Scene, Asgi, Recorder], Awaitable[None]]


def _play(story: Story) -> None:
    async def run(scene: Scene) -> None:
        recorder, manager = Recorder(scene.world.clock), scene.world.manager("ondol-events")
        sources = WebhookSources(manager, recorder, random.Random(1))
        wiring.add_adapters_to(manager, recorder)
        await scene.world.start(manager)
        await scene.service("shown")
        secret = {"metadata": {"name": "hook", "namespace": NAMESPACE}}
        secret |= {"data": {"token": base64.b64encode(SECRET).decode()}}
        await scene.client.create(resources.SECRET, secret)
        await story(scene, applications.application(sources.handle, roomy(scene.world.clock)), recorder)

    play(run, plane=False)


def _github(body: bytes, kind: str = "push", secret: bytes = SECRET, **headers: bytes) -> Headers:
    signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return [
        (b"content-type", headers.get("content_type", b"application/json")),
        (b"x-github-event", kind.encode()),
        (b"x-github-delivery", b"72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        (b"x-hub-signature-256", signature.encode()),
    ]


async def _hook(scene: Scene, **spec: Any) -> None:
    await scene.create(
        eventing.WEBHOOK_SOURCE, "hook", {"provider": "github", "secretToken": KEY, "sink": SINK, **spec}
    )
    source = await scene.settled(eventing.WEBHOOK_SOURCE, "hook")
    assert not_true(source) == {}


async def _call(application: Asgi, headers: Headers, body: bytes, path: str = "/default/hook") -> Answer:
    return await call(application, "POST", path, headers, body)


def test_a_push_of_github_is_an_event() -> None:
    """With the delivery's id, the payload as it was sent, and the attributes that Knative's source has."""

    async def story(scene: Scene, application: Asgi, recorder: Recorder) -> None:
        await _hook(scene, eventTypes=["push", "issues"], repository="me/repo")
        status = objects.status(await scene.get(eventing.WEBHOOK_SOURCE, "hook"))
        host = "http://webhook-source.knative-eventing.svc.cluster.local"
        assert status["address"]["url"] == f"{host}/default/hook"
        assert status["ceAttributes"] == [
            {"type": f"dev.knative.source.github.{kind}", "source": "https://github.com/me/repo"}
            for kind in ("issues", "push")
        ]
        body = json.dumps(PUSH, indent=1).encode()
        assert (await _call(application, _github(body), body)).status == 202
        [(_, event, target)] = recorder.events
        assert target.url == "http://shown.default.svc.cluster.local"
        assert event.data == body
        assert (event.id, event.type) == (
            "72d3162e-cc78-11e3-81ab-4c9367dc0958",
            "dev.knative.source.github.push",
        )
        assert (event.source, event.subject) == ("https://github.com/me/repo", "a1...b2")
        assert event.extensions == {
            "owner": "me",
            "repository": "repo",
            "sender": "you",
            "ref": "refs/heads/main",
        }
        answer = await _call(application, _github(b"{}", "watch"), b"{}")
        assert (answer.status, b"not asked for" in answer.body) == (202, True)
        assert len(recorder.events) == 1

    _play(story)


def test_a_form_is_taken_as_well() -> None:
    """GitHub signs the form, and its payload is the data."""

    async def story(scene: Scene, application: Asgi, recorder: Recorder) -> None:
        await _hook(scene)
        body = urllib.parse.urlencode({"payload": json.dumps(PUSH)}).encode()
        headers = _github(body, content_type=b"application/x-www-form-urlencoded")
        assert (await _call(application, headers, body)).status == 202
        assert json.loads(recorder.events[0][1].data or b"") == PUSH

    _play(story)


def test_who_does_not_know_the_secret_is_refused() -> None:
    """Nothing is sent; and while the secret is not there, nobody can be verified."""

    async def story(scene: Scene, application: Asgi, recorder: Recorder) -> None:
        await _hook(scene)
        body = json.dumps(PUSH).encode()
        assert (await _call(application, _github(body, secret=b"other"), body)).status == 401
        assert (await _call(application, _github(body)[:-1], body)).status == 401
        assert (await _call(application, _github(body), body + b" ")).status == 401
        await scene.client.delete(resources.SECRET, "hook", NAMESPACE)
        await scene.world.advance(6)
        answer = await _call(application, _github(body), body)
        assert (answer.status, header(answer, b"retry-after")) == (503, "10")
        assert recorder.events == []

    _play(story)


def test_an_event_of_gitlab() -> None:
    """By its token; called like its object, from its project."""

    async def story(scene: Scene, application: Asgi, recorder: Recorder) -> None:
        await _hook(scene, provider="gitlab", eventTypes=["merge_requests_events"])
        payload = {"object_kind": "merge_request", "project": {"web_url": "https://gitlab.example/me/repo"}}
        body = json.dumps(payload).encode()
        headers = [(b"x-gitlab-event", b"Merge Request Hook"), (b"x-gitlab-token", SECRET)]
        headers += [(b"x-gitlab-event-uuid", b"13792a34")]
        assert (await _call(application, headers, body)).status == 202
        assert (await _call(application, [*headers[:1], (b"x-gitlab-token", b"no")], body)).status == 401
        [(_, event, _target)] = recorder.events
        assert event.type == "dev.knative.sources.gitlab.merge_request"
        assert (event.source, event.id) == ("https://gitlab.example/me/repo", "13792a34")

    _play(story)


def test_requests_that_are_no_webhooks() -> None:
    """Refused with what is missing."""

    async def story(scene: Scene, application: Asgi, recorder: Recorder) -> None:
        await _hook(scene)
        body = b"{}"
        assert (await call(application, "GET", "/default/hook")).status == 405
        assert (await _call(application, _github(body), body, "/default")).status == 400
        assert (await _call(application, _github(body), body, "/default/other")).status == 404
        for content in (b"[]", b"no"):
            assert (await _call(application, _github(content), content)).status == 400
        for missing in (1, 2):
            headers = [each for number, each in enumerate(_github(body)) if number != missing]
            assert (await _call(application, headers, body)).status == 400
        assert recorder.events == []

    _play(story)


def test_the_caller_hears_whether_the_sink_has_it() -> None:
    """After a few attempts: what may be taken later is to be sent again, what is refused is not."""

    async def story(scene: Scene, application: Asgi, recorder: Recorder) -> None:
        await _hook(scene, secretToken=None, allowUnsigned=True)
        body = json.dumps(PUSH).encode()
        recorder.answers = [503, 0, 202]
        assert (await _call(application, _github(body)[:-1], body)).status == 202
        recorder.answers = [0, 0, 0]
        answer = await _call(application, _github(body)[:-1], body)
        assert (answer.status, header(answer, b"retry-after")) == (503, "10")
        recorder.answers = [400]
        assert (await _call(application, _github(body)[:-1], body)).status == 502
        assert len(recorder.events) == 7

    _play(story)


@pytest.mark.parametrize(
    ("kind", "payload", "subject"),
    [
        ("issues", {"issue": {"number": 7}, "action": "opened"}, "7"),
        ("pull_request", {"pull_request": {"number": 3}, "number": 3}, "3"),
        ("issue_comment", {"comment": {"html_url": "https://x/issues/2#issuecomment-3"}}, "2#issuecomment-3"),
        ("create", {"ref_type": "branch"}, "branch"),
        ("release", {"release": {"tag_name": "v1"}}, "v1"),
        ("project", {"action": "closed"}, "closed"),
        ("issues", {"issue": "odd"}, None),
        ("label", {"label": {"name": "a\nb"}}, None),
    ],
)
def test_subjects_of_github(kind: str, payload: Mapping[str, Any], subject: str | None) -> None:
    """What an event is about, as Knative's source has it; nothing where the payload does not say."""
    source = {"metadata": {"name": "a", "namespace": "b"}, "spec": {"provider": "github"}}
    incoming = Incoming("POST", "/b/a", _github(b"", kind), json.dumps(payload).encode())
    event = webhooks.event(source, incoming, id="1", now=0.0)
    assert event is not None
    assert event.subject == subject
    assert event.source == "http://webhook-source.knative-eventing.svc.cluster.local/b/a"


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"provider": "other"}, "spec.provider", "expected one of github, gitlab"),
        ({"secretToken": None}, "spec.secretToken.secretKeyRef", "missing field(s)"),
        ({"secretToken": {"secretKeyRef": {"name": "a"}}}, "spec.secretToken.secretKeyRef.key", "missing"),
        ({"allowUnsigned": True}, "spec.allowUnsigned", "expected exactly one, got both"),
        ({"sink": None}, "spec.sink.ref", "expected at least one"),
    ],
)
def test_what_is_refused(spec: Mapping[str, Any], field: str, message: str) -> None:
    """Each mistake at its place."""

    async def story(scene: Scene) -> None:
        desired = {"provider": "github", "secretToken": KEY, "sink": SINK, **spec}
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.WEBHOOK_SOURCE, "hook", desired)
        causes = raised.value.causes
        assert any(c.field == field and message in c.message for c in causes), causes

    play(story, control=False, plane=False)
