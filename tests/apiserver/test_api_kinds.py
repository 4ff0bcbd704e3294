"""A new built-in kind, added as docs/extending.md says: its facts, and one registration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import anyio.lowlevel
import pytest

from ondol.api import facts, objects
from ondol.api import kinds as facts_kinds
from ondol.api.schema import causes
from ondol.api.tables.columns import NAME, Layout, integer, string
from ondol.api.validation import Rules
from ondol.apiserver import kinds
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds import Kind, Table
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Rule, Unsupported
from ondol.base.errors import Cause

pytestmark = pytest.mark.anyio

TOPS = "/apis/toys.example.org/v1/namespaces/default/tops"
BLOCKS = "/apis/toys.example.org/v1/namespaces/default/blocks"
_PACKAGE: Final = "org.example.toys.v1"
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."

# Step 1: the facts, as the generator writes them.


def _document(kind: str, spec: str) -> dict[str, Any]:
    fields = {
        "apiVersion": {"type": "string", "n": 0},
        "kind": {"type": "string", "n": 0},
        "metadata": {"type": f"{_META}ObjectMeta", "n": 1},
        "spec": {"type": f"{_PACKAGE}.{spec}", "n": 2},
    }
    return {"fields": fields, "gvk": ["toys.example.org", "v1", kind]}


def _list(kind: str) -> dict[str, Any]:
    fields = {
        "apiVersion": {"type": "string", "n": 0},
        "kind": {"type": "string", "n": 0},
        "metadata": {"type": f"{_META}ListMeta", "n": 1},
        "items": {"type": f"[]{_PACKAGE}.{kind}", "n": 2, "required": True},
    }
    return {"fields": fields, "gvk": ["toys.example.org", "v1", f"{kind}List"]}


TYPES: Final = {
    f"{_PACKAGE}.TopList": _list("Top"),
    f"{_PACKAGE}.BlockList": _list("Block"),
    f"{_PACKAGE}.Top": _document("Top", "TopSpec"),
    f"{_PACKAGE}.Block": _document("Block", "TopSpec"),
    f"{_PACKAGE}.TopSpec": {
        "fields": {
            "colour": {"type": "string", "n": 1, "default": "red"},
            "size": {"type": "int32", "n": 2},
            "label": {"type": "string", "n": 3},
            "spin": {"type": "string", "n": 4},
        }
    },
}


def _fact(kind: str, plural: str) -> facts_kinds.Kind:
    return facts_kinds.Kind(
        "toys.example.org",
        "v1",
        kind,
        plural,
        kind.lower(),
        type=f"{_PACKAGE}.{kind}",
        list_kind=f"{kind}List",
    )


# Step 2: what is particular about tops. Blocks have nothing of that kind.


def _default(top: Any) -> None:
    top["spec"].setdefault("label", f"a {top['spec']['colour']} top")


def _check(top: Mapping[str, Any]) -> Iterator[Cause]:
    if objects.spec(top).get("size", 0) < 0:
        yield causes.invalid("spec.size", top["spec"]["size"], "must be greater than or equal to 0")


def _cells(top: Mapping[str, Any], now: float) -> tuple[str, str, int]:
    del now
    return objects.name(top), top["spec"]["colour"], top["spec"].get("size", 0)


def _mark(parts: Any, context: Any, request: Any) -> None:
    del parts
    if request.operation == "create":
        request.new["metadata"].setdefault("annotations", {})["made-by"] = context.user.name


async def _look(parts: Any, context: Any, request: Any) -> None:
    del parts
    await anyio.lowlevel.checkpoint()
    if objects.spec(request.new).get("size", 0) > 100:
        context.warn("that is a large top")


class TopStrategy(Strategy):
    has_generation: ClassVar[bool] = True


TOP: Final = Kind(
    "toys.example.org",
    "Top",
    strategy=TopStrategy(),
    default=_default,
    rules=Rules(_check),
    layout=Layout((NAME, string("Colour"), integer("Size")), _cells),
    unsupported=Unsupported((Rule("spin", "tops do not turn yet"),)),
    plugins=Plugins((_mark,), (_look,)),
    access=Access(view=("tops",), edit=("tops",)),
)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Table:
    """The built-in kinds with tops and blocks."""
    read = facts._read
    written = {f"{_PACKAGE}.json": json.dumps(TYPES).encode()}
    monkeypatch.setattr(facts, "_read", lambda file: written.get(file) or read(file))
    return Table(
        (*kinds.BUILTIN, TOP), (*facts_kinds.builtin(), _fact("Top", "tops"), _fact("Block", "blocks"))
    )


def _top(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "toys.example.org/v1", "kind": "Top", "metadata": {"name": name}, "spec": spec}


async def test_a_plain_kind_is_its_facts(start: Any, toys: Table) -> None:
    """Written, read, patched, listed and deleted, with the defaults and types of its table."""
    async with start(builtin=toys) as api:
        block = {"kind": "Block", "apiVersion": "toys.example.org/v1", "metadata": {"name": "b"}, "spec": {}}
        stored = await api.post(BLOCKS, block)
        assert (stored.status, stored.json["spec"]) == (201, {"colour": "red"})
        assert (await api.post(BLOCKS, {**block, "spec": {"size": "many"}})).status == 400
        patched = await api.patch(f"{BLOCKS}/b", {"spec": {"size": 2}}, "strategic-merge-patch+json")
        assert patched.json["spec"] == {"colour": "red", "size": 2}
        listed = (await api.get(BLOCKS)).json
        assert (listed["kind"], [objects.name(item) for item in listed["items"]]) == ("BlockList", ["b"])
        assert (await api.delete(f"{BLOCKS}/b")).status == 200


async def test_a_particular_kind_is_its_facts_and_a_registration(start: Any, toys: Table) -> None:
    """Defaults, a refusal, warnings, generations, admission and columns, all from the one place."""
    async with start(builtin=toys) as api:
        stored = await api.post(TOPS, _top("a", colour="blue", size=200, spin="left"))
        assert stored.json["spec"]["label"] == "a blue top"
        assert stored.json["metadata"]["annotations"] == {"made-by": "admin"}
        assert stored.warnings == ['299 - "spec.spin: tops do not turn yet"', '299 - "that is a large top"']
        refused = await api.post(TOPS, _top("b", size=-1))
        assert (refused.status, refused.json["details"]["causes"][0]["field"]) == (422, "spec.size")
        assert "must be greater than or equal to 0" in refused.json["message"]
        changed = await api.patch(f"{TOPS}/a", {"spec": {"size": 3}})
        assert changed.json["metadata"]["generation"] == 2
        table = await api.get(TOPS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert [column["name"] for column in table.json["columnDefinitions"]] == ["Name", "Colour", "Size"]
        assert [row["cells"] for row in table.json["rows"]] == [["a", "blue", 3]]


async def test_a_new_kind_is_watched_discovered_and_described(start: Any, toys: Table) -> None:
    """As every other one."""
    async with start(builtin=toys) as api, api.watch(f"{TOPS}?watch=1") as watch:
        await api.post(TOPS, _top("a"))
        event = await watch.next()
        assert (event["type"], event["object"]["spec"]["label"]) == ("ADDED", "a red top")
        served = (await api.get("/apis/toys.example.org/v1")).json["resources"]
        assert [each["name"] for each in served] == ["blocks", "tops"]
        described = (await api.get("/openapi/v3/apis/toys.example.org/v1")).json
        assert f"{_PACKAGE}.TopSpec" in described["components"]["schemas"]


async def test_the_default_roles_reach_a_new_kind(start: Any, toys: Table) -> None:
    """Who may view sees it, who may edit writes it."""
    async with start(builtin=toys) as api:
        for user, role in (("vera", "view"), ("ed", "edit")):
            binding = {
                "metadata": {"name": user},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
            }
            await api.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", binding)
        assert (await api.as_("vera").get(TOPS)).status == 200
        assert (await api.as_("vera").post(TOPS, _top("a"))).status == 403
        assert (await api.as_("ed").post(TOPS, _top("a"))).status == 201
        assert (await api.as_("ed").get(BLOCKS)).status == 403


def test_a_kind_is_registered_once() -> None:
    """Two registrations of one kind would hide each other."""
    with pytest.raises(ValueError, match="registered twice"):
        Table((*kinds.BUILTIN, kinds.BUILTIN.of("", "Pod")))


def test_every_registration_is_of_a_kind_that_is_served() -> None:
    """A slip in a name would leave a kind without what is particular about it."""
    served = {(fact.group, fact.kind) for fact in facts_kinds.builtin()}
    assert {(kind.group, kind.kind) for kind in kinds.BUILTIN} <= served
