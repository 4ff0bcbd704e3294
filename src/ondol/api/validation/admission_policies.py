"""Rules of admission policies and their bindings; their expressions are for who evaluates them to compile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import cel_words, objects
from ondol.api.schema import causes
from ondol.api.validation import fields, webhooks, workloads
from ondol.base import names
from ondol.base.errors import Cause

_REASONS: Final = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS: Final = ("Audit", "Deny", "Warn")
_MUTATED: Final = ("*", "CONNECT", "CREATE", "UPDATE")
_PATCH_TYPES: Final = ("ApplyConfiguration", "JSONPatch")
_ANNOTATIONS_MAX: Final = 20
_ANNOTATION_BYTES: Final = 5 * 1024
_IDENTIFIER: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_SOMETHING: Final = "validations or auditAnnotations must contain at least one item"


def validating_policy(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from _policy(spec)
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not annotations:
        yield causes.required("spec.validations", _SOMETHING)
        yield causes.required("spec.auditAnnotations", _SOMETHING)
    for index, validation in enumerate(validations):
        yield from _validation(validation, f"spec.validations[{index}]")
    yield from _annotations(annotations, objects.name(obj))


def mutating_policy(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from _policy(spec)
    yield from _mutable(spec.get("matchConstraints") or {}, "spec.matchConstraints")
    if not spec.get("mutations"):
        yield causes.required("spec.mutations", "mutations must contain at least one item")
    for index, mutation in enumerate(spec.get("mutations") or ()):
        yield from _mutation(mutation, f"spec.mutations[{index}]")
    reinvocation = spec.get("reinvocationPolicy")
    policies = webhooks.REINVOCATION_POLICIES
    yield from fields.one_of("spec.reinvocationPolicy", reinvocation, policies, required=True)


def _policy(spec: Mapping[str, Any]) -> Iterator[Cause]:
    """What both kinds of policies have in common."""
    policies = webhooks.FAILURE_POLICIES
    yield from webhooks.chosen("spec.failurePolicy", spec.get("failurePolicy"), policies)
    if spec.get("paramKind") is not None:
        yield from _param_kind(spec["paramKind"], "spec.paramKind")
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield causes.required("spec.matchConstraints")
    else:
        yield from _match_resources(constraints, "spec.matchConstraints")
        if not constraints.get("resourceRules"):
            yield causes.required("spec.matchConstraints.resourceRules")
    yield from webhooks.match_conditions(spec.get("matchConditions") or (), "spec.matchConditions")
    for index, variable in enumerate(spec.get("variables") or ()):
        yield from _variable(variable, f"spec.variables[{index}]")


def _param_kind(kind: Mapping[str, Any], path: str) -> Iterator[Cause]:
    text, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    if not text:
        yield causes.required(f"{path}.apiVersion")
    elif text.count("/") > 1:
        yield causes.invalid(f"{path}.apiVersion", text, f"unexpected GroupVersion string: {text}")
    else:
        group, _, version = text.rpartition("/")
        if group:
            yield from fields.subdomain(f"{path}.apiVersion", group)
        if not version:
            yield causes.invalid(f"{path}.apiVersion", text, "version must be specified")
        else:
            yield from fields.label_1035(f"{path}.apiVersion", version)
    if not name:
        yield causes.required(f"{path}.kind")
    elif not names.is_dns1035_label(name.lower()):
        detail = f"may have mixed case, but should otherwise match: {fields.LABEL_1035}"
        yield causes.invalid(f"{path}.kind", name, detail)


def _match_resources(match: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from webhooks.chosen(f"{path}.matchPolicy", match.get("matchPolicy"), webhooks.MATCH_POLICIES)
    for selector in ("namespaceSelector", "objectSelector"):
        yield from workloads.label_selector(match.get(selector) or {}, f"{path}.{selector}")
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(field) or ()):
            yield from _named_rule(rule, f"{path}.{field}[{index}]")


def _named_rule(rule: Mapping[str, Any], path: str) -> Iterator[Cause]:
    listed = rule.get("resourceNames") or ()
    for index, name in enumerate(listed):
        yield from fields.path_segment(f"{path}.resourceNames[{index}]", name)
    yield from fields.unique(f"{path}.resourceNames", enumerate(listed))
    yield from webhooks.rule_with_operations(rule, path)


def _mutable(match: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """What is deleted can no longer be changed."""
    for rule in match.get("resourceRules") or ():
        for operation in rule.get("operations") or ():
            if operation not in _MUTATED:
                yield causes.not_supported(f"{path}.resourceRules.operations", operation, _MUTATED)


def _variable(variable: Mapping[str, Any], path: str) -> Iterator[Cause]:
    name = variable.get("name") or ""
    if not name.strip():
        yield causes.required(f"{path}.name", "name is not specified")
    elif not _IDENTIFIER.fullmatch(name) or name in cel_words.RESERVED:
        yield causes.invalid(f"{path}.name", name, "must be a valid CEL identifier")
    yield from _expression(variable, f"{path}.expression", "expression is not specified")


def _expression(holder: Mapping[str, Any], path: str, detail: str = "") -> Iterator[Cause]:
    if not (holder.get(path.rpartition(".")[2]) or "").strip():
        yield causes.required(path, detail)


def _validation(validation: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from _expression(validation, f"{path}.expression", "expression is not specified")
    for field in ("messageExpression", "message"):
        text = validation.get(field) or ""
        if text and not text.strip():
            yield causes.invalid(f"{path}.{field}", text, "must be non-empty if specified")
        elif field == "message" and re.search(r"[\n\r]", text.strip()):
            yield causes.invalid(f"{path}.{field}", text, "must not contain line breaks")
    yield from webhooks.chosen(f"{path}.reason", validation.get("reason"), _REASONS)


def _annotations(annotations: Sequence[Mapping[str, Any]], policy: str) -> Iterator[Cause]:
    path = "spec.auditAnnotations"
    if len(annotations) > _ANNOTATIONS_MAX:
        detail = f"must not have more than {_ANNOTATIONS_MAX} auditAnnotations"
        yield causes.invalid(path, list(annotations), detail)
    for index, annotation in enumerate(annotations):
        item, key = f"{path}[{index}]", annotation.get("key") or ""
        if not policy:
            yield causes.invalid(f"{item}.key", key, "requires metadata.name be non-empty")
        else:
            yield from fields.qualified(f"{item}.key", f"{policy}/{key}")
        yield from _expression(annotation, f"{item}.valueExpression", "valueExpression is not specified")
        if len((annotation.get("valueExpression") or "").strip().encode()) > _ANNOTATION_BYTES:
            detail = f"must not exceed {_ANNOTATION_BYTES} bytes in length"
            yield causes.required(f"{item}.valueExpression", detail)
    yield from fields.unique(path, ((i, a.get("key") or "") for i, a in enumerate(annotations)), "key")


def _mutation(mutation: Mapping[str, Any], path: str) -> Iterator[Cause]:
    kind = mutation.get("patchType") or ""
    yield from fields.one_of(f"{path}.patchType", kind, _PATCH_TYPES, required=True)
    parts = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
    if kind not in parts:
        return
    own = parts.pop(kind)
    other = next(iter(parts.values()))
    if mutation.get(own) is None:
        yield causes.required(f"{path}.{own}", f"must be specified when patchType is {kind}")
    else:
        yield from _expression(mutation[own], f"{path}.{own}.expression")
    if mutation.get(other) is not None:
        detail = f"must not be specified when patchType is {kind}"
        yield causes.invalid(f"{path}.{other}", f"{{{other}}}", detail)


def validating_binding(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from _binding(spec)
    path, actions = "spec.validationActions", spec.get("validationActions") or ()
    for index, action in enumerate(actions):
        yield from webhooks.chosen(f"{path}[{index}]", action, _ACTIONS)
    yield from fields.unique(path, enumerate(actions))
    if {"Deny", "Warn"} <= set(actions):
        detail = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the "
            "API response and headers serves no purpose)"
        )
        yield causes.invalid(path, list(actions), detail)
    if not actions:
        yield causes.required(path, "at least one validation action is required")


def mutating_binding(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    yield from _binding(spec)
    yield from _mutable(spec.get("matchResources") or {}, "spec.matchResources")


def _binding(spec: Mapping[str, Any]) -> Iterator[Cause]:
    if not spec.get("policyName"):
        yield causes.required("spec.policyName")
    else:
        yield from fields.subdomain("spec.policyName", spec["policyName"])
    if spec.get("paramRef") is not None:
        yield from _param_ref(spec["paramRef"], "spec.paramRef")
    if spec.get("matchResources") is not None:
        yield from _match_resources(spec["matchResources"], "spec.matchResources")


def _param_ref(ref: Mapping[str, Any], path: str) -> Iterator[Cause]:
    name, selector = ref.get("name") or "", ref.get("selector")
    if name:
        yield from fields.path_segment(f"{path}.name", name)
    if selector is not None:
        yield from workloads.label_selector(selector, f"{path}.selector")
    if name and selector is not None:
        for field in ("name", "selector"):
            yield causes.forbidden(f"{path}.{field}", "name and selector are mutually exclusive")
    if not name and selector is None:
        yield causes.required(path, "one of name or selector must be specified")
    action = ref.get("parameterNotFoundAction")
    yield from fields.one_of(f"{path}.parameterNotFoundAction", action, ("Deny", "Allow"), required=True)
