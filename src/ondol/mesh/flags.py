"""What a line of the proxy's log means: its flags in words, and the objects behind them.

Pure: documents of the API in, sentences out. The objects are those of now; a line may be older than they.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import proxy
from ondol.contracts.proxy import Destination
from ondol.mesh import check, explain
from ondol.mesh.lines import Line, is_of_ingress
from ondol.mesh.model import istio, kube, mesh_options
from ondol.mesh.policy import Policies, Workloads
from ondol.mesh.translate import hosts, matches
from ondol.mesh.translate.registry import DestinationRule, Rule, VirtualService
from ondol.mesh.translate.translator import Translator, roots

RESOURCES: Final = check.RESOURCES
WORDS: Final[Mapping[str, str]] = {
    "UH": "no endpoint to send it to",
    "UF": "the connection to the endpoint failed",
    "UO": "there were too many connections or requests already",
    "NR": "no route takes it",
    "NC": "its route leads to a host or subset that does not exist",
    "URX": "every attempt failed, and no more were allowed",
    "UC": "the called program closed the connection before it had answered",
    "UR": "the called program reset the call",
    "LR": "the proxy reset the call",
    "LH": "the endpoint failed the proxy's own health check",
    "UT": "no answer came in the time that it had",
    "DC": "the caller hung up before the answer was whole",
    "DPE": "the caller broke the protocol",
    "UPE": "the called program broke the protocol",
    "RL": "a rate limit refused it",
    "RLSE": "the service of rate limits did not answer",
    "UAEX": "the authorization provider refused it",
    "FI": "an error was injected instead of an answer",
    "DI": "a delay was injected",
    "SI": "nothing was said for too long",
    "IH": "a header had a value that is not allowed",
    "OM": "the proxy was short of memory",
    "UMSDR": "it took longer than a call may",
    "DT": "the connection lived longer than it may",
    "NFCF": "the proxy had no configuration for the connection yet",
    "DF": "the host's name could not be resolved",
    "DO": "the proxy was overloaded",
    "DR": "the caller reset the call",
    "RFCF": "the answer came from a cache",
}
"""By flag; those of Envoy 1.40 that this proxy's configuration can bring about."""
_POLICY: Final = re.compile(r"ns\[([^\]]+)\]-policy\[([^\]]+)\]-rule\[(\d+)\]")
_RBAC: Final = "rbac_access_denied"
_UNBELIEVED: Final = "jwt_authn_access_denied"
_DENIED: Final = "AuthorizationPolicy"


