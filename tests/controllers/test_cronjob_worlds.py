"""CronJobs against the API server, on virtual time: when runs begin, which may overlap, which are kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ondol.api import cron, objects, resources
from ondol.api.objects import Object
from ondol.api.pods import moment
from ondol.controllers import scheduler
from ondol.controllers.workloads import cronjob, job
from ondol.controllers.workloads.cronjob import schedule
from ondol.sdk.testing import Faults

from .conftest import names

Play = Callable[..., None]
CONTROLLERS = (cronjob.add_to, job.add_to, scheduler.add_to)
TASK = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "task:1"}]}}


async def start(stage: Any, text: str = "* * * * *", **fields: Any) -> None:
    await stage.node(cpu="64")
    await stage.run(*CONTROLLERS)
    spec = {"schedule": text, "jobTemplate": {"spec": {"template": TASK}}, **fields}
    await stage.create(resources.CRON_JOB, "tick", spec=spec)


async def jobs(stage: Any) -> list[Object]:
    items: list[Object] = (await stage.client.list(resources.JOB, "default")).items
    return sorted(items, key=objects.name)


async def live(stage: Any) -> Object:
    current: Object = await stage.client.get(resources.CRON_JOB, "tick", "default")
    return current


def test_a_run_begins_each_time_and_old_ones_go(play: Play) -> None:
    """Named after its minute, with the time it was meant for; three that succeeded are kept."""

    async def scene(stage: Any) -> None:
        stage.exit_code = lambda _: 0
        await start(stage)
        await stage.advance(60 * 6)
        kept = await jobs(stage)
        assert len(kept) == 3
        status = (await live(stage))["status"]
        for each in kept:
            at = moment(objects.annotations(each)["batch.kubernetes.io/cronjob-scheduled-timestamp"])
            assert at is not None
            assert (at % 60, objects.name(each)) == (0, f"tick-{int(at) // 60}")
        assert moment(status["lastScheduleTime"]) == at
        assert status["lastSuccessfulTime"] == kept[-1]["status"]["completionTime"]
        assert "active" not in status
        assert len(await stage.events("SuccessfulDelete")) >= 3
        assert len(await stage.events("SawCompletedJob")) >= 5

    play(scene)


@pytest.mark.parametrize(
    ("policy", "running", "event"),
    [("Allow", 4, ""), ("Forbid", 1, "JobAlreadyActive"), ("Replace", 1, "SuccessfulDelete")],
)
def test_runs_overlap_as_the_policy_says(play: Play, policy: str, running: int, event: str) -> None:
    """Those of Forbid wait for the first to end, those of Replace take its place."""

    async def scene(stage: Any) -> None:
        await start(stage, concurrencyPolicy=policy)
        begun = stage.clock.now()
        await stage.advance(60 * 4 - begun % 60 + 30)
        current = await jobs(stage)
        assert len(current) == running
        active = (await live(stage))["status"]["active"]
        assert sorted(each["name"] for each in active) == names(current)
        assert not event or await stage.events(event)

    play(scene)


def test_a_run_of_forbid_is_made_up_for(play: Play) -> None:
    """Once the one before has ended, the last that was due begins, however late, unless that is too late."""

    async def scene(stage: Any) -> None:
        await start(stage, concurrencyPolicy="Forbid", startingDeadlineSeconds=90)
        await stage.advance(150)
        (first,) = await jobs(stage)
        await stage.client.delete(resources.JOB, objects.name(first), "default")
        await stage.advance(3)
        (second,) = await jobs(stage)
        assert objects.name(second) > objects.name(first)
        assert await stage.events("MissingJob") == [f"Active job went missing: {objects.name(first)}"]

    play(scene)


def test_what_was_missed_begins_once_and_not_too_late(play: Play) -> None:
    """Of many runs that nobody began the last one is; with a deadline none that is older."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="64")
        spec = {"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": TASK}}}
        await stage.create(resources.CRON_JOB, "tick", spec=spec)
        await stage.create(resources.CRON_JOB, "late", spec={**spec, "startingDeadlineSeconds": 60})
        long_ago = {"status": {"lastScheduleTime": "2001-01-01T00:00:00Z"}}
        for name in ("tick", "late"):
            await stage.client.patch(
                resources.CRON_JOB, name, "default", patch=long_ago, subresource="status"
            )
        await stage.advance(1800 - stage.clock.now() % 3600 % 1800)
        await stage.run(*CONTROLLERS)
        await stage.settle()
        (begun,) = await jobs(stage)
        assert objects.name(begun).startswith("tick-")
        (event,) = await stage.events("TooManyMissedTimes")
        assert event.startswith("too many missed start times")
        (missed,) = await stage.events("MissSchedule")
        assert missed.startswith("Missed scheduled time to start a job: ")

    play(scene)


