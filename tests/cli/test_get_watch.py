"""`ondol get -w` of several kinds and objects: each its own watch, each row under its own header."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner, Result

from ondol.api import resources as kinds
from ondol.cli import connection, main
from ondol.client import discovery

_COLUMNS = {"pods": ("Name", "Ready"), "configmaps": ("Name", "Data", "Age")}


def _table(plural: str, *rows: tuple[str, int], version: str = "") -> dict[str, Any]:
    """A Table of rows `(name, resource version)`."""
    columns = _COLUMNS[plural]
    return {
        "kind": "Table",
        "metadata": {"resourceVersion": version or str(rows[-1][1] if rows else 1)},
        "columnDefinitions": [{"name": name} for name in columns],
        "rows": [
            {
                "cells": [name, *(["1"] * (len(columns) - 1))],
                "object": {"metadata": {"name": name, "resourceVersion": str(number)}},
            }
            for name, number in rows
        ],
    }


def _event(plural: str, name: str, number: int) -> dict[str, Any]:
    return {"type": "MODIFIED", "object": _table(plural, (name, number))}


@dataclass
class _Answer:
    body: bytes = b""
    status: int = 200
    chunks: AsyncIterator[bytes] | None = None


@dataclass
class _Api:
    """Stands for a client: what each path answers, and what its watch sends, one after the other of all."""

    answers: Mapping[str, Mapping[str, Any]]
    events: Sequence[tuple[str, Mapping[str, Any]]]
    queries: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._turn = 0
        self._moved = anyio.Event()

    async def aclose(self) -> None:
        return

    async def describe(self) -> list[discovery.Described]:
        return [
            discovery.Described(kinds.POD, "pod", ("po",)),
            discovery.Described(kinds.CONFIG_MAP, "configmap", ("cm",)),
        ]

    async def raw(self, _method: str, path: str, **_words: object) -> _Answer:
        if path not in self.answers:
            failure = {"kind": "Status", "reason": "NotFound", "message": "no such object", "code": 404}
            return _Answer(json.dumps(failure).encode(), 404)
        return _Answer(json.dumps(self.answers[path]).encode())

    @asynccontextmanager
    async def stream(
        self, _method: str, path: str, query: Mapping[str, str], _accept: str
    ) -> AsyncIterator[_Answer]:
        key = f"{path}?{query['fieldSelector']}" if "fieldSelector" in query else path
        self.queries[key] = query
        yield _Answer(chunks=self._sent(key))

    async def _sent(self, key: str) -> AsyncIterator[bytes]:
        """The events of one watch, in the order that all have together."""
        while any(path == key for path, _ in self.events[self._turn :]):
            path, event = self.events[self._turn]
            if path != key:
                await self._moved.wait()
                continue
            yield json.dumps(event).encode() + b"\n"
            self._turn += 1
            moved, self._moved = self._moved, anyio.Event()
            moved.set()


_PODS, _MAPS = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/configmaps"


def _watch(monkeypatch: pytest.MonkeyPatch, api: _Api, *words: str) -> Result:
    connected = connection.Connection(api, "default")  # type: ignore[arg-type]  # all that `get` needs
    monkeypatch.setattr(connection, "connect", lambda *_: connected)
    return CliRunner().invoke(main.app, ["get", *words, "-w"], catch_exceptions=False)


def test_several_kinds_are_watched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the version of each list on; a header comes again where another kind was between."""
    api = _Api(
        {
            _PODS: _table("pods", ("web", 3), version="7"),
            _MAPS: _table("configmaps", ("one", 4), version="8"),
        },
        [
            (_MAPS, _event("configmaps", "one", 9)),
            (_PODS, _event("pods", "web", 10)),
            (_PODS, _event("pods", "web", 11)),
            (_MAPS, _event("configmaps", "one", 12)),
        ],
    )
    result = _watch(monkeypatch, api, "pods,cm")
    pods, maps = (
        ["NAME      READY", "pod/web   1"],
        ["NAME            DATA   AGE", "configmap/one   1      1"],
    )
    again, twice = [*pods, pods[1]], [maps[1]]
    assert result.stdout.splitlines() == [*pods, "", *maps, *twice, "", *again, "", *maps]
    assert {path: query["resourceVersion"] for path, query in api.queries.items()} == {_PODS: "7", _MAPS: "8"}
    assert result.exit_code == 0


def test_named_objects_are_watched_from_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from their own version, which may be forgotten; what was printed is not printed again."""
    web, one = f"{_PODS}?metadata.name=web", f"{_MAPS}?metadata.name=one"
    api = _Api(
        {f"{_PODS}/web": _table("pods", ("web", 3)), f"{_MAPS}/one": _table("configmaps", ("one", 4))},
        [
            (web, _event("pods", "web", 3)),
            (one, _event("configmaps", "one", 4)),
            (web, _event("pods", "web", 9)),
        ],
    )
    result = _watch(monkeypatch, api, "pod/web", "cm/one", "cm/none")
    assert [line for line in result.stdout.splitlines() if line.startswith(("pod/", "configmap/"))] == [
        "pod/web   1",
        "configmap/one   1      1",
        "pod/web   1",
    ]
    assert set(api.queries) == {web, one}
    assert not any("resourceVersion" in query for query in api.queries.values())
    assert result.stderr == "error: no such object\n"
    assert result.exit_code == 4


def test_a_watch_that_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and no group of exceptions."""
    status = {"kind": "Status", "reason": "Expired", "message": "too old", "code": 410}
    api = _Api(
        {_PODS: _table("pods", ("web", 3)), _MAPS: _table("configmaps", ("one", 4))},
        [(_MAPS, {"type": "ERROR", "object": status}), (_PODS, _event("pods", "web", 9))],
    )
    result = _watch(monkeypatch, api, "pods,cm")
    assert result.stderr == "error: too old\n"
    assert result.exit_code == 1
