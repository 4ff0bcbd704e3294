"""Rules of webhook configurations: what is sent to a webhook, where it listens, and what it promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from ondol.api.schema import causes
from ondol.api.validation import fields, workloads
from ondol.base import names
from ondol.base.errors import Cause

FAILURE_POLICIES: Final = ("Fail", "Ignore")
MATCH_POLICIES: Final = ("Equivalent", "Exact")
REINVOCATION_POLICIES: Final = ("IfNeeded", "Never")
REVIEW_VERSIONS: Final = ("v1", "v1beta1")
"""The versions of AdmissionReview that API servers speak."""
_SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")
_OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES: Final = ("*", "Cluster", "Namespaced")
_CONDITIONS_MAX: Final = 64
_FORM: Final = "; desired format: https://host[/path]"


def configuration(obj: Mapping[str, Any]) -> Iterator[Cause]:
    webhooks = obj.get("webhooks") or ()
    for index, webhook in enumerate(webhooks):
        yield from _webhook(webhook, f"webhooks[{index}]")
    named = ((index, webhook["name"]) for index, webhook in enumerate(webhooks) if webhook.get("name"))
    yield from fields.unique("webhooks", named, "name")


def _webhook(webhook: Mapping[str, Any], path: str) -> Iterator[Cause]:
    yield from fields.fully_qualified(f"{path}.name", webhook.get("name") or "")
    for index, rule in enumerate(webhook.get("rules") or ()):
        yield from rule_with_operations(rule, f"{path}.rules[{index}]")
    yield from chosen(f"{path}.failurePolicy", webhook.get("failurePolicy"), FAILURE_POLICIES)
    yield from chosen(f"{path}.matchPolicy", webhook.get("matchPolicy"), MATCH_POLICIES)
    effects = webhook.get("sideEffects")
    if effects is None:
        yield causes.required(f"{path}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}")
    yield from chosen(f"{path}.sideEffects", effects, _SIDE_EFFECTS)
    timeout = webhook.get("timeoutSeconds")
    if timeout is not None and not 1 <= timeout <= 30:
        detail = "the timeout value must be between 1 and 30 seconds"
        yield causes.invalid(f"{path}.timeoutSeconds", timeout, detail)
    for selector in ("namespaceSelector", "objectSelector"):
        yield from workloads.label_selector(webhook.get(selector) or {}, f"{path}.{selector}")
    yield from chosen(f"{path}.reinvocationPolicy", webhook.get("reinvocationPolicy"), REINVOCATION_POLICIES)
    yield from client_config(webhook.get("clientConfig") or {}, f"{path}.clientConfig")
    yield from match_conditions(webhook.get("matchConditions") or (), f"{path}.matchConditions")
    versions = webhook.get("admissionReviewVersions") or ()
    yield from _review_versions(versions, f"{path}.admissionReviewVersions")


def chosen(path: str, value: str | None, allowed: Sequence[str]) -> Iterator[Cause]:
    """One of a few, where the empty text is none of them."""
    if value is not None and value not in allowed:
        yield causes.not_supported(path, value, allowed)


def _review_versions(versions: Sequence[str], path: str) -> Iterator[Cause]:
    listed = ", ".join(REVIEW_VERSIONS)
    if not versions:
        yield causes.required(path, f"must specify one of {listed}")
        return
    for index, version in enumerate(versions):
        if version in versions[:index]:
            yield causes.invalid(f"{path}[{index}]", version, "duplicate version")
        else:
            yield from fields.label_1035(f"{path}[{index}]", version)
    if not set(versions) & set(REVIEW_VERSIONS):
        yield causes.invalid(path, list(versions), f"must include at least one of {listed}")


def rule_with_operations(rule: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Which requests are meant: what is done to what."""
    operations = rule.get("operations") or ()
    yield from _listed(f"{path}.operations", operations, "operations")
    for index, operation in enumerate(operations):
        yield from chosen(f"{path}.operations[{index}]", operation, _OPERATIONS)
    yield from _listed(f"{path}.apiGroups", rule.get("apiGroups") or (), "API groups")
    versions = rule.get("apiVersions") or ()
    yield from _listed(f"{path}.apiVersions", versions, "API versions")
    for index, version in enumerate(versions):
        if not version:
            yield causes.required(f"{path}.apiVersions[{index}]")
    yield from _resources(rule.get("resources") or (), f"{path}.resources")
    yield from chosen(f"{path}.scope", rule.get("scope"), _SCOPES)


