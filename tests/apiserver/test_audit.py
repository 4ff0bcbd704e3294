"""The audit log: what a policy chooses is written, aside of the requests, and told of where it cannot be."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
import pytest

from ondol import apiserver
from ondol.apiserver import config as configs
from ondol.apiserver.audit import log_file, policy, records
from ondol.apiserver.auth.identity import User
from ondol.apiserver.requestinfo import RequestInfo
from ondol.base import errors
from ondol.base.clock import ManualClock

pytestmark = pytest.mark.anyio

CMS: Final = "/api/v1/namespaces/default/configmaps"
HEAD: Final = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
EVERYTHING: Final = HEAD + "omitManagedFields: true\nrules: [{level: RequestResponse}]\n"
SHORT: Final = HEAD + "omitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
Start = Callable[..., Any]


def _config(folder: Path, text: str) -> apiserver.ApiConfig:
    return apiserver.ApiConfig(audit=configs.Audit(text, folder / "audit.log"))


async def _written(api: Any, folder: Path) -> list[Any]:
    """What stands in the log once everything was written."""
    await anyio.wait_all_tasks_blocked()
    await api.clock.advance(1.0)
    for _ in range(100):
        await anyio.wait_all_tasks_blocked()
        if (folder / "audit.log").exists():
            break
        await anyio.sleep(0.01)  # a thread writes it
    return [msgspec.json.decode(line) for line in (folder / "audit.log").read_bytes().splitlines()]


async def test_a_write_leaves_its_stages(start: Start, tmp_path: Path, config_map: Any) -> None:
    """Who, what, from where, and at the end what was sent and answered; managed fields if wanted."""
    async with start(config=_config(tmp_path, EVERYTHING)) as api:
        answer = await api("POST", CMS, config_map("a"), {"x-forwarded-for": "10.1.2.3, x"})
        received, complete = await _written(api, tmp_path)
    assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
    assert "requestObject" not in received
    assert complete["auditID"] == received["auditID"] == answer.headers["audit-id"]
    assert complete["user"]["username"] == "admin"
    assert (complete["verb"], complete["requestURI"]) == ("create", CMS)
    assert complete["userAgent"] == "test/1.0"
    assert complete["sourceIPs"] == ["10.1.2.3"]
    assert complete["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert complete["responseStatus"] == {"metadata": {}, "code": 201}
    assert complete["requestObject"]["metadata"]["name"] == "a"
    assert complete["responseObject"]["metadata"]["uid"]
    assert "managedFields" not in complete["responseObject"]["metadata"]
    assert complete["annotations"]["authorization.k8s.io/decision"] == "allow"


async def test_what_is_refused_is_audited_too(start: Start, tmp_path: Path) -> None:
    """With the Status that says why; and who could not be authenticated as nobody."""
    async with start(config=_config(tmp_path, SHORT)) as api:
        assert (await api.as_("ann").get(CMS)).status == 403
        assert (await api.as_("")("GET", CMS, None, {"authorization": "Bearer x"})).status == 401
        forbidden, unknown = await _written(api, tmp_path)
    assert forbidden["responseStatus"]["reason"] == "Forbidden"
    assert forbidden["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert (unknown["stage"], unknown["responseStatus"]["code"], unknown["user"]) == (
        "ResponseStarted",
        401,
        {},
    )


async def test_who_acts_for_another_is_named(start: Start, tmp_path: Path) -> None:
    """Both of them."""
    async with start(config=_config(tmp_path, SHORT)) as api:
        await api("GET", CMS, None, {"impersonate-user": "ann"})
        (record,) = await _written(api, tmp_path)
    assert record["user"]["username"] == "admin"
    assert record["impersonatedUser"]["username"] == "ann"


async def test_a_watch_is_recorded_when_it_begins(start: Start, tmp_path: Path) -> None:
    """And again when it ends."""
    async with start(config=_config(tmp_path, SHORT)) as api:
        async with api.watch(f"{CMS}?watch=1"):
            (begun,) = await _written(api, tmp_path)
        assert (begun["stage"], begun["verb"]) == ("ResponseStarted", "watch")


POD: Final = RequestInfo("get", "/p", "", "v1", "pods", "", "shop", "web")
LOG: Final = POD._replace(subresource="log")
PATH: Final = RequestInfo("get", "/healthz/x")
ANN: Final = User("ann", ("team",))


@pytest.mark.parametrize(
    ("rule", "info", "fits"),
    [
        ({}, POD, True),
        ({"users": ["ann"]}, POD, True),
        ({"users": ["ben"]}, POD, False),
        ({"userGroups": ["team"]}, POD, True),
        ({"userGroups": ["ops"]}, POD, False),
        ({"verbs": ["list"]}, POD, False),
        ({"namespaces": ["shop"]}, POD, True),
        ({"namespaces": ["other"]}, POD, False),
        ({"namespaces": [""]}, PATH, False),
        ({"resources": [{"group": ""}]}, LOG, True),
        ({"resources": [{"group": "apps"}]}, POD, False),
        ({"resources": [{"group": "*", "resources": ["pods"]}]}, POD, True),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, LOG, False),
        ({"resources": [{"group": "", "resources": ["pods/log"]}]}, LOG, True),
        ({"resources": [{"group": "", "resources": ["pods/*"]}]}, LOG, True),
        ({"resources": [{"group": "", "resources": ["*/log"]}]}, LOG, True),
        ({"resources": [{"group": "", "resources": ["pods"], "resourceNames": ["web"]}]}, POD, True),
        ({"resources": [{"group": "", "resources": ["pods"], "resourceNames": ["db"]}]}, POD, False),
        ({"nonResourceURLs": ["/healthz*"]}, PATH, True),
        ({"nonResourceURLs": ["/healthz"]}, PATH, False),
        ({"nonResourceURLs": ["*"]}, POD, False),
    ],
)
def test_which_requests_a_rule_is_about(rule: dict[str, Any], info: RequestInfo, fits: bool) -> None:
    """As in Kubernetes."""
    document = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "rules": [{"level": "None", "users": ["nobody"]}, {"level": "Request", **rule}],
    }
    assert policy.Policy(document).of(ANN, info).level == (2 if fits else 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": []}, "it has no rules"),
        ({"kind": "Rules"}, "it is Rules"),
        ({"rules": [{"level": "All"}]}, "unknown 'All'"),
        ({"omitStages": ["End"]}, "unknown 'End'"),
        ({"rules": [{"level": "None", "user": ["ann"]}]}, "unknown field `user`"),
        (
            {"rules": [{"level": "None", "namespaces": ["a"], "nonResourceURLs": ["*"]}]},
            "cannot apply to both",
        ),
    ],
)
def test_a_policy_that_is_none_is_refused(change: dict[str, Any], message: str) -> None:
    """With what is wrong; the server does not start with half a policy."""
    document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "None"}], **change}
    with pytest.raises(errors.HostError, match=message):
        policy.Policy(document)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def _record(size: int = 0) -> records.Record:
    return records.Record({"pad": "x" * size}, policy.Config(1, frozenset(), omits_managed_fields=False))


async def test_files_are_put_aside_and_the_oldest_go(tmp_path: Path) -> None:
    """None is larger than it may be, others' files of similar names stay."""
    other = tmp_path / "audit-mine.log"
    other.write_text("mine")
    clock = ManualClock()
    file = log_file.LogFile(tmp_path / "audit.log", log_file.Rotation(150, 2, 0), clock)
    for _ in range(6):
        file.add(_record(100))
        await file.flush()
        await clock.advance(1.0)
    sizes = _sizes(tmp_path)
    assert len(sizes) == 4, sizes
    assert other.name in sizes
    assert max(sizes.values()) <= 150


async def test_a_disk_that_is_full_loses_records_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted; once there is space, what comes then is written."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = log_file.LogFile(tmp_path / "audit.log", log_file.Rotation(), ManualClock())
    with monkeypatch.context() as patch:
        patch.setattr("ondol.apiserver.audit.log_file.os.write", full)
        file.add(_record())
        await file.flush()
    file.add(_record())
    await file.flush()
    assert [sample.value for family in file.collect() for sample in family.samples] == [1, 1]
    assert (tmp_path / "audit.log").read_bytes().count(b"\n") == 1


def test_what_waits_to_be_written_is_bounded(tmp_path: Path) -> None:
    """More requests than the disk takes do not grow the server."""
    file = log_file.LogFile(tmp_path / "audit.log", log_file.Rotation(), ManualClock())
    for _ in range(10_005):
        file.add(_record())
    assert [sample.value for family in file.collect() for sample in family.samples] == [0, 5]
