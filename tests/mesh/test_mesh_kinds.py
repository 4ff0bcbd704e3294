"""A kind of one's own is one value: what the rest of the mesh makes of it, from definition to condition."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from ondol.api.objects import Key, Resource
from ondol.mesh import conditions, definitions
from ondol.mesh.acceptance import Acceptance
from ondol.mesh.analysis import Analyst
from ondol.mesh.config import MeshConfig
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import PROGRESS, Column, Finding, Kind, Progress, Provided, Word
from ondol.mesh.model import istio
from ondol.mesh.model.kube import Endpoint, Protocol, Service, ServicePort
from ondol.mesh.model.validation import Problem, Subject
from ondol.mesh.translate.provided import Surroundings
from ondol.mesh.translate.registry import Registry, Rule
from ondol.mesh.translate.translator import Translator
from ondol.mesh.xds import types

CONFIG: Final = MeshConfig(Path("/run/netns"), "unix:/xds", "unix:/admin", Path("/envoy.json"))
EXAMPLE: Final = "outbound|80||bank.example"
SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


# The kind, as a contributor would write it in one file


class OutsideSpec(istio.Struct, frozen=True):
    host: istio.Host
    address: str
    port: istio.PortNumber = 80


def _validate(spec: OutsideSpec, _subject: Subject) -> Iterator[Problem]:
    if spec.host.startswith("*"):
        yield Problem(f"spec.host: {spec.host!r} is no single host", "Wildcard")


def _names(rule: Rule[OutsideSpec], _cluster_domain: str) -> tuple[str, ...]:
    return (rule.spec.host,)


def _services(rule: Rule[OutsideSpec], _around: Surroundings) -> Iterable[Provided]:
    key = Key(rule.namespace, f"outside/{rule.origin.name}")
    ports = (ServicePort("http", rule.spec.port, Protocol.HTTP),)
    service = Service(key, rule.origin.version, rule.spec.host, (), ports, selects=False)
    return [(service, (("http", Endpoint(rule.spec.address, rule.spec.port, None)),))]


def _resources(
    rule: Rule[OutsideSpec], _registry: Registry
) -> Iterator[tuple[types.TypeUrl, types.Resource]]:
    name = f"outside|{rule.origin.name}"
    yield SECRET, types.Resource(name, rule.origin.version, b"", (rule.origin,))


def _judge(rule: Rule[OutsideSpec], dependencies: Dependencies) -> Iterator[Finding]:
    if not dependencies.translation.rules.at(rule.spec.host):
        yield Finding(rule.origin, "TOY0001", f"no VirtualService is for {rule.spec.host}")


OUTSIDE: Final = Kind(
    resource=Resource("networking.istio.io", "v1", "outsides", "Outside"),
    short_name="out",
    description="A host outside the cluster.",
    spec=OutsideSpec,
    fields={"OutsideSpec": {"host": "Its name.", "address": "Where it is.", "port": "Its port."}},
    columns=(Column("Host", ".spec.host"),),
    validate=_validate,
    names=_names,
    services=_services,
    resources=_resources,
    judge=_judge,
    progress=dict(PROGRESS) | {Progress.UNUSED: Word("Unknown", "Uncalled", "nobody calls it")},
)
WITH_OUTSIDE: Final = {**KINDS, OUTSIDE.name: OUTSIDE}


@pytest.fixture
def world(new_objects: Callable[..., Any]) -> Any:
    """Objects of a mesh that has the kind, with a pod and a host outside."""
    objs = new_objects(WITH_OUTSIDE)
    objs.pod("client")
    objs.service("web", endpoints=[("10.100.0.1", 8080)])
    objs.put("Outside", "bank", "default", {"host": "bank.example", "address": "192.0.2.7"})
    return objs


def test_its_definition_follows() -> None:
    """Names, schema with descriptions, and its column before those every kind has."""
    crd = next(each for each in definitions.crds(WITH_OUTSIDE) if each["spec"]["names"]["kind"] == "Outside")
    version = crd["spec"]["versions"][0]
    assert (crd["metadata"]["name"], version["name"]) == ("outsides.networking.istio.io", "v1")
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert schema["required"] == ["host", "address"]
    assert schema["properties"]["port"] == {
        "description": "Its port.",
        "type": "integer",
        "minimum": 1,
        "maximum": 65535,
    }
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    assert columns == ["Host", "Programmed", "Reason", "Findings", "Age", "Message"]


def test_it_is_validated_and_its_last_good_version_serves(world: Any) -> None:
    """Its own reason is the condition's; the version before stays in force."""
    acceptance = Acceptance(kinds=WITH_OUTSIDE)
    good = world.of("Outside")[0]
    (rule,) = acceptance.admit("Outside", [good])
    resource = types.Resource("x", "1", b"", (rule.origin,))
    acceptance.observe([types.Accepted(types.CLUSTER, (resource,))])
    bad = world.put("Outside", "bank", "default", {"host": "*.example", "address": "192.0.2.7"})
    assert acceptance.admit("Outside", [bad]) == [rule]
    refusal = acceptance.refusal("Outside", bad)
    assert refusal is not None
    assert refusal.reason == "Wildcard"
    again = Acceptance(kinds=WITH_OUTSIDE)
    again.restore(acceptance.export())
    assert [each.spec for each in again.admit("Outside", [bad])] == [rule.spec]


