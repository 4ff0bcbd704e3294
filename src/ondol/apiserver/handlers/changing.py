"""create, update and patch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ondol.api import objects, resources, status
from ondol.api.objects import Object, Resource
from ondol.api.patch import apply, json_patch, merge_patch, strategic
from ondol.apiserver import answers, bodies, bootstrap, documents, lenses, metadata, schemas, writing
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Answer, Reply, Request
from ondol.apiserver.handlers import strict
from ondol.apiserver.heavy import YAML_WEIGHT
from ondol.apiserver.lenses import Lens
from ondol.apiserver.schemas import Schema
from ondol.apiserver.served import Served
from ondol.base import errors

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
_MANAGER_MAX: Final = 128
_PRINTABLE: Final = re.compile(r"[^\x00-\x1f\x7f]*")

T = TypeVar("T")


def writes(core: Core, request: Request, served: Served) -> writing.Writes:
    return writing.Writes(core, served, options(request))


def options(request: Request) -> writing.Options:
    """How the query says a write is meant."""
    return writing.Options(
        request.user,
        _manager(request),
        dry_run=dry_run(request.query.get("dryRun")),
        warn=request.warn,
        annotate=request.annotate if request.trail is not None else None,
        body_bytes=request.body_bytes,
    )


def dry_run(value: str | None) -> bool:
    if not value:
        return False
    if value != "All":
        raise errors.BadRequest(f'dryRun: Unsupported value: "{value}": supported values: "All"')
    return True


def _manager(request: Request) -> str:
    manager = request.query.get("fieldManager") or ""
    if len(manager) > _MANAGER_MAX or not _PRINTABLE.fullmatch(manager):
        raise errors.BadRequest(
            f'fieldManager: Invalid value: "{manager}": must be printable and at most {_MANAGER_MAX} bytes'
        )
    return manager or request.user_agent.partition("/")[0][:_MANAGER_MAX] or "unknown"


async def read_document(core: Core, request: Request, schema: Schema, resource: Resource) -> Object:
    """The object in the body; unknown and repeated fields are refused, warned of or ignored, as asked."""
    body = await request.body()
    return await beside(core, request, lambda: document_in(body, request, schema, resource))


async def beside(core: Core, request: Request, work: Callable[[], T]) -> T:
    """What reading the body comes to: beside the event loop if it may take long."""
    media_type = bodies.media_type(request.header(b"content-type"))
    weight = YAML_WEIGHT if media_type in (*bodies.YAMLS, APPLY_PATCH) else 1
    return await core.heavy.run(request.user.tenant, request.body_bytes * weight, work)


def document_in(body: bytes, request: Request, schema: Schema, resource: Resource) -> Object:
    """The same of a body that was read already; `resource` names the kind where it does not itself."""
    content_type = bodies.media_type(request.header(b"content-type"))
    document = bodies.decode(body, content_type)
    strict.check_document(request, schema, document, body, resource)
    return document


async def read_typed(core: Core, request: Request, resource: Resource, schema: Schema) -> Object:
    """The body of a subresource that has a kind of its own; every field has its type."""
    document = await read_document(core, request, schema, resource)
    metadata.place(document, resource, request.info.namespace, request.info.name)
    return schema.read(document)


async def create(core: Core, request: Request, served: Served) -> Answer:
    document = await read_document(core, request, served.schema, served.resource)
    metadata.place(document, served.resource, request.info.namespace)
    return await _create(core, request, writes(core, request, served), document)


async def _create(
    core: Core, request: Request, how: writing.Writes, document: Object, *, tracked: bool = False
) -> Answer:
    written = await how.create(request.info.namespace, document, tracked=tracked)
    if how.served.resource == resources.NAMESPACE and not how.options.dry_run:
        await bootstrap.ensure_namespace_objects(core, objects.name(documents.parse(written.value)))
    return answers.one(core, request, how.served, written.value, 201)


async def update(core: Core, request: Request, served: Served, lens: Lens) -> Answer:
    info = request.info
    how = writes(core, request, served)
    if lens.subresource == "scale":
        scale = await read_typed(core, request, lenses.SCALE, schemas.SCALE)
        written = await how.update(info.namespace, info.name, lens, lambda _: scale)
        return _part_answer(request, lens, written)
    document = await read_document(core, request, served.schema, served.resource)
    metadata.place(document, served.resource, info.namespace, info.name)
    missing = core.record(served, info.namespace, info.name) is None
    if missing and served.strategy.create_on_update and not lens.subresource:
        return await _create(core, request, how, _unversioned(document))
    if not served.strategy.unconditional_update and not metadata.is_conditional(document) and not missing:
        raise _needs_version(served, info.name)
    written = await how.update(info.namespace, info.name, lens, lambda _: document)
    return answers.one(core, request, served, written.value)


def _unversioned(document: Object) -> Object:
    """As it is created by a PUT or an apply: of no version, whichever the client knew."""
    return {**document, "metadata": {k: v for k, v in document["metadata"].items() if k != "resourceVersion"}}


def _needs_version(served: Served, name: str) -> errors.Invalid:
    """In the words of the store, which knows the resource and not the kind."""
    message = "Invalid value: 0: must be specified for an update"
    cause = errors.Cause("FieldValueInvalid", message, "metadata.resourceVersion")
    resource = served.resource
    return errors.Invalid(
        f'{resource.group_resource} "{name}" is invalid: {cause.field}: {message}',
        causes=[cause],
        details={"name": name, "group": resource.group, "kind": resource.plural},
    )


def _part_answer(request: Request, lens: Lens, written: writing.Written) -> Reply:
    return answers.document(request, lens.get(documents.parse(written.value)))


async def patch(core: Core, request: Request, served: Served, lens: Lens) -> Answer:
    info = request.info
    content_type = bodies.media_type(request.header(b"content-type"))
    if content_type == APPLY_PATCH:
        return await _apply(core, request, served, lens)
    if request.flag("force"):
        raise errors.Invalid(
            'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for '
            "non-apply patch"
        )
    body = await request.body()
    sent, problems = await beside(core, request, lambda: _read_patch(request, body))
    change = _change(content_type, sent, served, lens)
    scaled = lens.subresource == "scale"
    schema = schemas.SCALE if scaled else served.schema
    patched: Any = None

    def checked(live: Object) -> Object:
        nonlocal patched
        patched = change(live)
        if not isinstance(patched, dict):
            raise strict.invalid_patch(patched, "the patched document is not a JSON object")
        strict.check_patched(request, schema, patched, problems)
        _check_identity(patched, live)
        return schema.read(patched) if scaled else patched

    how = writes(core, request, served)
    try:
        written = await how.update(info.namespace, info.name, lens, checked)
    except errors.Undecodable as error:
        raise strict.invalid_patch(patched, error.why) from error
    if scaled:
        return _part_answer(request, lens, written)
    return answers.one(core, request, served, written.value)


def _check_identity(patched: Object, live: Object) -> None:
    """A patch may not make the object another one."""
    if not isinstance(patched.get("metadata"), dict):
        raise errors.BadRequest("metadata: must be an object")
    for field in ("apiVersion", "kind"):
        if patched.get(field) != live[field]:
            raise strict.invalid_patch(patched, f"{field} of the object may not be changed by a patch")
    for field in ("name", "namespace"):
        if patched["metadata"].get(field) != live["metadata"].get(field):
            raise errors.BadRequest(
                f"the {field} of the object ({patched['metadata'].get(field)}) does not match the {field} on "
                f"the URL ({live['metadata'].get(field)})"
            )


def _change(content_type: str, body: Any, served: Served, lens: Lens) -> writing.Change:
    if content_type == JSON_PATCH:
        return lambda live: _patched(live, body)
    if not isinstance(body, dict):
        raise errors.BadRequest("a patch must be a JSON object")
    if content_type == MERGE_PATCH:
        return lambda live: merge_patch.apply(live, body)
    if content_type == STRATEGIC_PATCH and not served.schema.structural:
        shape = (schemas.SCALE if lens.subresource == "scale" else served.schema).shape
        return lambda live: strategic.apply(live, body, shape)
    accepted = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH]
    if not served.schema.structural:
        accepted.append(STRATEGIC_PATCH)
    raise errors.UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted)
    )


def _patched(live: Object, operations: Any) -> Any:
    """By JSON patch, which alone of the patches can put a deep value at a deep place."""
    try:
        changed = json_patch.apply(live, operations)
    except RecursionError as error:
        raise bodies.too_deep() from error
    bodies.check_depth(changed)
    return changed


def _read_patch(request: Request, body: bytes) -> tuple[Any, list[str]]:
    """The patch, and what is wrong in it that fieldValidation is about."""
    sent = bodies.parse(body, bodies.JSON)
    return sent, strict.in_patch(request, body, sent)


def _applied(body: bytes, request: Request, served: Served, lens: Lens) -> Object:
    """The document that is applied."""
    document = bodies.decode(body, strict.applied_type(body))
    if lens.subresource == "scale":
        raise errors.UnsupportedMediaType(f"{APPLY_PATCH} is not accepted at the scale subresource")
    strict.check_applied(request, served.schema, document, body)
    return document


async def _apply(core: Core, request: Request, served: Served, lens: Lens) -> Answer:
    info, how = request.info, writes(core, request, served)
    if not request.query.get("fieldManager"):
        raise errors.Invalid(
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
            "is required for apply patch"
        )
    body = await request.body()
    document = await beside(core, request, lambda: _applied(body, request, served, lens))
    metadata.place(document, served.resource, info.namespace, info.name)

    def merged(live: Object | None) -> Object:
        return apply.apply(
            live,
            document,
            schema=served.schema.shape,
            manager=how.options.manager,
            now=core.clock.now(),
            force=request.flag("force"),
            subresource=lens.subresource,
            reset=lens.reset,
        )

    while True:
        if core.record(served, info.namespace, info.name) is not None:
            written = await how.update(info.namespace, info.name, lens, merged, tracked=True)
            return answers.one(core, request, served, written.value)
        if lens.subresource:
            raise status.not_found(served.resource, info.name)
        if uid := objects.uid(document):
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise status.conflict(served.resource, info.name, why)
        try:
            created = await beside(core, request, lambda: _unversioned(merged(None)))
            return await _create(core, request, how, created, tracked=True)
        except errors.AlreadyExists:
            continue
