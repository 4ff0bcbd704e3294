"""Envoy's own messages out of JSON, by the types that a document names, and what of them reaches too far.

The message classes are loaded with the first document that names them. `dangers` are for objects of whoever
may write in a namespace (decision 0037).
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from google.protobuf import any_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor

from ondol.contracts import proxy
from ondol.mesh.model import syntax
from ondol.mesh.model.istio import Refused
from ondol.mesh.translate import messages as m

T = TypeVar("T", bound=m.Message)
_TYPE: Final = "@type"
_NAME: Final = re.compile(r"(?P<package>(?:envoy|xds|udpa)(?:\.[a-z0-9_]+)+)\.[A-Z][A-Za-z0-9_.]*")
_TYPED_STRUCT: Final = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")
_DEPTH_MAX: Final = 64

_HTTP: Final = "envoy.extensions.filters.http."
_NETWORK: Final = "envoy.extensions.filters.network."
_PACKAGES: Final = frozenset(
    {
        *(
            f"{_HTTP}{name}.v3"
            for name in (
                "adaptive_concurrency",
                "admission_control",
                "bandwidth_limit",
                "buffer",
                "cdn_loop",
                "compressor",
                "cors",
                "csrf",
                "decompressor",
                "ext_authz",
                "ext_proc",
                "fault",
                "grpc_http1_bridge",
                "grpc_stats",
                "grpc_web",
                "header_mutation",
                "header_to_metadata",
                "health_check",
                "json_to_metadata",
                "local_ratelimit",
                "ratelimit",
                "set_metadata",
            )
        ),
        f"{_NETWORK}http_connection_manager.v3",
        f"{_NETWORK}local_ratelimit.v3",
        *(f"envoy.extensions.compression.{name}" for name in ("gzip.compressor.v3", "gzip.decompressor.v3")),
        *(f"envoy.extensions.compression.brotli.{name}.v3" for name in ("compressor", "decompressor")),
    }
)
"""Whose messages an object of any namespace may use: they act on requests, and reach nothing else."""
_READS: Final = {
    "envoy.config.core.v3.DataSource.filename": "reads a file of the machine",
    "envoy.config.core.v3.DataSource.environment_variable": "reads the proxy's environment",
    "envoy.config.core.v3.DataSource.watched_directory": "reads a folder of the machine",
    "envoy.config.core.v3.Address.pipe": "reaches a socket of the machine",
    "envoy.config.core.v3.SocketAddress.network_namespace_filepath": "enters a network namespace",
    "envoy.config.core.v3.GrpcService.google_grpc": "calls whatever it names, past the mesh",
}
_SOURCE: Final = "envoy.config.core.v3.ConfigSource"
_ROUTES: Final = "envoy.config.route.v3."
_MIRROR: Final = "envoy.config.route.v3.RouteAction.RequestMirrorPolicy."
"""Copies know nothing of their caller: they are calls of the proxy itself."""


def message_class(url: str) -> type[m.Message] | None:
    """The class of a type by its URL; None for one that the installed messages have not."""
    name = url.rpartition("/")[2]
    pool = descriptor_pool.Default()
    try:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    except KeyError:
        if not _load(name):
            return None
    try:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    except KeyError:
        return None


def _load(name: str) -> bool:
    """Load the messages of a type's package; whether there is one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    try:
        package = importlib.import_module(match["package"])
    except ImportError:
        return False
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{match['package']}.{module.name}")
    return True


def read(document: Any, into: type[T], path: str) -> T:
    """A message out of its document; `Refused` says what is wrong with it, and where."""
    message = into()
    if not isinstance(document, dict):
        raise Refused(f"{path} is no object")
    try:
        json_format.ParseDict(_loaded(document, path, _DEPTH_MAX), message)
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise Refused(f"{path}: {error}") from error
    except KeyError as error:  # an Any of one of protobuf's own types, which stands in a field of its own
        raise Refused(f"{path}: the field {error} lacks beside @type") from error
    return message


def _loaded(value: Any, path: str, depth: int) -> Any:
    """The same document, with each type loaded, and structs of types that are known as those."""
    if not depth:
        raise Refused(f"{path}: is nested too deeply")
    if isinstance(value, list):
        return [_loaded(each, f"{path}[{index}]", depth - 1) for index, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    url = str(value.get(_TYPE) or "")
    if url.endswith(_TYPED_STRUCT):
        inner = str(value.get("type_url") or value.get("typeUrl") or "")
        if inner and message_class(inner) is not None:
            return _loaded({_TYPE: inner, **(value.get("value") or {})}, path, depth - 1)
    if url and message_class(url) is None:
        text = f"{url} is no type that is known here; as a TypedStruct it goes to the proxy as it stands"
        raise Refused(f"{path}: {text}")
    return {name: _loaded(each, f"{path}.{name}", depth - 1) for name, each in value.items()}


def dangers(message: m.Message, namespace: str, domain: str) -> Iterator[str]:
    """What in a message reaches further than the calls of a namespace's pods, in words."""
    own = f".{namespace}.svc.{domain}"
    for field, value in message.ListFields():
        for each in _items(field, value):
            yield from _of_value(field, each, own)
            if isinstance(each, any_pb2.Any):
                yield from _of_any(each, namespace, domain)
            elif isinstance(each, m.Message):
                yield from dangers(each, namespace, domain)


def _items(field: FieldDescriptor, value: Any) -> Iterator[Any]:
    if not field.is_repeated:
        yield value
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        yield from value.values()
    else:
        yield from value


def _of_value(field: FieldDescriptor, value: Any, own: str) -> Iterator[str]:
    if field.full_name in _READS:
        yield f"{field.name} {_READS[field.full_name]}"
    elif field.message_type is not None and field.message_type.full_name == _SOURCE:
        yield f"{field.name} has configuration come from elsewhere"
    elif isinstance(value, str):
        if strange := syntax.strange_variable(value):
            yield f"%{strange}% is no variable of a request or its answer"
        if _names_a_cluster(field):
            yield from _of_cluster(field, value, own)


def _names_a_cluster(field: FieldDescriptor) -> bool:
    of = field.full_name.rpartition(".")[0]
    return "cluster" in field.name or (of.endswith("WeightedCluster.ClusterWeight") and field.name == "name")


def _of_cluster(field: FieldDescriptor, name: str, own: str) -> Iterator[str]:
    """Requests may go to any service, for they leave from the caller's; the proxy itself calls one's own."""
    destination = proxy.destination(name)
    is_route = field.full_name.startswith(_ROUTES) and not field.full_name.startswith(_MIRROR)
    if field.name in ("cluster_header", "cluster_specifier_plugin") or destination is None:
        yield f"{field.name} {name!r} is no cluster of a service, such as outbound|80||NAME{own}"
    elif not is_route and not destination.host.endswith(own):
        yield f"{field.name} {name!r} is of another namespace, and would be called by the proxy itself"


def _of_any(packed: any_pb2.Any, namespace: str, domain: str) -> Iterator[str]:
    of = message_class(packed.type_url)
    if of is None or of.DESCRIPTOR.file.package not in _PACKAGES:
        yield f"{packed.type_url.rpartition('/')[2]} is not among the types that any namespace may use"
        return
    message = of()
    packed.Unpack(message)
    yield from dangers(message, namespace, domain)