def test_it_is_translated(world: Any) -> None:
    """Its service has a cluster with its endpoint and stands in route tables; its own resource is served."""
    snapshot = Translator(CONFIG, WITH_OUTSIDE).translate(world.world()).snapshot
    assert b"192.0.2.7" in snapshot.of(types.ENDPOINTS)[EXAMPLE].body
    assert EXAMPLE in snapshot.of(types.CLUSTER)
    assert b"bank.example" in snapshot.of(types.ROUTES)["80|default"].body
    assert [each.origins[0].name for each in snapshot.of(SECRET).values()] == ["bank"]
    world.drop("Outside", "bank")
    without = Translator(CONFIG, WITH_OUTSIDE).translate(world.world()).snapshot
    assert without == Translator(CONFIG).translate(replace(world.world(), rules={})).snapshot


def test_a_service_of_kubernetes_comes_before_one_of_its_name(world: Any) -> None:
    """Nobody takes over a service by calling a host outside by its name."""
    hosts = {"host": "web.default.svc.cluster.local", "address": "192.0.2.9"}
    world.put("Outside", "thief", "default", hosts)
    snapshot = Translator(CONFIG, WITH_OUTSIDE).translate(world.world()).snapshot
    body = snapshot.of(types.ENDPOINTS)["outbound|80||web.default.svc.cluster.local"].body
    assert b"10.100.0.1" in body
    assert b"192.0.2.9" not in body


def move(world: Any, address: str) -> None:
    world.put("Outside", "bank", "default", {"host": "bank.example", "address": address})


def test_its_changes_are_translated_like_a_new_world(world: Any) -> None:
    """Whatever was translated before."""
    translator = Translator(CONFIG, WITH_OUTSIDE)
    translator.translate(world.world())
    for address in ("192.0.2.8", "192.0.2.9", "192.0.2.7"):
        move(world, address)
        after = translator.translate(world.world()).snapshot
        assert after == Translator(CONFIG, WITH_OUTSIDE).translate(world.world()).snapshot


def test_its_changes_concern_its_host_alone(world: Any) -> None:
    """As much is made anew among forty services as among one."""

    def cost() -> int:
        translator = Translator(CONFIG, WITH_OUTSIDE)
        translator.translate(world.world())
        misses = translator.cache.misses
        move(world, "192.0.2.8")
        translator.translate(world.world())
        return translator.cache.misses - misses

    alone = cost()
    for number in range(40):
        world.service(f"s{number}", endpoints=[("10.100.0.1", 8080)])
    move(world, "192.0.2.7")
    assert cost() == alone


def test_its_findings_are_made_again_only_when_they_may_differ(world: Any) -> None:
    """A rule for its host ends the finding; a change elsewhere does not judge it anew."""
    translator, analyst = Translator(CONFIG, WITH_OUTSIDE), Analyst(WITH_OUTSIDE)

    def codes() -> list[str]:
        seen = world.world()
        return [each.code for each in analyst.findings(Dependencies(seen, translator.translate(seen)))]

    assert codes() == ["TOY0001"]
    to_web = {"hosts": ["bank.example"], "http": [{"route": [{"destination": {"host": "web"}}]}]}
    world.virtual_service("bank", to_web)
    assert codes() == []


def test_its_conditions_have_its_own_words(world: Any) -> None:
    """Where it says nothing, everybody's."""
    obj = world.of("Outside")[0]

    def reason(progress: Progress) -> str:
        listed = conditions.of_rule(
            obj, refusal=None, progress=progress, findings=(), now=0.0, words=OUTSIDE.progress
        )
        return str(next(each["reason"] for each in listed if each["type"] == "Programmed"))

    assert (reason(Progress.UNUSED), reason(Progress.RUNNING)) == ("Uncalled", "Programmed")


def test_every_code_of_a_finding_is_documented() -> None:
    """Who sees one in a condition looks it up in the pages about the mesh."""
    root = Path(__file__).parents[2]
    pages = (root / "docs" / name for name in ("mesh.md", "mesh-security.md", "mesh-telemetry.md"))
    page = "".join(each.read_text(encoding="utf-8") for each in pages)
    sources = [path.read_text(encoding="utf-8") for path in (root / "src/ondol/mesh").rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r'"([A-Z]{3}[0-9]{4})"', text)}
    assert "IST0101" in codes
    for code in sorted(codes):
        assert f"| {code} |" in page, f"no table of codes in docs/mesh*.md has a row for {code}"
