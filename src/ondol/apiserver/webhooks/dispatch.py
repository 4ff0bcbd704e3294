"""`Webhooks`: calls the webhooks that are about a write, as part of its admission.

Those that may change it are called one after the other, each with what the former ones made of it; those that
only judge it, all at once.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import anyio

from ondol.api import resources, status
from ondol.api.objects import Object
from ondol.api.patch import json_patch
from ondol.apiserver import bodies
from ondol.apiserver.admission.request import Request
from ondol.apiserver.heavy import Heavy
from ondol.apiserver.ports import Authorizer, Poster
from ondol.apiserver.state import State
from ondol.apiserver.strategy import Context
from ondol.apiserver.webhooks import attributes as views
from ondol.apiserver.webhooks import hooks, review
from ondol.apiserver.webhooks.attributes import Attributes
from ondol.apiserver.webhooks.calling import Caller, CallFailed
from ondol.apiserver.webhooks.conditions import ConditionFailed
from ondol.apiserver.webhooks.hooks import Hook
from ondol.apiserver.webhooks.metrics import Metrics
from ondol.apiserver.webhooks.review import InvalidReview, Verdict
from ondol.base import errors, log
from ondol.base.clock import Clock

T = TypeVar("T")

_log = log.get("apiserver.webhooks")


class Webhooks:
    """Implements the `Admission` port."""

    def __init__(
        self,
        state: State,
        poster: Poster,
        clock: Clock,
        rng: random.Random,
        new_uid: Callable[[], str],
        *,
        authorizer: Authorizer,
        heavy: Heavy,
    ) -> None:
        self.metrics = Metrics(clock)
        self._state = state
        self._caller = Caller(state, poster, clock, rng)
        self._new_uid = new_uid
        self._authorizer = authorizer
        self._heavy = heavy
        self._mutating = hooks.mutating(state)
        self._validating = hooks.validating(state)

    async def mutate(self, context: Context, request: Request) -> None:
        """Let each webhook patch `request.new`; a second time those that ask for what others have changed."""
        configured = self._mutating.all()
        if not configured or views.is_exempt(context, request):
            return
        is_again = request.is_again
        for hook in configured:
            attributes = await self._asked(hook, context, request)
            if attributes is None:
                continue
            if is_again and not (hook.is_called_again and views.sees_changes(hook.uid, request)):
                continue
            verdict = await self._call(hook, attributes, "admit")
            if verdict is not None:
                _warn(context, verdict)
                if not verdict.allowed:
                    raise review.denial(hook.name, verdict.status)
                if verdict.patch:
                    _need_object(hook, attributes)
                    await self._change(context, request, attributes, verdict)
            request.called[hook.uid] = request.new

    async def validate(self, context: Context, request: Request) -> None:
        """Let every webhook judge the object as it will be stored; one refusal is enough."""
        configured = self._validating.all()
        if not configured or views.is_exempt(context, request):
            return
        asked = await self._all_asked(configured, context, request)
        failures: list[errors.ApiError] = []

        async def judge(hook: Hook, attributes: Attributes) -> None:
            try:
                verdict = await self._call(hook, attributes, "validating")
            except errors.ApiError as error:
                failures.append(error)
                return
            if verdict is None:
                return
            _warn(context, verdict)
            if not verdict.allowed:
                failures.append(review.denial(hook.name, verdict.status))

        if len(asked) == 1:
            await judge(*asked[0])
        else:
            async with anyio.create_task_group() as group:
                for each in asked:
                    group.start_soon(judge, *each)
        if failures:
            raise failures[0]

    # Who is asked

    async def _all_asked(
        self, configured: Iterable[Hook], context: Context, request: Request
    ) -> list[tuple[Hook, Attributes]]:
        asked = []
        for hook in configured:
            attributes = await self._asked(hook, context, request)
            if attributes is not None:
                asked.append((hook, attributes))
        return asked

    async def _asked(self, hook: Hook, context: Context, request: Request) -> Attributes | None:
        """The write as the webhook is to see it; None if it is not asked about it."""
        attributes = views.of(context, request)
        version = hook.version_for(attributes, self._state.catalogue)
        if version is None or not hook.selects(attributes, self._namespace):
            return None
        seen = await views.in_version(attributes, version)
        if not hook.conditions:
            return seen
        try:
            return seen if hook.conditions.match(self._activation(seen)) else None
        except ConditionFailed as error:
            if hook.is_ignored_on_failure:
                return None
            resource = attributes.requested.resource
            raise status.forbidden(resource, attributes.name, str(error)) from None

    def _activation(self, attributes: Attributes) -> dict[str, Any]:
        from ondol.apiserver.webhooks import authorizing  # noqa: PLC0415  # only who has conditions pays

        return {
            "object": attributes.obj,
            "oldObject": attributes.old,
            "request": attributes.document(),
            **authorizing.variables(self._authorizer, attributes),
        }

    def _namespace(self, name: str) -> Object | None:
        return self._state.lookup(resources.NAMESPACE, "", name)

    # Calls

    async def _call(self, hook: Hook, attributes: Attributes, kind: str) -> Verdict | None:
        """What the webhook decides; None if its failure is to be passed over."""
        if attributes.dry_run and not hook.may_run_dry:
            raise errors.BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        with self.metrics.call(hook.name, attributes.operation, kind) as call:
            try:
                spoken, uid = review.version(hook.review_versions), self._new_uid()
                document = review.review(attributes, uid, spoken)
                body = await self._caller.post(hook.client, document, hook.timeout_s)
                verdict = review.verdict(body, uid, spoken, may_patch=kind == "admit")
            except (CallFailed, InvalidReview) as error:
                reason = error if isinstance(error, CallFailed) else f"received {error.kind}: {error}"
                _log.warning("webhook_failed", webhook=hook.name, error=reason)
                call.failed(is_ignored=hook.is_ignored_on_failure)
                if hook.is_ignored_on_failure:
                    return None
                message = f'Internal error occurred: failed calling webhook "{hook.name}": {reason}'
                raise errors.Internal(message) from error
            call.answered(allowed=verdict.allowed)
            return verdict

    async def _change(
        self, context: Context, request: Request, attributes: Attributes, verdict: Verdict
    ) -> None:
        """Apply a patch, and read what comes of it like what a client sends: with its defaults."""

        def work() -> Object:
            patched = json_patch.apply(attributes.obj, list(verdict.patch))
            if not isinstance(patched, dict):
                raise errors.Invalid("the patch leaves no object")
            bodies.check_depth(patched)
            return patched

        def beside(part: Callable[[], T]) -> Awaitable[T]:
            return self._heavy.run(context.user.tenant, verdict.size_bytes, part)

        try:
            changed = await views.as_requested(request, attributes, await beside(work), beside)
        except errors.ApiError as error:
            raise errors.Internal(f"Internal error occurred: {error.message}") from error
        except RecursionError as error:
            raise errors.Internal(f"Internal error occurred: {bodies.too_deep().message}") from error
        if changed != request.new:
            request.new = changed


def _need_object(hook: Hook, attributes: Attributes) -> None:
    """A deletion has no object that could be changed."""
    if attributes.obj is None:
        raise errors.Internal(
            f'Internal error occurred: admission webhook "{hook.name}" attempted to modify the object, '
            "which is not supported for this operation"
        )


def _warn(context: Context, verdict: Verdict) -> None:
    for message in verdict.warnings:
        context.warn(message)