def _listed(path: str, values: Sequence[str], word: str) -> Iterator[Cause]:
    if not values:
        yield causes.required(path)
    if len(values) > 1 and "*" in values:
        yield causes.invalid(path, list(values), f"if '*' is present, must not specify other {word}")


def _resources(resources: Sequence[str], path: str) -> Iterator[Cause]:
    if not resources:
        yield causes.required(path)
    for index, resource in enumerate(resources):
        if not resource:
            yield causes.required(f"{path}[{index}]")
        for wider in _wider(resource, resources[:index]):
            detail = f"if '{wider}' is present, must not specify {resource}"
            yield causes.invalid(f"{path}[{index}]", resource, detail)
    if len(resources) > 1 and "*/*" in resources:
        yield causes.invalid(path, list(resources), "if '*/*' is present, must not specify other resources")
    if "*" in resources and any(r not in ("", "*") and "/" not in r for r in resources):
        detail = "if '*' is present, must not specify other resources without subresources"
        yield causes.invalid(path, list(resources), detail)


def _wider(resource: str, before: Sequence[str]) -> Iterator[str]:
    """What stands before a subresource that has it in it."""
    main, slash, part = resource.partition("/")
    if slash:
        yield from (wider for wider in (f"{main}/*", f"*/{part}") if wider in before)


def client_config(config: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Where a webhook listens: at a URL or behind a Service."""
    address, reference = config.get("url"), config.get("service")
    if (address is None) == (reference is None):
        yield causes.required(path, "exactly one of url or service is required")
    elif address is not None:
        yield from url(f"{path}.url", address)
    else:
        yield from service(f"{path}.service", reference or {})


def url(path: str, text: str) -> Iterator[Cause]:
    """Encrypted, with nothing in it that is not the place."""
    try:
        parts: SplitResult = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        yield causes.required(path, f"url must be a valid URL: {error}{_FORM}")
        return
    user, _at, host = parts.netloc.rpartition("@")
    if parts.scheme != "https":
        yield causes.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}")
    if not host:
        yield causes.invalid(path, host, f"host must be specified{_FORM}")
    if user:
        yield causes.invalid(path, user, "user information is not permitted in the URL")
    if parts.fragment:
        yield causes.invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        yield causes.invalid(path, parts.query, "query parameters are not permitted in the URL")


def service(path: str, reference: Mapping[str, Any]) -> Iterator[Cause]:
    """A Service, its port, and the path of a URL there."""
    for field in ("name", "namespace"):
        if not reference.get(field):
            yield causes.required(f"{path}.{field}")
    port = reference.get("port") or 0
    if not 1 <= port <= 65535:
        detail = "port is not valid: must be between 1 and 65535, inclusive"
        yield causes.invalid(f"{path}.port", port, detail)
    yield from _url_path(f"{path}.path", reference.get("path") or "/")


def _url_path(path: str, text: str) -> Iterator[Cause]:
    if text == "/":
        return
    if text == "//":
        yield causes.invalid(path, text, "segment[0] may not be empty")
        return
    if not text.startswith("/"):
        yield causes.invalid(path, text, "must start with a '/'")
    for index, segment in enumerate(text[1:].removesuffix("/").split("/")):
        if not segment:
            yield causes.invalid(path, text, f"segment[{index}] may not be empty")
        elif not names.is_dns1123_subdomain(segment):
            yield causes.invalid(path, text, f"segment[{index}]: {fields.SUBDOMAIN}")


def match_conditions(conditions: Sequence[Mapping[str, Any]], path: str) -> Iterator[Cause]:
    """Conditions have names of their own, and expressions, which whoever evaluates them compiles."""
    if len(conditions) > _CONDITIONS_MAX:
        yield causes.too_many(path, len(conditions), _CONDITIONS_MAX)
    for index, condition in enumerate(conditions):
        if not (condition.get("expression") or "").strip():
            yield causes.required(f"{path}[{index}].expression")
        if not condition.get("name"):
            yield causes.required(f"{path}[{index}].name")
        else:
            yield from fields.qualified(f"{path}[{index}].name", condition["name"])
    yield from fields.unique(path, _names(conditions), "name")


def _names(conditions: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    return ((index, each["name"]) for index, each in enumerate(conditions) if each.get("name"))
