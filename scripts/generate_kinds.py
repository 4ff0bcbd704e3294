"""Derive the facts of the built-in kinds (src/ondol/api/facts) from a Kubernetes source tree.

    python scripts/generate_kinds.py --kubernetes PATH --release TAG --out src/ondol/api/facts

`make facts` fetches the sources and calls this. PATH is a checkout of the public Kubernetes repository
at TAG. Three of its parts are read and none is copied: the OpenAPI v3 documents (api/openapi-spec/v3)
give each type's fields, the struct tags of its Go types (staging/src/k8s.io) give the number of each
field in protobuf and the constants of an enumeration, and the discovery documents (api/discovery) tell
how each kind is served. To serve more kinds, name them in `SERVED` and run this again. The same release
gives the same files, byte for byte; `source.json` among them names the release and has a digest of each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = "https://github.com/kubernetes/kubernetes"
LICENCE = "Apache-2.0"
ALL = ("*",)
SERVED: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "v1"): ALL,
    ("admissionregistration.k8s.io", "v1"): ALL,
    ("admissionregistration.k8s.io", "v1beta1"): (
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ),
    ("apiextensions.k8s.io", "v1"): ALL,
    ("apiregistration.k8s.io", "v1"): ALL,
    ("apps", "v1"): ALL,
    ("authentication.k8s.io", "v1"): ALL,
    ("authorization.k8s.io", "v1"): ALL,
    ("autoscaling", "v1"): ALL,
    ("autoscaling", "v2"): ALL,
    ("batch", "v1"): ALL,
    ("certificates.k8s.io", "v1"): ALL,
    ("coordination.k8s.io", "v1"): ALL,
    ("discovery.k8s.io", "v1"): ALL,
    ("events.k8s.io", "v1"): ALL,
    ("flowcontrol.apiserver.k8s.io", "v1"): ALL,
    ("networking.k8s.io", "v1"): ALL,
    ("node.k8s.io", "v1"): ALL,
    ("policy", "v1"): ALL,
    ("rbac.authorization.k8s.io", "v1"): ALL,
    ("resource.k8s.io", "v1"): ALL,
    ("scheduling.k8s.io", "v1"): ALL,
    ("storage.k8s.io", "v1"): ALL,
}
"""Resources per group and version, by plural name; `ALL` takes every one that discovery lists."""

UNSERVED_SUBRESOURCES: set[str] = set()
"""Subresources this platform does not answer, so discovery must not promise them, as `pods/proxy`."""

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
EXTRA_TYPES = [
    META + name
    for name in ("Status", "DeleteOptions", "WatchEvent", "APIResourceList", "APIGroupList", "APIVersions")
]
"""Types no served kind refers to, yet every server and client speaks."""

METRICS = "io.k8s.metrics.pkg.apis.metrics.v1beta1."
METRIC_FIELDS: dict[str, dict[str, Any]] = {
    "apiVersion": {"type": "string", "n": 0},
    "kind": {"type": "string", "n": 0},
    "metadata": {"type": META + "ObjectMeta", "n": 1},
    "timestamp": {"type": "time", "n": 2, "required": True},
    "window": {"type": "duration", "n": 3, "required": True},
}
USAGE: dict[str, Any] = {"type": "{}quantity", "required": True}


def metric_kind(kind: str, plural: str, *, namespaced: bool) -> dict[str, Any]:
    """How a kind of `metrics.k8s.io` is served; what is told here stands in no document of the tree."""
    place = {"group": "metrics.k8s.io", "version": "v1beta1", "kind": kind, "plural": plural, "singular": ""}
    return {**place, "namespaced": namespaced, "verbs": ["get", "list"], "type": METRICS + kind}


def metric_type(kind: str, own: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A kind of `metrics.k8s.io` with its list."""
    items = {"type": "[]" + METRICS + kind, "n": 2, "required": True}
    listed = {"apiVersion": METRIC_FIELDS["apiVersion"], "items": items, "kind": METRIC_FIELDS["kind"]}
    listed["metadata"] = {"type": META + "ListMeta", "n": 1}
    place = ["metrics.k8s.io", "v1beta1"]
    return {
        METRICS + kind: {"gvk": [*place, kind], "fields": dict(sorted({**METRIC_FIELDS, **own}.items()))},
        METRICS + kind + "List": {"gvk": [*place, kind + "List"], "fields": listed},
    }