class Explainer:
    """The objects of an API, asked about lines."""

    def __init__(self, documents: Mapping[str, Sequence[Object]]) -> None:
        config = explain.config(documents)
        self._world = explain.world(documents)[0]
        translation = Translator(config).translate(self._world)
        self._registry, self._rules = translation.registry, translation.rules
        maps = documents.get("ConfigMap", ())
        config_map = next((each for each in maps if objects.key(each) == mesh_options.CONFIG_MAP), None)
        self._policies = Policies(self._world.rules, roots(config), mesh_options.options(config_map))
        self._workloads = Workloads(self._world.pods, self._world.services, names_services=True)
        self._by_address: dict[str, Object] = {
            str(address): pod
            for pod in self._world.pods
            if (address := (pod.get("status") or {}).get("podIP"))
            and not objects.spec(pod).get("hostNetwork")
        }
        self._by_flag: dict[str, Callable[[Line, Destination | None], Iterable[str]]] = {
            "UH": self._nobody,
            "UF": self._failed,
            "UO": self._overflow,
            "NR": self._unrouted,
            "NC": self._governed,
            "URX": self._governed,
            "UT": self._governed,
            "FI": self._governed,
            "DI": self._governed,
            "UMSDR": self._governed,
            "UAEX": self._providers,
        }

    def concerns(self, line: Line, namespace: str, workload: str) -> bool:
        """Whether a line is of a workload, a pod of it or none: who called, or who was called."""
        if line.workload == f"{namespace}/{workload}":
            return True
        return any(
            (pod := self._by_address.get(address)) is not None
            and objects.namespace(pod) == namespace
            and workload in (objects.name(pod), kube.described(pod).name, kube.canonical_name(pod))
            for address in (line.caller, line.upstream.rpartition(":")[0].strip("[]"))
        )

    def explain(self, line: Line) -> list[str]:
        """Sentences, none for a call that went as it should."""
        destination = proxy.destination(line.cluster)
        sentences = []
        for flag in line.flags:
            causes = self._by_flag.get(flag, _no_cause)(line, destination)
            meaning = f"{flag}: {WORDS.get(flag, 'see the access log documentation of Envoy')}"
            sentences.append(": ".join((meaning, *filter(None, ["; ".join(causes)]))))
        sentences += self._refused(line)
        return sentences

    # By flag

    def _nobody(self, _line: Line, to: Destination | None) -> Iterator[str]:
        if to is None:
            return
        subset = f" in subset {to.subset}" if to.subset else ""
        yield f"{to.host} has no ready pod{subset} behind port {to.port}"
        for rule in self._destination_rules(to):
            if any(policy.outlier_detection is not None for policy in _traffic(rule.spec, to)):
                yield f"or outlierDetection of {_name(rule)} ejected all"

    def _failed(self, line: Line, to: Destination | None) -> Iterator[str]:
        pod = self._by_address.get(line.upstream.rpartition(":")[0].strip("[]"))
        what = f"pod {objects.key(pod)} at {line.upstream}" if pod is not None else line.upstream
        reason = (line.failure or line.details.partition("{")[2].rstrip("}")).replace("_", " ")
        if "refused" in reason:
            yield f"{what} refused it: nobody listens there"
        elif "timeout" in reason or "timed out" in reason:
            yield f"{what} did not answer in time"
        elif "TLS" in reason or "CERTIFICATE" in reason:
            yield f"TLS with {what} failed: {reason}"
            yield from (f"see tls of {_name(rule)}" for rule in self._destination_rules(to))
        elif what or reason:
            yield ", ".join(filter(None, (what, reason)))

    def _overflow(self, _line: Line, to: Destination | None) -> Iterator[str]:
        for rule in self._destination_rules(to):
            if any(policy.connection_pool is not None for policy in _traffic(rule.spec, to)):
                yield f"connectionPool of {_name(rule)}"

    def _unrouted(self, line: Line, to: Destination | None) -> Iterator[str]:
        listed = list(self._governing(line, to))
        if listed:
            yield f"{', '.join(map(_name, listed))} has no route for {line.method} {line.path}".rstrip()
        elif line.authority:
            yield (
                f"no VirtualService at the ingress has the host {line.authority}"
                if is_of_ingress(line)
                else f"nobody has the host {line.authority}"
            )

    def _governed(self, line: Line, to: Destination | None) -> Iterator[str]:
        route = f", route {line.route}" if line.route else ""
        yield from (f"{_name(rule)}{route}" for rule in self._governing(line, to))

    def _providers(self, line: Line, _to: Destination | None) -> Iterator[str]:
        for rule in self._authorizations(line):
            if rule.spec.action == "CUSTOM":
                provider = rule.spec.provider.name if rule.spec.provider is not None else ""
                yield f"{_name(rule)} asks provider {provider}"

    # By what else a line says

    def _refused(self, line: Line) -> Iterator[str]:
        if (line.details or line.termination).startswith(_RBAC):
            match = _POLICY.search(line.details or line.termination)
            if match is not None:
                yield f"RBAC: access denied by {_DENIED} {match[1]}/{match[2]}, rule {match[3]}"
            else:
                allowing = [rule for rule in self._authorizations(line) if rule.spec.action == "ALLOW"]
                names = ", ".join(map(_name, allowing)) or f"no {_DENIED} of now"
                yield f"RBAC: access denied: no rule lets it in of {names}"
        elif line.details.startswith(_UNBELIEVED):
            rules = ", ".join(map(_name, self._tokens(line))) or "no RequestAuthentication of now"
            reason = line.details.partition("{")[2].rstrip("}").replace("_", " ")
            yield f"JWT: the token is not accepted by {rules}: {reason}"
        elif line.code in (401, 403) and line.details == "via_upstream" and line.reporter != "destination":
            yield f"the called program answered {line.code}, or a policy before it: see its own lines"

    # Objects

    def _destination_rules(self, to: Destination | None) -> Iterator[DestinationRule]:
        if to is not None:
            yield from self._registry.policy(to.host, to.scope).rules

    def _governing(self, line: Line, to: Destination | None) -> Iterator[VirtualService]:
        if is_of_ingress(line):
            for rule in self._rules.listed:
                named = matches.gateway_names(rule.spec.gateways, rule.namespace)
                host = line.authority.partition(":")[0]
                if named != {matches.MESH} and hosts.overlap(rule.spec.hosts, host):
                    yield rule
            return
        namespace = line.workload.partition("/")[0] or self._namespace_of(line.caller)
        asked = self._registry.qualified(line.authority.partition(":")[0], namespace)
        for host in dict.fromkeys((asked, to.host if to is not None else asked)):
            governing = self._rules.rule(host, self._rules.caller(namespace))
            if governing is not None:
                yield governing
                return

    def _namespace_of(self, address: str) -> str:
        pod = self._by_address.get(address)
        return objects.namespace(pod) if pod is not None else ""

    def _authorizations(self, line: Line) -> Iterator[Rule[Any]]:
        for pod in self._called(line):
            yield from self._policies.of(self._workloads.of(objects.key(pod))).authorizations
            return

    def _tokens(self, line: Line) -> Iterator[Rule[Any]]:
        for pod in self._called(line):
            yield from self._policies.of(self._workloads.of(objects.key(pod))).authentications
            return

    def _called(self, line: Line) -> Iterator[Object]:
        """The pods of the workload whose line it is, where that is the one called."""
        namespace, _, name = line.workload.partition("/")
        for pod in self._world.pods:
            if objects.namespace(pod) == namespace and kube.described(pod).name == name:
                yield pod
        at_upstream = self._by_address.get(line.upstream.rpartition(":")[0].strip("[]"))
        if not line.workload and at_upstream is not None:
            yield at_upstream


def _no_cause(_line: Line, _to: Destination | None) -> Iterable[str]:
    return ()


def _traffic(spec: istio.DestinationRuleSpec, to: Destination | None) -> Iterator[istio.TrafficPolicy]:
    """What a rule says of the calls to a destination: for all, and for its subset."""
    subset = to.subset if to is not None else ""
    named = (each.traffic_policy for each in spec.subsets if each.name == subset)
    yield from (policy for policy in (spec.traffic_policy, *named) if policy is not None)


def _name(rule: Rule[Any]) -> str:
    return f"{rule.origin.kind} {rule.namespace}/{rule.origin.name}"
