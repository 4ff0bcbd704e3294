"""What a server makes sure of from its start on: namespaces, priorities, its policy, Service and network.

People delete these too: `kubectl delete all --all` takes `default/kubernetes` along, through which every
pod reaches the API. `keep` notices within a second and makes them anew.

Namespaces get their default service account, and the certificate of the authority, as soon as they
are created, so that a pod can be created right after its namespace.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Iterable
from typing import Final

import anyio

from ondol.api import conditions, flow_control, objects, priority_classes, resources
from ondol.api.objects import Object, Resource
from ondol.apiserver import api_services, deleting, lenses, pki, writing
from ondol.apiserver.admission.accounts import DEFAULT, ROOT_CA
from ondol.apiserver.auth import bootstrap_policy, request_headers
from ondol.apiserver.auth.identity import MASTERS, User
from ondol.apiserver.core import Core
from ondol.base import clock, errors, groups, log
from ondol.base.backoff import Backoff
from ondol.base.database import DiskFull

NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease", "ondol-system")
SELF: Final = User("system:apiserver", (MASTERS,))
OPTIONS: Final = writing.Options(SELF, "ondol-apiserver")
_KUBERNETES: Final = "kubernetes"
_PORT_NAME: Final = "https"
_LOOK_S: Final = 1.0
_BACKOFF: Final = Backoff(initial_s=_LOOK_S, maximum_s=30.0)

_log = log.get("apiserver")


async def begin(core: Core) -> None:
    """`run`, before the first request.

    A full disk does not keep a server from starting that was started before: it reads and deletes, which is
    what an administrator then needs, and `keep` adds what is missing once there is space.
    """
    try:
        await run(core)
    except DiskFull as error:
        if any(core.lookup(resources.NAMESPACE, "", name) is None for name in NAMESPACES):
            raise
        _log.warning("bootstrap_failed", error=str(error))


async def run(core: Core) -> None:
    """Create what is missing; existing objects are left unchanged, or completed."""
    for name in NAMESPACES:
        await _ensure(core, resources.NAMESPACE, {"metadata": {"name": name}})
        if not objects.is_deleting(core.lookup(resources.NAMESPACE, "", name) or {}):
            await ensure_namespace_objects(core, name)
    for priority_class in priority_classes.system():
        await _ensure(core, resources.PRIORITY_CLASS, priority_class)
    for role in core.cluster_roles:
        await _complete(core, resources.CLUSTER_ROLE, role)
    for binding in core.cluster_role_bindings:
        await _complete(core, resources.CLUSTER_ROLE_BINDING, binding)
    await _complete(core, resources.ROLE, bootstrap_policy.authentication_reader())
    if core.config.ca_certificate:
        await _replace(core, resources.CONFIG_MAP, _authentication(core), ("data",))
    for name in bootstrap_policy.RETIRED:
        await _retire(core, resources.CLUSTER_ROLE_BINDING, name)
        await _retire(core, resources.CLUSTER_ROLE, name)
    await _own_service(core)
    await _own_network(core)
    await _own_flows(core)


def _authentication(core: Core) -> Object:
    """How other API servers know this one, which tells them who asks; and whose certificates users have."""
    names = request_headers.STANDARD
    data = {"client-ca-file": core.config.ca_certificate}
    if core.config.front_proxy:
        listed = {
            "allowed-names": (pki.FRONT_PROXY,),
            "extra-headers-prefix": names.extra_prefix,
            "group-headers": names.group,
            "uid-headers": names.uid,
            "username-headers": names.user,
        }
        data["requestheader-client-ca-file"] = core.config.front_proxy
        data |= {f"requestheader-{key}": json.dumps(value) for key, value in listed.items()}
    place = {"name": bootstrap_policy.AUTHENTICATION, "namespace": "kube-system"}
    return {"metadata": place, "data": data}


async def _own_flows(core: Core) -> None:
    """What says of requests what they weigh, and of groups who answers for them."""
    own = [(resources.PRIORITY_LEVEL, level) for level in flow_control.levels()]
    own += [(resources.FLOW_SCHEMA, schema) for schema in flow_control.schemas()]
    own += [(resources.API_SERVICE, service) for service in api_services.local(core)]
    # So that they are committed together.
    with groups.first(errors.OndolError):
        async with anyio.create_task_group() as group:
            for resource, document in own:
                group.start_soon(_ensure, core, resource, document)
    writes = writing.Writes(core, core.catalogue.of(resources.API_SERVICE), OPTIONS)
    for name in api_services.left_over(core):
        with contextlib.suppress(errors.NotFound):
            await deleting.delete(writes, "", name, deleting.DeleteOptions())


async def _retire(core: Core, resource: Resource, name: str) -> None:
    """Take away what an earlier version made, unless an administrator took it over."""
    live = core.lookup(resource, "", name)
    if live is None or objects.annotations(live).get(bootstrap_policy.AUTOUPDATE) != "true":
        return
    writes = writing.Writes(core, core.catalogue.of(resource), OPTIONS)
    with contextlib.suppress(errors.NotFound):
        await deleting.delete(writes, "", name, deleting.DeleteOptions())


async def keep(core: Core) -> None:
    """Do it again whenever one of these objects has changed, for ever.

    What cannot be written, on a full disk say, is told of once, and once more when it could be.
    """
    places, kinds = _places(core), core.catalogue.version
    seen: list[int] = []
    failures, looked_at = 0, -1
    while True:
        if core.store.revision == looked_at and core.catalogue.version == kinds:
            await core.clock.sleep(_LOOK_S)  # nothing at all was written since
            continue
        looked_at = core.store.revision
        if core.catalogue.version != kinds:
            places, kinds, seen = _places(core), core.catalogue.version, []
        revisions = _revisions(core, places)
        if revisions != seen:
            try:
                await run(core)
            except errors.OndolError as error:
                failures += 1
                if failures == 1:
                    _log.warning("bootstrap_failed", error=str(error))
                await core.clock.sleep(_BACKOFF.delay_s(failures))
                looked_at = -1
                continue
            if failures:
                _log.info("bootstrap_recovered", failures=failures)
            # Those before the run: what was deleted meanwhile is made sure of by the next one.
            failures, seen = 0, revisions
        await core.clock.sleep(_LOOK_S)


def _places(core: Core) -> list[tuple[str, str]]:
    """The bucket and key of each object that is kept."""
    own = [(resources.NAMESPACE, "", name) for name in NAMESPACES]
    own += [(resources.PRIORITY_CLASS, "", name) for name in priority_classes.SYSTEM]
    own += [(resources.CLUSTER_ROLE, "", objects.name(role)) for role in core.cluster_roles]
    own += [
        (resources.CLUSTER_ROLE_BINDING, "", objects.name(binding)) for binding in core.cluster_role_bindings
    ]
    own += [
        (resources.ROLE, "kube-system", objects.name(bootstrap_policy.authentication_reader())),
        (resources.CONFIG_MAP, "kube-system", bootstrap_policy.AUTHENTICATION),
    ]
    own += [
        (resource, "default", _KUBERNETES)
        for resource in (resources.SERVICE, resources.ENDPOINTS, resources.ENDPOINT_SLICE)
    ]
    own += [(resources.PRIORITY_LEVEL, "", objects.name(level)) for level in flow_control.levels()]
    own += [(resources.FLOW_SCHEMA, "", objects.name(schema)) for schema in flow_control.schemas()]
    own += [(resources.API_SERVICE, "", objects.name(service)) for service in api_services.local(core)]
    own.append((resources.SERVICE_CIDR, "", _KUBERNETES))
    every = [(core.catalogue.of(resource), namespace, name) for resource, namespace, name in own]
    return [(served.bucket, served.key(namespace, name)) for served, namespace, name in every]


def _revisions(core: Core, places: Iterable[tuple[str, str]]) -> list[int]:
    records = (core.store.get(bucket, key) for bucket, key in places)
    return [record.revision if record is not None else 0 for record in records]


async def ensure_namespace_objects(core: Core, namespace: str) -> None:
    """Give a namespace its default service account and the authority's certificate."""
    place = {"namespace": namespace}
    await _ensure(core, resources.SERVICE_ACCOUNT, {"metadata": {"name": DEFAULT, **place}})
    if core.config.ca_certificate:
        data = {"ca.crt": core.config.ca_certificate}
        await _replace(
            core, resources.CONFIG_MAP, {"metadata": {"name": ROOT_CA, **place}, "data": data}, ("data",)
        )