ADDED_KINDS = [
    metric_kind("NodeMetrics", "nodes", namespaced=False),
    metric_kind("PodMetrics", "pods", namespaced=True),
]
ADDED_TYPES = {
    METRICS + "ContainerMetrics": {
        "fields": {"name": {"type": "string", "n": 1, "required": True}, "usage": {**USAGE, "n": 2}}
    },
    **metric_type("NodeMetrics", {"usage": {**USAGE, "n": 4}}),
    **metric_type(
        "PodMetrics",
        {
            "containers": {
                "type": "[]" + METRICS + "ContainerMetrics",
                "n": 4,
                "required": True,
                "list": "atomic",
            }
        },
    ),
}
"""`metrics.k8s.io/v1beta1`: Kubernetes has its types (staging/src/k8s.io/metrics) and serves it by an add-on,
so that neither discovery nor OpenAPI of the tree tells of it."""

EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "raw",
    META + "Time": "time",
    META + "MicroTime": "micro-time",
    META + "Duration": "duration",
    META + "FieldsV1": "fields",
    EXTENSIONS + "JSON": "json",
    EXTENSIONS + "JSONSchemaPropsOrArray": "schema-or-array",
    EXTENSIONS + "JSONSchemaPropsOrBool": "schema-or-bool",
    EXTENSIONS + "JSONSchemaPropsOrStringArray": "schema-or-strings",
}
"""Types whose JSON form is not an object of fields; their names in the table are these words."""

FORMATS = {
    ("string", ""): "string",
    ("string", "byte"): "bytes",
    ("string", "date-time"): "time",
    ("integer", "int32"): "int32",
    ("integer", "int64"): "int64",
    ("number", "double"): "double",
    ("boolean", ""): "bool",
}
PACKAGE_ROOTS = {
    "io.k8s.api.": "staging/src/k8s.io/api/",
    "io.k8s.apimachinery.": "staging/src/k8s.io/apimachinery/",
    "io.k8s.apiextensions-apiserver.": "staging/src/k8s.io/apiextensions-apiserver/",
    "io.k8s.kube-aggregator.": "staging/src/k8s.io/kube-aggregator/",
}


@dataclass(frozen=True)
class Tag:
    """One field of a Go struct, as its tags describe it."""

    json: str
    number: int
    inline: bool
    go_type: str
    pointer: bool


@dataclass
class Package:
    """The Go structs and enumerations of one directory."""

    structs: dict[str, list[Tag]] = field(default_factory=dict)
    enums: dict[str, list[str]] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)
    imports: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


