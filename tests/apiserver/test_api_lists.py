"""List: selectors, pages, consistency, and the forms a list can take."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
Make = Callable[..., dict[str, Any]]


async def _fill(api: Any, config_map: Make, count: int) -> None:
    for number in range(count):
        labels = {"parity": "even" if number % 2 == 0 else "odd"}
        assert (await api.post(CMS, config_map(f"c{number}", labels=labels))).status == 201


def _names(listed: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listed.json["items"]]


async def test_a_list_is_complete_and_names_its_moment(api: Any, config_map: Make) -> None:
    """Items in order of name under the revision of the list."""
    await _fill(api, config_map, 3)
    listed = (await api.get(CMS)).json
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert listed["metadata"] == {"resourceVersion": str(api.store.revision)}
    everywhere = (await api.get("/api/v1/configmaps")).json
    assert len(everywhere["items"]) == 3
    assert (await api.get("/api/v1/namespaces/none/configmaps")).json["items"] == []


async def test_selectors_narrow_a_list(api: Any, config_map: Make) -> None:
    """Labels and fields select; what cannot be read or is not indexed is refused."""
    await _fill(api, config_map, 4)
    assert _names(await api.get(f"{CMS}?labelSelector=parity%3Deven")) == ["c0", "c2"]
    assert _names(await api.get(f"{CMS}?labelSelector=parity+notin+(even)")) == ["c1", "c3"]
    assert _names(await api.get(f"{CMS}?fieldSelector=metadata.name%3Dc3")) == ["c3"]
    assert _names(await api.get("/api/v1/configmaps?fieldSelector=metadata.name%3Dc3")) == ["c3"]
    assert _names(await api.get(f"{CMS}?fieldSelector=metadata.name!%3Dc3&limit=2")) == ["c0", "c1"]
    unknown = await api.get(f"{CMS}?fieldSelector=data.k%3Dv")
    assert (unknown.status, unknown.json["message"]) == (400, "field label not supported: data.k")
    assert (await api.get(f"{CMS}?labelSelector=a%3D%3D%3Db")).status == 400


@pytest.mark.parametrize("selector", ["", "&labelSelector=parity"])
async def test_pages_are_one_consistent_list(api: Any, config_map: Make, selector: str) -> None:
    """What happens between two pages is not seen; with no selector the rest is counted."""
    await _fill(api, config_map, 5)
    first = await api.get(f"{CMS}?limit=2{selector}")
    metadata = first.json["metadata"]
    assert metadata.get("remainingItemCount") == (None if selector else 3)
    await api.delete(f"{CMS}/c3")
    await api.post(CMS, config_map("c2a", labels={"parity": "none"}))
    second = await api.get(f"{CMS}?limit=2{selector}&continue={metadata['continue']}")
    third = await api.get(f"{CMS}?limit=2{selector}&continue={second.json['metadata']['continue']}")
    assert _names(first) + _names(second) + _names(third) == ["c0", "c1", "c2", "c3", "c4"]
    assert second.json["metadata"]["resourceVersion"] == metadata["resourceVersion"]
    assert "continue" not in third.json["metadata"]


async def test_a_forgotten_page_offers_an_inconsistent_rest(api: Any, config_map: Make) -> None:
    """After compaction a continue is 410 with a token that goes on with what is there now."""
    await _fill(api, config_map, 4)
    token = (await api.get(f"{CMS}?limit=2")).json["metadata"]["continue"]
    await api.post(CMS, config_map("c9"))
    await api.store.compact(api.store.revision)
    answer = await api.get(f"{CMS}?limit=2&continue={token}")
    assert (answer.status, answer.json["reason"]) == (410, "Expired")
    fresh = answer.json["metadata"]["continue"]
    assert _names(await api.get(f"{CMS}?continue={fresh}")) == ["c2", "c3", "c9"]


@pytest.mark.parametrize("token", ["x", "e30", base64.urlsafe_b64encode(b"[]").decode(), "%00"])
async def test_forged_tokens_are_refused(api: Any, token: str) -> None:
    """A token that is not ours is a bad request, never a crash."""
    assert (await api.get(f"{CMS}?limit=1&continue={token}")).status == 400


async def test_a_token_of_another_namespace_is_refused(api: Any, config_map: Make) -> None:
    """A token cannot be used to read on in a place it was not given for."""
    document = {"v": "meta.k8s.io/v1", "rv": api.store.revision, "start": "kube-system/a\0"}
    token = base64.urlsafe_b64encode(msgspec.json.encode(document)).rstrip(b"=").decode()
    assert (await api.get(f"{CMS}?limit=1&continue={token}")).status == 400


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersionMatch=Exact&resourceVersion=0", 422),
        ("resourceVersionMatch=Nearly&resourceVersion=1", 422),
        ("resourceVersion=abc", 400),
        ("resourceVersion=-1", 400),
        (f"resourceVersion={'9' * 5000}", 400),
        ("limit=many", 400),
        ("sendInitialEvents=true", 422),
        ("resourceVersionMatch=NotOlderThan&resourceVersion=1", 200),
        ("resourceVersion=0", 200),
        ("limit=-5", 200),
    ],
)
async def test_list_options_are_checked(api: Any, query: str, code: int) -> None:
    """Combinations without a meaning are refused as Kubernetes refuses them."""
    assert (await api.get(f"{CMS}?{query}")).status == code


async def test_an_exact_revision_shows_that_moment(api: Any, config_map: Make) -> None:
    """resourceVersionMatch=Exact is a list of the past, as long as it is remembered."""
    await _fill(api, config_map, 2)
    then = api.store.revision
    await api.delete(f"{CMS}/c0")
    query = f"resourceVersion={then}&resourceVersionMatch=Exact"
    assert _names(await api.get(f"{CMS}?{query}")) == ["c0", "c1"]
    await api.store.compact(api.store.revision)
    assert (await api.get(f"{CMS}?{query}")).status == 410


async def test_a_revision_from_the_future_times_out(api: Any) -> None:
    """Clients that switched servers are told so in the words the reflector looks for."""
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await api.get(f"{CMS}?resourceVersion=999999"))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await api.settle()
        assert not answers  # it may still come
        await api.clock.advance(3)
    (late,) = answers
    assert late.status == 504
    assert late.json["reason"] == "Timeout"
    assert late.json["message"].startswith("Too large resource version: 999999, current: ")
    assert late.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert late.json["details"]["retryAfterSeconds"] == 1


async def test_lists_as_tables_and_as_metadata(api: Any, config_map: Make) -> None:
    """Kubectl asks for tables, the garbage collector for metadata."""
    await api.post(CMS, config_map("a", {"x": "1", "y": "2"}))
    table = (await api.get(CMS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 2]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert table["metadata"]["resourceVersion"] == str(api.store.revision)
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    partial = (await api.get(CMS, accept=accept)).json
    assert (partial["kind"], "data" in partial["items"][0]) == ("PartialObjectMetadataList", False)
    one = (await api.get(f"{CMS}/a", accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert one["rows"][0]["cells"][0] == "a"
    refused = await api.get(f"{CMS}?includeObject=All", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert refused.status == 400


async def test_a_page_of_a_table_can_be_continued(api: Any, config_map: Make) -> None:
    """Chunks work in every form."""
    await _fill(api, config_map, 3)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    first = (await api.get(f"{CMS}?limit=2", accept=accept)).json
    rest = (await api.get(f"{CMS}?limit=2&continue={first['metadata']['continue']}", accept=accept)).json
    assert [row["cells"][0] for row in first["rows"] + rest["rows"]] == ["c0", "c1", "c2"]


async def test_people_get_readable_json(api: Any) -> None:
    """A browser or ?pretty gets indented JSON; a program does not."""
    assert b"\n  " in (await api.get(f"{CMS}?pretty=true")).body
    assert b"\n  " in (await api.get(CMS, user_agent="curl/8.0")).body
    assert (await api.get(CMS)).body.count(b"\n") == 1  # the last byte, as Go encoders end a document