def test_a_suspended_cron_job_begins_nothing(play: Play) -> None:
    """What came due meanwhile is made up for once it goes on."""

    async def scene(stage: Any) -> None:
        await start(stage, suspend=True)
        await stage.advance(200)
        assert await jobs(stage) == []
        patch = {"spec": {"suspend": False}}
        await stage.client.patch(resources.CRON_JOB, "tick", "default", patch=patch)
        await stage.advance(2)
        assert len(await jobs(stage)) == 1

    play(scene)


@pytest.mark.parametrize("seed", range(2))
def test_no_run_begins_twice(play: Play, seed: int) -> None:
    """Whatever answer is lost: each minute has one Job, and none is missing."""

    async def scene(stage: Any) -> None:
        stage.exit_code = lambda _: 0
        await start(stage, successfulJobsHistoryLimit=100)
        await stage.advance(60 * 5)
        minutes = [int(objects.name(each).rpartition("-")[2]) for each in await jobs(stage)]
        assert minutes == list(range(minutes[0], minutes[0] + len(minutes)))
        assert len(minutes) in (4, 5)

    faults = Faults(latency_s=0.3, lost_reply=0.05, lost_request=0.05, conflict=0.05, cut_watch=0.02)
    play(scene, seed=seed, faults=faults)


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        ("*/15 * * * *", "UTC", "2026-01-01T00:00:00", "2026-01-01T00:15:00"),
        ("0 0 1 * *", "UTC", "2026-01-31T12:00:00", "2026-02-01T00:00:00"),
        ("30 9 * * mon", "UTC", "2026-11-28T00:00:00", "2026-11-30T09:30:00"),
        ("0 12 13 * 5", "UTC", "2026-11-28T00:00:00", "2026-12-04T12:00:00"),
        ("0 0 29 2 *", "UTC", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 31 2 *", "UTC", "2026-01-01T00:00:00", None),
        ("@every 90m", "UTC", "2026-01-01T00:00:30", "2026-01-01T01:30:30"),
        ("0 9 * * *", "Asia/Seoul", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        ("30 2 * * *", "America/New_York", "2026-03-08T00:00:00", "2026-03-09T06:30:00"),
        ("30 1 * * *", "America/New_York", "2026-11-01T00:00:00", "2026-11-01T05:30:00"),
        ("30 1 * * *", "America/New_York", "2026-11-01T05:30:00", "2026-11-01T06:30:00"),
    ],
)
def test_when_it_is_time(text: str, zone: str, after: str, expected: str | None) -> None:
    """Days of the month and the week are alternatives; hours that clocks leave out do not come (UTC here)."""

    def seconds(iso: str) -> float:
        return datetime.fromisoformat(iso).replace(tzinfo=UTC).timestamp()

    at = cron.following(cron.parse(text), seconds(after), ZoneInfo(zone))
    assert at == (None if expected is None else seconds(expected))


def test_a_run_is_stamped_in_its_zone() -> None:
    """As its annotation has it."""
    assert schedule.stamp(0.0, ZoneInfo("Asia/Seoul")) == "1970-01-01T09:00:00+09:00"
    assert schedule.stamp(0.0, UTC) == "1970-01-01T00:00:00Z"