STRUCT = re.compile(r"^type (\w+) struct ?\{(?:\}|\n(.*?)^\})", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\s+(?:(\w+)\s+)?([\w.*\[\]]+)\s+`([^`]*)`", re.MULTILINE)
ALIAS = re.compile(r"^type (\w+) = ([\w.]+)$", re.MULTILINE)
ENUM = re.compile(r"// \+enum\n(?:// [^\n]*\n|//\n)*type (\w+) string")
LISTED = re.compile(r"^type (\w+) \[\]string", re.MULTILINE)
CONSTANT = re.compile(r"^\s+\w+\s+(\w+)\s+= \"([^\"]*)\"", re.MULTILINE)
IMPORT = re.compile(r"^\s+(?:(\w+) )?\"k8s\.io/([\w./-]+)\"$", re.MULTILINE)


def read_package(directory: Path) -> Package:
    """The structs, enumerations, list types and imports of a directory's Go files, tests left out."""
    package = Package()
    constants: list[tuple[str, str]] = []
    for path in sorted(directory.glob("*.go")):
        if path.name.endswith("_test.go") or path.name.startswith("zz_"):
            continue
        text = path.read_text()
        package.imports |= {m[1] or m[2].rsplit("/", 1)[-1]: m[2] for m in IMPORT.finditer(text)}
        package.lists |= set(LISTED.findall(text))
        package.aliases |= dict(ALIAS.findall(text))
        package.enums |= {name: [] for name in ENUM.findall(text)}
        constants += CONSTANT.findall(text)
        package.structs |= {
            m[1]: [t for f in FIELD.finditer(m[2] or "") if (t := tag_of(f))] for m in STRUCT.finditer(text)
        }
    for type_name, value in constants:
        if type_name in package.enums and value not in package.enums[type_name]:
            package.enums[type_name].append(value)
    return package


def tag_of(match: re.Match[str]) -> Tag | None:
    """The tags of one line of a struct (a match of `FIELD`), or none if JSON does not show the field."""
    name, go_type, tags = match[1], match[2], match[3]
    json_tag = re.search(r'json:"([^"]*)"', tags)
    protobuf = re.search(r'protobuf:"\w+,(\d+)', tags)
    if json_tag is None:
        return None
    json_name, _, options = json_tag[1].partition(",")
    inline = "inline" in options or (not name and not json_name)
    return Tag(
        json_name, int(protobuf[1]) if protobuf else 0, inline, go_type.lstrip("*"), go_type.startswith("*")
    )


class Source:
    """The three parts of the Kubernetes tree; a package of Go types is read at its first use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.schemas: dict[str, Any] = {}
        for path in sorted((root / "api/openapi-spec/v3").glob("*_openapi.json")):
            self.schemas |= json.loads(path.read_text()).get("components", {}).get("schemas", {})
        discovery = json.loads((root / "api/discovery/aggregated_v2.json").read_text())
        core = json.loads((root / "api/discovery/api__v1.json").read_text())
        self.served = {
            (group["metadata"]["name"], version["version"]): version["resources"]
            for group in discovery["items"]
            for version in group["versions"]
        }
        self.served["", "v1"] = nested(core["resources"])
        self.packages: dict[str, Package] = {}

    def package(self, type_name: str) -> Package:
        """The Go package that declares a type, by the type's full OpenAPI name."""
        prefix, directory = next((p, d) for p, d in PACKAGE_ROOTS.items() if type_name.startswith(p))
        path = directory + type_name[len(prefix) :].rpartition(".")[0].replace(".", "/")
        return self.package_at(path)

    def package_at(self, path: str) -> Package:
        """The Go package at a path of the tree."""
        if path not in self.packages:
            self.packages[path] = read_package(self.root / path)
        return self.packages[path]

    def named(self, package: Package, go_type: str) -> tuple[Package, str]:
        """The package and bare name a Go type expression ends in."""
        bare = re.sub(r"^(?:\*|\[\]|map\[\w+\])*", "", go_type)
        alias, _, name = bare.rpartition(".")
        if not alias:
            return self.named(package, package.aliases[bare]) if bare in package.aliases else (package, bare)
        path = package.imports.get(alias)
        return (self.package_at("staging/src/k8s.io/" + path), name) if path else (Package(), name)

    def tags(
        self, package: Package, struct: str, via: tuple[int, ...] = ()
    ) -> Iterator[tuple[str, tuple[int, ...], Tag, Package]]:
        """Every JSON field of a struct with its path of protobuf numbers, embedded structs unfolded."""
        package, struct = self.named(package, struct)
        for tag in package.structs[struct]:
            if not tag.inline:
                yield tag.json, (*via, tag.number), tag, package
            elif tag.go_type.endswith("TypeMeta"):
                for name in ("kind", "apiVersion"):
                    yield name, (0,), tag, package
            else:
                owner, name = self.named(package, tag.go_type)
                yield from self.tags(owner, name, (*via, tag.number))


def nested(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A flat resource list in the shape of aggregated discovery: subresources under their resource."""
    by_plural: dict[str, dict[str, Any]] = {}
    for listed in resources:
        plural, _, sub = listed["name"].partition("/")
        kind = {
            "group": listed.get("group", ""),
            "version": listed.get("version", ""),
            "kind": listed["kind"],
        }
        if sub:
            parent = by_plural[plural]
            parent.setdefault("subresources", []).append(
                {"subresource": sub, "responseKind": kind, "verbs": listed["verbs"]}
            )
            continue
        by_plural[plural] = {
            "resource": plural,
            "responseKind": kind,
            "scope": "Namespaced" if listed["namespaced"] else "Cluster",
            "singularResource": listed["singularName"],
            "verbs": listed["verbs"],
            **{k: listed[k] for k in ("shortNames", "categories") if k in listed},
        }
    return list(by_plural.values())


def kind_facts(source: Source, group: str, version: str, resource: dict[str, Any]) -> dict[str, Any]:
    """How one resource is served, from its item of aggregated discovery; unserved subresources left out."""
    kind = resource["responseKind"]["kind"]
    plural = resource["resource"]
    facts: dict[str, Any] = {
        "group": group,
        "version": version,
        "kind": kind,
        "plural": plural,
        "singular": resource["singularResource"],
        "namespaced": resource["scope"] == "Namespaced",
        "verbs": resource["verbs"],
        "type": type_of(source, group, version, kind),
    }
    facts |= {k: resource[k] for k in ("shortNames", "categories") if k in resource}
    subresources = []
    for sub in resource.get("subresources", ()):
        if f"{plural}/{sub['subresource']}" in UNSERVED_SUBRESOURCES:
            continue
        answered = sub["responseKind"]
        sub_group, sub_version = (answered["group"] or group, answered["version"] or version)
        subresources.append(
            {
                "name": sub["subresource"],
                "group": sub_group,
                "version": sub_version,
                "kind": answered["kind"],
                "verbs": sub["verbs"],
                "type": type_of(source, sub_group, sub_version, answered["kind"]),
            }
        )
    if subresources:
        facts["subresources"] = subresources
    return facts


def type_of(source: Source, group: str, version: str, kind: str) -> str:
    """The name of the first schema that carries this group, version and kind.

    Empty for the options of subresources that are connected to (`PodExecOptions`): they come in the query.
    """
    gvk = {"group": group, "version": version, "kind": kind}
    names = [n for n, s in source.schemas.items() if gvk in s.get("x-kubernetes-group-version-kind", ())]
    if not names and kind.endswith("Options"):
        return ""
    if not names:
        raise SystemExit(f"no schema for {group}/{version} {kind}")
    return names[0]


def field_type(schema: dict[str, Any]) -> str:
    """The table's word for a property's type: a scalar, `[]item`, `{}value` or a type's name."""
    ref = schema.get("$ref") or next((part["$ref"] for part in schema.get("allOf", ()) if "$ref" in part), "")
    if ref:
        name = ref.rpartition("/")[2]
        return SCALARS.get(name, name)
    if schema.get("type") == "array":
        return "[]" + field_type(schema["items"])
    if schema.get("type") == "object":
        return "{}" + field_type(schema["additionalProperties"])
    return FORMATS[schema["type"], schema.get("format", "")]


MARKERS = {
    "x-kubernetes-list-type": "list",
    "x-kubernetes-list-map-keys": "keys",
    "x-kubernetes-map-type": "map",
    "x-kubernetes-patch-merge-key": "merge",
    "x-kubernetes-patch-strategy": "strategy",
}


def type_facts(source: Source, name: str) -> dict[str, Any]:
    """The fields of one type: OpenAPI's description joined with the struct tags, by JSON name."""
    schema = source.schemas[name]
    package = source.package(name)
    tags = {
        json_name: (path, tag, owner)
        for json_name, path, tag, owner in source.tags(package, name.rpartition(".")[2])
    }
    fields: dict[str, Any] = {}
    required = set(schema.get("required", ()))
    for json_name, prop in schema.get("properties", {}).items():
        path, tag, owner = tags[json_name]
        facts: dict[str, Any] = {"type": field_type(prop), "n": path[0] if len(path) == 1 else list(path)}
        if json_name in required:
            facts["required"] = True
        if tag.pointer and path != (0,):
            facts["pointer"] = True
        if prop.get("default", {}) != {}:
            facts["default"] = prop["default"]
        facts |= {short: prop[long] for long, short in MARKERS.items() if long in prop}
        package_of_type, bare = source.named(owner, tag.go_type)
        if path != (0,) and package_of_type.enums.get(bare):
            facts["enum"] = sorted(package_of_type.enums[bare])
        if path != (0,) and bare in package_of_type.lists:
            facts["wrapped"] = True
        fields[json_name] = facts
    attributes: dict[str, Any] = {}
    kinds = schema.get("x-kubernetes-group-version-kind", ())
    if kinds and len(kinds) == 1:
        attributes["gvk"] = [kinds[0]["group"], kinds[0]["version"], kinds[0]["kind"]]
    if "x-kubernetes-map-type" in schema:
        attributes["map"] = schema["x-kubernetes-map-type"]
    return {**attributes, "fields": fields}


def referenced(facts: dict[str, Any]) -> Iterator[str]:
    """The names of the types that a type's fields refer to."""
    for described in facts["fields"].values():
        bare = re.sub(r"^(?:\[\]|\{\})*", "", described["type"])
        if bare.startswith("io.k8s."):
            yield bare
        elif bare.startswith("schema-or-"):
            yield EXTENSIONS + "JSONSchemaProps"


def check_served(source: Source) -> None:
    """That each resource of `SERVED` exists at this release; a slip would leave a kind out in silence."""
    for (group, version), plurals in SERVED.items():
        listed = {entry["resource"] for entry in source.served.get((group, version), ())}
        place = f"{group or 'the core group'}/{version}"
        if not listed:
            raise SystemExit(f"SERVED names {place}, which Kubernetes does not serve at this release")
        if plurals != ALL and (unknown := sorted(set(plurals) - listed)):
            raise SystemExit(
                f"SERVED names {', '.join(unknown)}, but {place} has {', '.join(sorted(listed))}"
            )


def derive(source: Source) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The facts of every served kind, and of every type they reach, by the type's name."""
    check_served(source)
    kinds = [
        kind_facts(source, group, version, entry)
        for (group, version), plurals in SERVED.items()
        for entry in source.served[group, version]
        if plurals == ALL or entry["resource"] in plurals
    ]
    pending = [*EXTRA_TYPES]
    for kind in kinds:
        pending += [kind["type"], *(sub["type"] for sub in kind.get("subresources", ()) if sub["type"])]
        if kind["type"] + "List" in source.schemas:
            pending.append(kind["type"] + "List")
    types: dict[str, dict[str, Any]] = {}
    while pending:
        name = pending.pop()
        if name not in types:
            types[name] = type_facts(source, name)
            pending += referenced(types[name])
    return kinds, types


def compact(value: Any) -> str:
    """The one form in which facts are written: JSON without spaces, keys in the order of the source."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def kinds_text(kinds: list[dict[str, Any]]) -> str:
    """The content of kinds.json, a kind a line."""
    return "[\n" + ",\n".join(map(compact, kinds)) + "\n]\n"


def types_text(types: dict[str, dict[str, Any]]) -> str:
    """The content of one package's file, a field a line, so that a change of facts reads well in a diff."""
    blocks = []
    for name, facts in sorted(types.items()):
        head = "".join(f"{compact(k)}:{compact(v)}," for k, v in facts.items() if k != "fields")
        lines = ",\n".join(f"{compact(k)}:{compact(v)}" for k, v in facts["fields"].items())
        fields = f"{{\n{lines}\n}}" if lines else "{}"
        blocks.append(f'{compact(name)}:{{{head}"fields":{fields}}}')
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def source_text(release: str, texts: dict[str, str]) -> str:
    """The content of source.json: where the facts are from, and the SHA-256 of every other file."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(texts.items())}
    source = {"repository": REPOSITORY, "release": release, "licence": LICENCE, "sha256": digests}
    return json.dumps(source, indent=1) + "\n"


def fact_files(kinds: list[dict[str, Any]], types: dict[str, dict[str, Any]], release: str) -> dict[str, str]:
    """Every file of facts by its name: kinds.json, one a package of types, and source.json."""
    packages: dict[str, dict[str, Any]] = {}
    for name, facts in types.items():
        packages.setdefault(name.rpartition(".")[0], {})[name] = facts
    texts = {"kinds.json": kinds_text(kinds)}
    texts |= {f"{package}.json": types_text(members) for package, members in packages.items()}
    return texts | {"source.json": source_text(release, texts)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubernetes", type=Path, required=True, help="checkout of Kubernetes")
    parser.add_argument("--release", required=True, help="the tag that is checked out, such as v1.34.1")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of facts; its JSON files are replaced"
    )
    options = parser.parse_args()
    kinds, types = derive(Source(options.kubernetes))
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("*.json"):
        old.unlink()
    kinds, types = kinds + ADDED_KINDS, types | ADDED_TYPES
    for name, text in fact_files(kinds, types, options.release).items():
        (options.out / name).write_text(text)
    sys.stderr.write(f"{len(kinds)} kinds, {len(types)} types of Kubernetes {options.release}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
