"""The events of webhooks of GitHub and GitLab, and whether a request is theirs. Pure.

Types, subjects and extensions are those of Knative's GitHubSource and GitLabSource.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import errors
from ondol.base.timestamps import rfc3339_micro
from ondol.contracts import eventing
from ondol.eventing.cloudevents import attributes as rules
from ondol.eventing.cloudevents import event as events
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.exchange import Incoming
from ondol.eventing.sources import overrides

Document: TypeAlias = Mapping[str, Any]

GITHUB: Final = "github"
GITLAB: Final = "gitlab"
GITHUB_PREFIX: Final = "dev.knative.source.github."
GITLAB_PREFIX: Final = "dev.knative.sources.gitlab."
_FORM: Final = "application/x-www-form-urlencoded"
_GITLAB_HOOKS: Final = {
    "confidential_issues_events": "issue",
    "confidential_note_events": "note",
    "issues_events": "issue",
    "job_events": "build",
    "merge_requests_events": "merge_request",
}
"""Names of hooks whose events are not called like them."""


def url(source: Document) -> str:
    """Where a source takes requests."""
    return eventing.service_url(eventing.WEBHOOK_SERVICE, objects.namespace(source), objects.name(source))


def attributes(source: Document) -> list[Object]:
    """`status.ceAttributes`: the types that are asked for, if any are named."""
    spec = objects.spec(source)
    types = sorted({_kind(source, name) for name in spec.get("eventTypes") or ()})
    prefix, origin = _prefix(source), _origin(source, {})
    return [{"type": prefix + name, **({"source": origin} if origin else {})} for name in types]


def verify(source: Document, incoming: Incoming, secret: bytes | None) -> None:
    """`Unauthorized` unless the request was made by who knows the secret, where there is one."""
    if secret is None:
        return
    if objects.spec(source).get("provider") == GITLAB:
        token = incoming.header(b"x-gitlab-token").encode("latin-1")
        if not hmac.compare_digest(token, secret):
            raise errors.Unauthorized("X-Gitlab-Token is not the secret of this source")
        return
    signature = incoming.header(b"x-hub-signature-256")
    expected = "sha256=" + hmac.new(secret, incoming.body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature.encode("latin-1"), expected.encode()):
        raise errors.Unauthorized("X-Hub-Signature-256 is not that of this body and the source's secret")


def event(source: Document, incoming: Incoming, *, id: str, now: float) -> Event | None:
    """The event of a request, None if its type is not asked for; `BadRequest` if it is none.

    `id` is for a request that brings none of its own.
    """
    payload, text = _payload(incoming)
    if objects.spec(source).get("provider") == GITLAB:
        kind, own_id, subject, extensions = _gitlab(incoming, payload)
    else:
        kind, own_id, subject, extensions = _github(incoming, payload)
    kinds = {_kind(source, name) for name in objects.spec(source).get("eventTypes") or ()}
    if kinds and kind not in kinds:
        return None
    optional = {"subject": subject, **extensions}
    present = {
        name: value for name, value in optional.items() if value and rules.value_problem(name, value) is None
    }
    webhook = events.new(
        id=own_id or id,
        source=_origin(source, payload) or url(source),
        type=_prefix(source) + kind,
        data=text,
        time=rfc3339_micro(now),
        datacontenttype="application/json",
        **present,
    )
    if reason := rules.problem(webhook.attributes):
        raise errors.BadRequest(f"the request makes no event: {reason}")
    return overrides.applied(webhook, objects.spec(source))


def _prefix(source: Document) -> str:
    return GITLAB_PREFIX if objects.spec(source).get("provider") == GITLAB else GITHUB_PREFIX


def _kind(source: Document, name: str) -> str:
    """The last word of a type, of the name of a hook."""
    if objects.spec(source).get("provider") != GITLAB:
        return name
    return _GITLAB_HOOKS.get(name, name.removesuffix("_events"))


def _origin(source: Document, payload: Document) -> str:
    """The attribute `source`: the repository."""
    repository = str(objects.spec(source).get("repository") or "")
    is_gitlab = objects.spec(source).get("provider") == GITLAB
    if repository and "://" not in repository and not is_gitlab:
        return f"https://github.com/{repository}"
    if repository:
        return repository
    if is_gitlab:
        return _text(payload, "project", "web_url")
    return _text(payload, "repository", "html_url")


def _payload(incoming: Incoming) -> tuple[Document, bytes]:
    """The JSON that a request carries, also in a form, and its text."""
    text = incoming.body
    if rules.media_type(incoming.header(b"content-type")) == _FORM:
        fields = urllib.parse.parse_qs(text.decode("utf-8", "replace"))
        text = fields.get("payload", [""])[0].encode()
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise errors.BadRequest("the body is no JSON object")
    return payload, text


_Parts: TypeAlias = tuple[str, str, str, dict[str, str]]
"""The word of the type, the id, the subject and the extensions."""


def _github(incoming: Incoming, payload: Document) -> _Parts:
    kind = incoming.header(b"x-github-event")
    if not kind:
        raise errors.BadRequest("header X-GitHub-Event is missing")
    delivery = incoming.header(b"x-github-delivery")
    if not delivery:
        raise errors.BadRequest("header X-GitHub-Delivery is missing")
    extensions = {
        "owner": _text(payload, "repository", "owner", "login") or _text(payload, "organization", "login"),
        "repository": _text(payload, "repository", "name"),
        "sender": _text(payload, "sender", "login"),
        "action": _text(payload, "action"),
        "ref": _text(payload, "ref"),
        "label": _text(payload, "label", "name"),
        "assignee": _text(payload, "assignee", "login"),
    }
    if kind == "pull_request":
        extensions["number"] = _text(payload, "number")
    subject = _SUBJECTS.get(kind, _action)(payload)
    return kind, delivery, subject, extensions


def _gitlab(incoming: Incoming, payload: Document) -> _Parts:
    header = incoming.header(b"x-gitlab-event")
    if not header:
        raise errors.BadRequest("header X-Gitlab-Event is missing")
    kind = _text(payload, "object_kind") or header.removesuffix(" Hook").lower().replace(" ", "_")
    delivery = incoming.header(b"idempotency-key") or incoming.header(b"x-gitlab-event-uuid")
    return kind, delivery, "", {}


def _text(payload: Document, *path: str) -> str:
    """The text or number at a path; nothing if there is none."""
    value: Any = payload
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool) or value is None or isinstance(value, dict | list):
        return ""
    return str(value)


def _action(payload: Document) -> str:
    return _text(payload, "action")


def _at(*path: str) -> Callable[[Document], str]:
    return lambda payload: _text(payload, *path)


def _last(*path: str) -> Callable[[Document], str]:
    """The last part of an address."""
    return lambda payload: _text(payload, *path).rpartition("/")[2]


_SUBJECTS: Final[Mapping[str, Callable[[Document], str]]] = {
    "check_run": _at("check_run", "id"),
    "check_suite": _at("check_suite", "id"),
    "commit_comment": _last("comment", "html_url"),
    "create": _at("ref_type"),
    "delete": _at("ref_type"),
    "deployment": _at("deployment", "id"),
    "deployment_status": _at("deployment", "id"),
    "fork": _at("forkee", "id"),
    "installation": _at("installation", "id"),
    "installation_repositories": _at("installation", "id"),
    "issue_comment": _last("comment", "html_url"),
    "issues": _at("issue", "number"),
    "label": _at("label", "name"),
    "member": _at("member", "id"),
    "membership": _at("member", "id"),
    "milestone": _at("milestone", "number"),
    "page_build": _at("id"),
    "ping": _at("hook_id"),
    "public": _at("repository", "id"),
    "pull_request": _at("pull_request", "number"),
    "pull_request_review": _at("review", "id"),
    "pull_request_review_comment": _at("comment", "id"),
    "push": _last("compare"),
    "release": _at("release", "tag_name"),
    "repository": _at("repository", "id"),
    "status": _at("sha"),
    "team": _at("team", "id"),
    "team_add": _at("repository", "id"),
    "watch": _at("repository", "id"),
}
"""What an event is about, by its name; of others it is the action."""
