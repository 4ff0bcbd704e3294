"""The seats of requests: each is of the first FlowSchema that fits, and waits at that one's level if it must.

It runs on every request's path: what a request is of is remembered until an object changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, NamedTuple

from ondol.api import conditions, flow_control, objects, resources
from ondol.api.objects import Object, Resource
from ondol.apiserver import bootstrap, lenses, writing
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Headers, Request
from ondol.apiserver.priority import matching
from ondol.apiserver.priority.levels import Level, Levels, Seat
from ondol.base import errors, log, metrics
from ondol.base.metrics import Family

_REMEMBERED_MAX: Final = 4096
_WAIT_PART: Final = 4
"""A request may wait this part of its time for a seat."""
_SCHEMA_HEADER: Final = b"x-kubernetes-pf-flowschema-uid"
_LEVEL_HEADER: Final = b"x-kubernetes-pf-prioritylevel-uid"


class Flow(NamedTuple):
    """What requests of one kind by one user are of."""

    level: Level
    name: str
    """Of the schema, and of what tells its flows apart."""
    headers: Headers


class Priorities:
    """The objects as they are now, and who has which seat."""

    def __init__(self, core: Core) -> None:
        config = core.config
        self._core = core
        self._levels = Levels(config.reads_in_flight_max + config.writes_in_flight_max, core.clock)
        self._schemas: list[Object] = []
        self._flows: dict[tuple[object, ...], Flow | None] = {}
        self._wait_s = config.request_timeout_s / _WAIT_PART

    def flow(self, request: Request) -> Flow | None:
        """What a request is of; None as long as there are no objects."""
        info, user = request.info, request.user
        place = (info.group, info.resource, info.subresource, info.namespace) if info.resource else info.path
        key = (user.name, user.groups, info.verb, place)
        try:
            return self._flows[key]
        except KeyError:
            if len(self._flows) >= _REMEMBERED_MAX:
                self._flows.clear()
            flow = self._flows[key] = self._matched(request)
            return flow

    def _matched(self, request: Request) -> Flow | None:
        schema = matching.first(self._schemas, request.user, request.info)
        if schema is None:
            return None
        level = self._levels.by_name[matching.level_of(schema)]
        name = f"{objects.name(schema)}/{matching.distinguisher(schema, request.user, request.info)}"
        headers = [(_SCHEMA_HEADER, objects.uid(schema).encode()), (_LEVEL_HEADER, level.header)]
        return Flow(level, name, headers)

    async def wait(self, flow: Flow) -> Seat:
        """A seat, where `flow.level.take()` gave none; `TooManyRequests` if there will be none."""
        return await flow.level.wait(flow.name, self._wait_s)

    def load(self) -> None:
        """Take over what the objects say."""
        levels = {objects.name(each): each for each in self._core.list_objects(resources.PRIORITY_LEVEL)}
        self._levels.update(levels)
        schemas = self._core.list_objects(resources.FLOW_SCHEMA)
        self._schemas = matching.ordered(each for each in schemas if matching.level_of(each) in levels)
        self._flows.clear()

    async def follow_levels(self) -> None:
        """Take over each change, and say of schemas whether their level is there."""
        is_first = True
        async for _ in self._changes(resources.PRIORITY_LEVEL):
            if not is_first:
                await self._tell_of_dangling()
            is_first = False

    async def follow_schemas(self) -> None:
        async for _ in self._changes(resources.FLOW_SCHEMA):
            pass

    async def _changes(self, resource: Resource) -> AsyncIterator[None]:
        """Goes on after the objects were loaded, first at once and then after each change."""
        served = self._core.catalogue.of(resource)
        store = self._core.store
        while True:
            cursor = store.watch(served.bucket, after=store.revision)
            try:
                while True:
                    self.load()
                    yield None
                    while not cursor.take():
                        await cursor.changed()
            except errors.Expired:
                continue

    async def _tell_of_dangling(self) -> None:
        served = self._core.catalogue.of(resources.FLOW_SCHEMA)
        writes = writing.Writes(self._core, served, bootstrap.OPTIONS)
        lens = lenses.Status(served.strategy.status_reset)
        for schema in list(self._core.list_objects(resources.FLOW_SCHEMA)):
            is_there = self._core.lookup(resources.PRIORITY_LEVEL, "", matching.level_of(schema)) is not None
            was = conditions.get(schema, flow_control.DANGLING)
            if was is None or (was.get("status") == "True") is not is_there:
                continue
            condition = flow_control.dangling(
                matching.level_of(schema), is_there=is_there, now=self._core.clock.now()
            )
            try:
                await writes.update("", objects.name(schema), lens, _changed(schema, condition))
            except errors.ApiError as error:
                log.get("apiserver").warning("flow_schema_not_told", error=str(error))

    def collect(self) -> Iterable[Family]:
        levels = self._levels.by_name.items()
        waiting = {(name,): each.queues.waiting if each.queues is not None else 0 for name, each in levels}
        label = ("priority_level",)
        yield metrics.gauge(
            "apiserver_flowcontrol_current_executing_requests",
            "Requests under way, by their level.",
            {(name,): each.taken for name, each in levels},
            label,
        )
        yield metrics.gauge(
            "apiserver_flowcontrol_current_inqueue_requests", "Requests that wait.", waiting, label
        )
        yield metrics.counter(
            "apiserver_flowcontrol_rejected_requests_total",
            "Requests refused.",
            {(name,): each.rejected for name, each in levels},
            label,
        )


def _changed(schema: Object, condition: Object) -> Callable[[Object], Object]:
    """Sets a condition, if the schema still names the level that it is about."""

    def change(live: Object) -> Object:
        if matching.level_of(live) != matching.level_of(schema):
            return live
        return {**live, "status": {**objects.status(live), "conditions": [condition]}}

    return change
