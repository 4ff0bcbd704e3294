"""Field validation: what of a body the kind has no field for, or says twice, and who is told of it.

The query's `fieldValidation` asks for silence, warnings (the default) or a refusal. The words are
Kubernetes' own, and differ between a document, a patch and an applied configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.apiserver import bodies, documents
from ondol.apiserver.exchange import Request
from ondol.apiserver.schemas import Schema
from ondol.base import errors

_CHOICES: Final = ("Ignore", "Warn", "Strict")
_MEMBERS: Final = frozenset({"op", "path", "from", "value"})


def check_document(
    request: Request, schema: Schema, document: Object, body: bytes, resource: Resource
) -> None:
    """Of a whole object; `BadRequest` if it is to be strict. `resource` names the kind if it does not."""
    if (choice := _choice(request)) == "Ignore":
        return
    content_type = bodies.media_type(request.header(b"content-type"))
    problems = _of_document(schema, document, body, content_type)

    def refusal(listed: list[str]) -> errors.ApiError:
        if content_type != bodies.JSON:
            listed = _of_yaml(listed)
        kind = document.get("kind") or resource.kind
        version = str(document.get("apiVersion") or resource.version).rpartition("/")[2]
        return errors.BadRequest(
            f'{kind} in version "{version}" cannot be handled as a {kind}: {_error(listed)}'
        )

    _tell(request, choice, problems, refusal)


def check_patched(request: Request, schema: Schema, patched: Object, in_patch: list[str]) -> None:
    """Of what a patch made, after what is wrong in the patch itself; `Invalid` if it is to be strict."""
    if (choice := _choice(request)) == "Ignore":
        return
    problems = [*in_patch, *_unknown(schema, patched)]
    _tell(request, choice, problems, lambda listed: invalid_patch(patched, _error(listed)))


def in_patch(request: Request, body: bytes, patch: Any) -> list[str]:
    """What is wrong in the body of a patch: members that stand twice, or that no operation has."""
    if _choice(request) == "Ignore":
        return []
    problems = bodies.duplicates(body, bodies.JSON, patch)
    if not isinstance(patch, list):
        return problems
    operations = [(index, each) for index, each in enumerate(patch) if isinstance(each, dict)]
    extra = [f"[{index}].{member}" for index, each in operations for member in each.keys() - _MEMBERS]
    return [
        f"json patch {problem}" for problem in [*problems, *(f'unknown field "{path}"' for path in extra)]
    ]


def check_applied(request: Request, schema: Schema, applied: Object, body: bytes) -> None:
    """Of an applied configuration: a field the kind lacks could not be owned, so it is never let pass."""
    choice = _choice(request)
    if unknown := schema.unknown_fields(applied):
        problems = [f".{path}: field not declared in schema" for path in unknown]
        raise errors.BadRequest(
            f"failed to create typed patch object ({_described(applied)}): {_joined(problems)}"
        )
    if choice == "Ignore" or not (repeated := bodies.duplicates(body, applied_type(body), applied)):
        return
    # An applied configuration is YAML even where it is written in JSON.
    lines = bodies.duplicates(body, bodies.YAML, applied) or repeated

    def refusal(listed: list[str]) -> errors.ApiError:
        why = ", ".join(_of_yaml(listed))
        return errors.BadRequest(f"error strict decoding YAML: error converting YAML to JSON: {why}")

    _tell(request, choice, lines, refusal)


def applied_type(body: bytes) -> str:
    """How an applied configuration is read: JSON, which is a part of YAML, is read as such."""
    return bodies.JSON if body.lstrip()[:1] == b"{" else bodies.YAML


def invalid_patch(patched: Any, why: str) -> errors.Invalid:
    """The 422 for a patch whose result is no object of the kind."""
    quoted = documents.dump(documents.dump(patched).decode()).decode()
    cause = errors.Cause("FieldValueInvalid", f"Invalid value: {quoted}: {why}", "patch")
    return errors.Invalid(f' "" is invalid: patch: {cause.message}', causes=[cause])


def _choice(request: Request) -> str:
    choice = request.query.get("fieldValidation") or "Warn"
    if choice not in _CHOICES:
        raise errors.BadRequest(
            f'fieldValidation: Unsupported value: "{choice}": supported values: "", "Ignore", '
            '"Strict", "Warn"'
        )
    return choice


def _of_document(schema: Schema, document: Object, body: bytes, content_type: str) -> list[str]:
    """Built-in kinds are decoded in one pass over the JSON; others are read whole, then compared."""
    if content_type == bodies.JSON and not schema.structural:
        unknown = schema.unknown_fields(document)
        if not unknown and bodies.repeats_nothing(body, document):
            return []
        return bodies.strict_findings(body, unknown)
    return [*bodies.duplicates(body, content_type, document), *_unknown(schema, document)]


def _unknown(schema: Schema, document: Object) -> list[str]:
    return [f'unknown field "{path}"' for path in schema.unknown_fields(document)]


def _tell(
    request: Request, choice: str, problems: list[str], refusal: Callable[[list[str]], errors.ApiError]
) -> None:
    if problems and choice == "Strict":
        raise refusal(problems)
    for problem in problems:
        request.warn(problem)


def _error(problems: Iterable[str]) -> str:
    return f"strict decoding error: {', '.join(problems)}"


def _of_yaml(problems: list[str]) -> list[str]:
    """As Go's YAML library sums up what it found, one error for all its lines."""
    lines = [problem for problem in problems if problem.startswith("line ")]
    others = [problem for problem in problems if not problem.startswith("line ")]
    listed = "".join(f"\n  {line}" for line in lines)
    return [f"yaml: unmarshal errors:{listed}", *others] if lines else others


def _joined(problems: list[str]) -> str:
    return problems[0] if len(problems) == 1 else "errors:\n" + "\n".join(f"  {each}" for each in problems)


def _described(document: Object) -> str:
    where = f"{objects.namespace(document)}/{objects.name(document)}"
    return f"{where}; {document.get('apiVersion', '')}, Kind={document.get('kind', '')}"
