"""NodeRestriction: what a node's own account may write is its own.

Its Node and Lease, the status and the end of pods bound to it, tokens for such pods. It follows Kubernetes'
`plugin/pkg/admission/noderestriction`. A node makes no pods here: there are no static ones.
"""

from __future__ import annotations

from typing import Any, Final

from ondol.api import objects, pod_references, resources
from ondol.api.objects import Object
from ondol.apiserver import certificate_requests
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth import nodes
from ondol.apiserver.auth.rbac import Attributes
from ondol.apiserver.signing import signers
from ondol.apiserver.strategy import Context
from ondol.base import errors

_OWN_LABELS: Final = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        # Kubernetes leaves roles to others. Here the machine that runs the node runs the control plane too.
        "node-role.kubernetes.io/control-plane",
    }
)
_OWN_DOMAINS: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")
_RESERVED_DOMAINS: Final = ("kubernetes.io", "k8s.io")


def admit(parts: Parts, context: Context, request: Request) -> None:
    node = nodes.name_of(context.user)
    if not node:
        return
    resource = request.served.resource
    if resource == resources.POD and request.subresource == "eviction":
        _eviction(parts, node, request)
    elif resource == resources.POD:
        _pod(node, request)
    elif resource == resources.NODE:
        _node(node, request)
    elif resource == resources.LEASE:
        _lease(node, request)
    elif resource == resources.CERTIFICATE_SIGNING_REQUEST and request.operation == "create":
        _certificate_request(node, request)


def _certificate_request(node: str, request: Request) -> None:
    """A node asks for its own certificates alone."""
    if objects.spec(request.new).get("signerName") not in (signers.KUBELET_SERVING, signers.KUBELET_CLIENT):
        return
    if certificate_requests.problem(request.new):
        return  # refused as what it is not
    name = f"{nodes.PREFIX}{node}"
    if signers.common_name(certificate_requests.parsed(request.new)) != name:
        raise _refused(request, f"can only create a node CSR with CN={name}")


def _eviction(parts: Parts, node: str, request: Request) -> None:
    pod = parts.state.lookup(resources.POD, request.namespace, objects.name(request.new)) or {}
    if objects.spec(pod).get("nodeName") != node:
        raise _refused(request, f'node "{node}" can only evict pods with spec.nodeName set to itself')


def _pod(node: str, request: Request) -> None:
    pod = request.old or {}
    owner = objects.spec(pod).get("nodeName") or ""
    if request.operation == "create":
        raise _refused(request, f'node "{node}" makes no pods')
    if request.operation == "update" and request.subresource != "status":
        raise _refused(request, f"unexpected operation on subresource {request.subresource!r} of pods")
    if owner != node:
        verb = "delete" if request.operation == "delete" else "update status for"
        raise _refused(request, f'node "{node}" can only {verb} pods with spec.nodeName set to itself')
    if request.operation == "update" and objects.labels(request.new) != objects.labels(pod):
        raise _refused(request, f'node "{node}" cannot update labels through pod status')


def _node(node: str, request: Request) -> None:
    name = objects.name(request.old or request.new)
    if name != node:
        raise _refused(request, f'node "{node}" is not allowed to modify node "{name}"')
    if request.operation == "delete":
        raise _refused(request, f'node "{node}" is not allowed to delete itself')
    old = request.old or {}
    changed = _changed(objects.labels(old), objects.labels(request.new))
    if forbidden := sorted(label for label in changed if not _is_own(label)):
        raise _refused(request, f'node "{node}" is not allowed to modify labels: {", ".join(forbidden)}')
    if request.operation == "update" and _taints(request.new) != _taints(old):
        raise _refused(request, f'node "{node}" is not allowed to modify taints')
    if (objects.metadata(request.new).get("ownerReferences") or []) != (
        objects.metadata(old).get("ownerReferences") or []
    ):
        raise _refused(request, f'node "{node}" is not allowed to set ownerReferences')


def _changed(old: Any, new: Any) -> set[str]:
    return {label for label in old.keys() | new.keys() if old.get(label) != new.get(label)}


def _is_own(label: str) -> bool:
    domain = label.rpartition("/")[0]
    if label in _OWN_LABELS or any(_within(domain, own) for own in _OWN_DOMAINS):
        return True
    return not any(_within(domain, reserved) for reserved in _RESERVED_DOMAINS)


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith(f".{parent}")


def _taints(obj: Object) -> list[Any]:
    return list(objects.spec(obj).get("taints") or ())


def _lease(node: str, request: Request) -> None:
    obj = request.old or request.new
    if request.namespace != nodes.LEASE_NAMESPACE:
        raise _refused(request, f'can only access leases in the "{nodes.LEASE_NAMESPACE}" system namespace')
    if objects.name(obj) != node:
        raise _refused(request, "can only access node lease with the same name as the requesting node")


def check_token(parts: Parts, context: Context, token_request: Object, namespace: str, account: str) -> None:
    """Refuse a node's request for a token that is not bound to a pod of its own, or not for its audiences."""
    node = nodes.name_of(context.user)
    if not node:
        return
    spec = token_request.get("spec") or {}
    bound = spec.get("boundObjectRef") or {}
    if (bound.get("apiVersion"), bound.get("kind")) != ("v1", "Pod") or not bound.get("name"):
        raise _token_refused(account, "node requested token not bound to a pod")
    if not bound.get("uid"):
        raise _token_refused(account, "node requested token with a pod binding without a uid")
    pod = parts.state.lookup(resources.POD, namespace, bound["name"])
    if pod is None:
        raise _token_refused(account, f'pods "{bound["name"]}" not found')
    if objects.uid(pod) != bound["uid"]:
        raise _token_refused(
            account,
            f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. The "
            "object might have been deleted and then recreated",
        )
    if objects.spec(pod).get("nodeName") != node:
        raise _token_refused(account, "node requested token bound to a pod scheduled on a different node")
    _check_audiences(parts, context, pod, [str(a) for a in spec.get("audiences") or ()], account)


def _check_audiences(parts: Parts, context: Context, pod: Object, audiences: list[str], account: str) -> None:
    allowed = pod_references.audiences(objects.spec(pod))
    for audience in audiences or [""]:
        if audience in allowed:
            continue
        if (
            parts.rbac is not None
            and parts.rbac.authorize(
                context.user,
                Attributes(
                    "request-serviceaccounts-token-audience",
                    resource=audience,
                    namespace=objects.namespace(pod),
                    name=account,
                ),
            ).allowed
        ):
            continue
        raise _token_refused(
            account,
            f'audience "{audience}" not found in pod spec volume, {context.user.name} is not authorized to '
            "request tokens for this audience",
        )


def _token_refused(account: str, why: str) -> errors.Forbidden:
    return errors.Forbidden(
        f'serviceaccounts "{account}" is forbidden: {why}',
        details={"name": account, "kind": "serviceaccounts"},
    )


def _refused(request: Request, why: str) -> errors.Forbidden:
    resource, name = request.served.resource, objects.name(request.old or request.new)
    details = {"name": name, "kind": resource.plural, **({"group": resource.group} if resource.group else {})}
    return errors.Forbidden(f'{resource.group_resource} "{name}" is forbidden: {why}', details=details)
