"""No one hands out more than they have: the check on writing roles and bindings.

The API server calls it before it stores one of the four RBAC kinds. A user may grant rules they hold
themselves in that scope; the verbs `escalate` (on roles) and `bind` (on a role) lift that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.apiserver.auth import identity, rbac
from ondol.apiserver.auth.identity import User
from ondol.base import errors

_ROLES: Final = (resources.ROLE, resources.CLUSTER_ROLE)
# What the garbage collector changes on an object that is not its own.
_COLLECTED: Final = ("ownerReferences", "finalizers")
_BOOKKEEPING: Final = ("managedFields", "resourceVersion", "generation")


class Atom(NamedTuple):
    """A rule broken down as far as it goes: one verb on one resource (and name), or on one URL."""

    verb: str
    group: str = ""
    resource: str = ""
    name: str = ""
    url: str = ""


def check(
    authorizer: rbac.Authorizer, user: User, resource: Resource, new: Object, old: Object | None = None
) -> None:
    """Raise `Forbidden` if writing this role or binding would grant what the user does not hold."""
    if identity.MASTERS in user.groups or (old is not None and _only_collected(old, new)):
        return
    if resource in _ROLES:
        _check_role(authorizer, user, resource, new)
    else:
        _check_binding(authorizer, user, resource, new)


def _check_role(authorizer: rbac.Authorizer, user: User, resource: Resource, role: Object) -> None:
    namespace = objects.namespace(role)
    attributes = rbac.Attributes("escalate", rbac.GROUP, resource.plural, "", namespace, objects.name(role))
    if authorizer.authorize(user, attributes).allowed:
        return
    if role.get("aggregationRule"):
        # Aggregation can later bring in any rule there is, so it takes all of them to set it up.
        everything = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        urls = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        _confirm(authorizer, user, resource, role, [*everything, *urls])
    _confirm(authorizer, user, resource, role, role.get("rules") or ())


def _check_binding(authorizer: rbac.Authorizer, user: User, resource: Resource, binding: Object) -> None:
    reference, namespace = binding.get("roleRef") or {}, objects.namespace(binding)
    plural = "roles" if reference.get("kind") == "Role" else "clusterroles"
    attributes = rbac.Attributes("bind", rbac.GROUP, plural, "", namespace, reference.get("name") or "")
    if authorizer.authorize(user, attributes).allowed:
        return
    rules = [rule.document for rule in authorizer.role_rules(reference, namespace)]
    _confirm(authorizer, user, resource, binding, rules)


def _confirm(
    authorizer: rbac.Authorizer,
    user: User,
    resource: Resource,
    obj: Object,
    rules: Iterable[Mapping[str, Any]],
) -> None:
    own, problems = authorizer.rules_for(user, objects.namespace(obj))
    missing = uncovered(own, rules)
    if not missing:
        return
    groups = "[" + " ".join(f'"{group}"' for group in user.groups) + "]"
    text = (
        f'user "{user.name}" (groups={groups}) is attempting to grant RBAC permissions not currently held:\n'
        + "\n".join(_described(missing))
    )
    if problems:
        text += f"; resolution errors: [{', '.join(problems)}]"
    name = objects.name(obj)
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    raise errors.Forbidden(f'{resource.group_resource} "{name}" is forbidden: {text}', details=details)


def uncovered(own: Sequence[rbac.Rule], rules: Iterable[Mapping[str, Any]]) -> list[Atom]:
    """What of `rules` is not in `own`, atom by atom."""
    return [atom for rule in rules for atom in atoms(rule) if not any(_covers(each, atom) for each in own)]


def atoms(rule: Mapping[str, Any]) -> Iterator[Atom]:
    verbs = rule.get("verbs") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                for name in rule.get("resourceNames") or ("",):
                    yield Atom(verb, group, resource, name)
    for url in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield Atom(verb, url=url)


def _covers(rule: rbac.Rule, atom: Atom) -> bool:
    if atom.verb not in rule.verbs and rbac.ALL not in rule.verbs:
        return False
    if atom.url:
        return any(rbac.url_covers(url, atom.url) for url in rule.urls)
    if atom.group not in rule.groups and rbac.ALL not in rule.groups:
        return False
    if rule.names and atom.name not in rule.names:
        return False
    _, slash, subresource = atom.resource.partition("/")
    return (
        rbac.ALL in rule.resources
        or atom.resource in rule.resources
        or (bool(slash) and f"*/{subresource}" in rule.resources)
    )


def _described(missing: Iterable[Atom]) -> list[str]:
    """Sorted lines, verbs of the same resource together, as Kubernetes prints them."""
    verbs: dict[Atom, list[str]] = {}
    for atom in missing:
        verbs.setdefault(atom._replace(verb=""), []).append(atom.verb)
    return sorted(_line(atom, together) for atom, together in verbs.items())


def _line(atom: Atom, verbs: Sequence[str]) -> str:
    if atom.url:
        parts = [f'NonResourceURLs:["{atom.url}"]']
    else:
        parts = [f'APIGroups:["{atom.group}"]', f'Resources:["{atom.resource}"]']
        if atom.name:
            parts.append(f'ResourceNames:["{atom.name}"]')
    spelled = " ".join(f'"{verb}"' for verb in dict.fromkeys(verbs))
    return "{" + ", ".join([*parts, f"Verbs:[{spelled}]"]) + "}"


def _only_collected(old: Object, new: Object) -> bool:
    """Whether the change touches only what the garbage collector needs to touch."""
    return _without_collected(old) == _without_collected(new)


def _without_collected(obj: Object) -> Object:
    left_out = (*_COLLECTED, *_BOOKKEEPING)
    return {**obj, "metadata": {k: v for k, v in objects.metadata(obj).items() if k not in left_out}}
