"""Which old Revisions go: by age, number, state and annotation; and that they do go."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serverless.serving_world import NAMESPACE, Platform

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import clock
from ondol.contracts import serving
from ondol.serverless.config import values
from ondol.serverless.config.values import Collection
from ondol.serverless.serving import collection, wellknown

NOW = 1_700_000_000.0
HOUR = 3600.0
CONFIGURATION: Object = {"status": {"latestReadyRevisionName": "r9", "latestCreatedRevisionName": "r9"}}


def revision(
    name: str, *, created: float = 100, idle: float | None = 100, state: str = "reserve", **notes: str
) -> Object:
    """One made and left so many hours ago."""
    annotations = {f"serving.knative.dev/{key.replace('_', '-')}": value for key, value in notes.items()}
    if idle is not None:
        annotations[wellknown.ROUTING_STATE_MODIFIED] = clock.rfc3339(NOW - idle * HOUR)
    metadata = {
        "name": name,
        "creationTimestamp": clock.rfc3339(NOW - created * HOUR),
        "labels": {wellknown.ROUTING_STATE_LABEL: state},
        "annotations": annotations,
    }
    return {"metadata": metadata}


def gone(revisions: list[Object], **settings: Any) -> list[str]:
    chosen = Collection(**{"least": 0, **settings})
    listed = collection.surplus(revisions, CONFIGURATION, chosen, now=NOW)
    return [objects.name(each) for each in listed]


@pytest.mark.parametrize(
    ("each", "goes"),
    [
        (revision("r1"), True),
        (revision("r1", created=47), False),
        (revision("r1", idle=14), False),
        (revision("r1", idle=None), True),
        (revision("r1", idle=None, lastPinned=str(int(NOW))), False),
        (revision("r1", state="active"), False),
        (revision("r1", state="pending"), False),
        (revision("r1", no_gc="true"), False),
        (revision("r1", no_gc="false"), True),
        (revision("r9"), False),
    ],
)
def test_who_goes(each: Object, goes: bool) -> None:
    """Old, long without traffic, nobody's newest, and not kept: by Knative's defaults 48 and 15 hours."""
    assert gone([each]) == (["r1"] if goes else [])


def test_the_least_stay_and_the_longest_idle_go_first() -> None:
    """However old they are; who was left last stays."""
    revisions = [revision(f"r{number}", idle=100 + number) for number in range(5)]
    assert gone(revisions, least=3) == ["r4", "r3"]
    assert gone(revisions, least=5) == []


def test_too_many_go_however_young() -> None:
    """The most is a bound without regard to age; without one, and without ages, nothing ever goes."""
    revisions = [revision(f"r{number}", created=1, idle=1 - number / 10) for number in range(5)]
    assert gone(revisions, most=3) == ["r0", "r1"]
    assert gone(revisions, most=None) == []
    disabled = {"since_create_s": None, "since_active_s": None}
    assert gone([revision("r1")], **disabled) == []
    assert gone(revisions, most=4, **disabled) == ["r0"]


def test_it_comes_back_when_the_next_is_old_enough() -> None:
    """The later of both times; who may stay by number is not waited for."""
    revisions = [revision("r1", created=40, idle=10), revision("r2", created=47, idle=1)]
    settings = Collection(least=0)
    assert collection.next_due(revisions, CONFIGURATION, settings, now=NOW) == NOW + 8 * HOUR
    assert collection.next_due(revisions, CONFIGURATION, Collection(least=2), now=NOW) is None


@pytest.mark.anyio
async def test_old_revisions_go_at_once_when_it_is_asked_for(platform: Platform) -> None:
    """A changed `config-gc` acts on what is there; the one in use and the pinned one stay."""
    for text in ("one", "two", "three"):
        notes = {"serving.knative.dev/no-gc": "true"} if text == "one" else {}
        await platform.serve(text, notes=notes)
        await platform.ready()
    await platform.ready(latest="hello-00003")
    limits = {"min-non-active-revisions": "0", "max-non-active-revisions": "0"}
    await platform.client.patch(resources.CONFIG_MAP, "config-gc", values.NAMESPACE, patch={"data": limits})
    await platform.until_deleted(serving.REVISION, "hello-00002")
    left = (await platform.client.list(serving.REVISION, NAMESPACE)).items
    assert sorted(objects.name(each) for each in left) == ["hello-00001", "hello-00003"]