async def _ensure(core: Core, resource: Resource, document: Object) -> None:
    served = core.catalogue.of(resource)
    namespace, name = objects.namespace(document), objects.name(document)
    if core.record(served, namespace, name) is not None:
        return
    full = {"apiVersion": resource.api_version, "kind": resource.kind, **document}
    try:
        await writing.Writes(core, served, OPTIONS).create(namespace, full)
    except errors.AlreadyExists:
        return  # someone was faster: it is there, as wanted


async def _replace(core: Core, resource: Resource, document: Object, fields: tuple[str, ...]) -> None:
    """Make sure of an object and of what these fields of it say."""
    await _ensure(core, resource, document)

    def change(live: Object) -> Object:
        desired = {field: document[field] for field in fields}
        return live if all(live.get(f) == v for f, v in desired.items()) else {**live, **desired}

    writes = writing.Writes(core, core.catalogue.of(resource), OPTIONS)
    whole = lenses.Whole(has_status=writes.served.strategy.has_status)
    await writes.update(objects.namespace(document), objects.name(document), whole, change)


async def _complete(core: Core, resource: Resource, desired: Object) -> None:
    """Make sure that nothing of a role or binding is missing."""
    live = core.lookup(resource, objects.namespace(desired), objects.name(desired))
    if live is None:
        await _ensure(core, resource, desired)
        return
    completed = bootstrap_policy.reconciled(live, desired)
    if completed is not None:
        writes = writing.Writes(core, core.catalogue.of(resource), OPTIONS)
        whole = lenses.Whole(has_status=False)
        await writes.update(objects.namespace(desired), objects.name(desired), whole, lambda _: completed)


