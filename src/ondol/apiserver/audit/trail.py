"""What one request leaves in the audit log: a record a stage, by the policy.

Follows `k8s.io/apiserver/pkg/endpoints/filters/audit.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ondol.api.objects import Object
from ondol.apiserver import bodies
from ondol.apiserver.audit import policy, records
from ondol.apiserver.audit.log_file import LogFile
from ondol.apiserver.audit.policy import Config, Policy
from ondol.apiserver.audit.records import Body, Record
from ondol.apiserver.auth.identity import User
from ondol.apiserver.exchange import Answer, Reply, Request
from ondol.base import timestamps
from ondol.base.clock import Clock

_REQUEST: Final = policy.LEVELS.index("Request")
_RESPONSE: Final = policy.LEVELS.index("RequestResponse")
_UNKNOWN: Final = "Authentication failed"


class Auditor:
    """The policy, and where records go."""

    def __init__(self, rules: Policy, file: LogFile, clock: Clock) -> None:
        self._policy = rules
        self._file = file
        self._clock = clock

    def trail(self, request: Request, audit_id: str) -> Trail:
        return Trail(self._policy, self._file.add, self._clock, request, audit_id)


class Trail:
    """The records of one request."""

    def __init__(
        self,
        rules: Policy,
        add: Callable[[Record], None],
        clock: Clock,
        request: Request,
        audit_id: str,
    ) -> None:
        self._policy = rules
        self._add = add
        self._clock = clock
        self._request = request
        self._audit_id = audit_id
        self._received = clock.now()
        self._config: Config | None = None
        self._document: Object = {}
        self._reply: Reply | None = None
        self._code = 0

    def begin(self, user: User | None) -> None:
        """The caller is known, or known not to be."""
        self._config = self._policy.of(user, self._request.info)
        if self._config.level:
            self._document = records.of_request(self._request, self._audit_id, self._received)
            if user is not None:
                self._document["user"] = user.document()
                self._record(policy.RECEIVED)

    def acts_as(self, user: User) -> None:
        self._document["impersonatedUser"] = user.document()

    def answered(self, answer: Answer, code: int) -> None:
        """What is about to be sent; of what lasts long its start is recorded."""
        self._code = code
        if isinstance(answer, Reply):
            self._reply = answer
        elif code and self._is_recorded:
            self._record(policy.STARTED)

    def end(self, code: int, *, is_panic: bool = False) -> None:
        self._code = code or self._code
        if self._config is None:
            self.begin(None)
            if self._is_recorded:
                self._record(policy.STARTED, _UNKNOWN)
        elif self._is_recorded:
            self._record(policy.PANIC if is_panic else policy.COMPLETE)

    @property
    def _is_recorded(self) -> bool:
        return self._config is not None and self._config.level > 0

    def _record(self, stage: str, reason: str = "") -> None:
        config = self._config
        if config is None or stage in config.omitted_stages:
            return
        document = {
            **self._document,
            "level": policy.LEVELS[config.level],
            "stage": stage,
            "stageTimestamp": timestamps.rfc3339_micro(self._clock.now()),
        }
        if self._request.annotations:
            document["annotations"] = dict(self._request.annotations)
        reply = self._reply
        if stage != policy.RECEIVED:
            body = reply.body if reply is not None else b""
            document["responseStatus"] = records.response_status(self._code or 200, body, reason)
        self._add(Record(document, config, self._sent(config, stage), self._answer(config, stage)))

    def _sent(self, config: Config, stage: str) -> Body | None:
        content = self._request.received
        if config.level < _REQUEST or stage == policy.RECEIVED or not content:
            return None
        return Body(content, bodies.media_type(self._request.header(b"content-type")))

    def _answer(self, config: Config, stage: str) -> Body | None:
        if config.level < _RESPONSE or stage != policy.COMPLETE or self._reply is None:
            return None
        return Body(self._reply.body, bodies.media_type(self._reply.content_type.decode("latin-1")))