async def _own_service(core: Core) -> None:
    """`default/kubernetes`: how pods reach this server."""
    config = core.config
    address = str(ipaddress.ip_network(config.service_cidr)[1])
    labels = {"component": "apiserver", "provider": _KUBERNETES}
    place = {"name": _KUBERNETES, "namespace": "default"}
    port = {"name": _PORT_NAME, "port": 443, "protocol": "TCP", "targetPort": config.advertise_port}
    spec = {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "ports": [port],
    }
    service: Object = {"metadata": {**place, "labels": labels}, "spec": spec}
    await _replace(core, resources.SERVICE, service, ("spec",))
    await _own_endpoints(core, place)


async def _own_network(core: Core) -> None:
    """The network that Services get their addresses of, as an object."""
    named: Object = {"metadata": {"name": _KUBERNETES}, "spec": {"cidrs": [core.config.service_cidr]}}
    await _ensure(core, resources.SERVICE_CIDR, named)
    ready = {"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready"}

    def change(live: Object) -> Object:
        if conditions.get(live, "Ready") is not None:
            return live
        ready["lastTransitionTime"] = clock.rfc3339(core.clock.now())
        return {**live, "status": {**objects.status(live), "conditions": [ready]}}

    writes = writing.Writes(core, core.catalogue.of(resources.SERVICE_CIDR), OPTIONS)
    await writes.update("", _KUBERNETES, lenses.Status({"f:spec": {}, "f:metadata": {}}), change)


async def _own_endpoints(core: Core, place: Object) -> None:
    """Where the Service leads, in both forms; the older one is not mirrored, for the newer is there."""
    config = core.config
    port = {"name": _PORT_NAME, "port": config.advertise_port, "protocol": "TCP"}
    endpoints: Object = {
        "metadata": {**place, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": config.advertise_address}], "ports": [port]}],
    }
    await _replace(core, resources.ENDPOINTS, endpoints, ("subsets",))
    endpoint = {"addresses": [config.advertise_address], "conditions": {"ready": True}}
    slice_: Object = {
        "metadata": {**place, "labels": {"kubernetes.io/service-name": _KUBERNETES}},
        "addressType": "IPv4",
        "endpoints": [endpoint],
        "ports": [port],
    }
    await _replace(core, resources.ENDPOINT_SLICE, slice_, ("endpoints", "ports"))
