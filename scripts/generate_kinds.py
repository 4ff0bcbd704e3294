"""Derive the facts of the built-in kinds (src/ondol/api/facts) from a Kubernetes source tree.

    python scripts/generate_kinds.py --kubernetes PATH --out src/ondol/api/facts

PATH is a checkout of Kubernetes 1.34. Three of its parts are read and none is copied: the OpenAPI v3
documents say what each type's fields are, the struct tags of its Go types say how each field is
numbered in protobuf and which constants an enumeration has, and the discovery document says how each
kind is served. To serve more kinds, name them in `SERVED` and run this again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ALL = ("*",)
SERVED: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "v1"): (
        "bindings",
        "configmaps",
        "endpoints",
        "events",
        "namespaces",
        "nodes",
        "pods",
        "secrets",
        "serviceaccounts",
        "services",
    ),
    ("apps", "v1"): ("deployments", "replicasets"),
    ("authentication.k8s.io", "v1"): ALL,
    ("authorization.k8s.io", "v1"): ALL,
    ("coordination.k8s.io", "v1"): ALL,
    ("discovery.k8s.io", "v1"): ALL,
    ("events.k8s.io", "v1"): ALL,
    ("rbac.authorization.k8s.io", "v1"): ALL,
    ("apiextensions.k8s.io", "v1"): ALL,
}
"""Resources per group and version, by plural name; `ALL` takes every one that discovery lists."""

UNSERVED_SUBRESOURCES = {
    "nodes/proxy",
    "pods/attach",
    "pods/ephemeralcontainers",
    "pods/exec",
    "pods/portforward",
    "pods/proxy",
    "pods/resize",
    "services/proxy",
}
"""Subresources this platform does not answer, so discovery must not promise them."""

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
EXTRA_TYPES = [
    META + name
    for name in ("Status", "DeleteOptions", "WatchEvent", "APIResourceList", "APIGroupList", "APIVersions")
]
"""Types no served kind refers to, yet every server and client speaks."""

EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "raw",
    META + "Time": "time",
    META + "MicroTime": "micro-time",
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


STRUCT = re.compile(r"^type (\w+) struct ?\{(?:\}|\n(.*?)^\})", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\s+(?:(\w+)\s+)?([\w.*\[\]]+)\s+`([^`]*)`", re.MULTILINE)
ENUM = re.compile(r"// \+enum\n(?:// [^\n]*\n|//\n)*type (\w+) string")
LISTED = re.compile(r"^type (\w+) \[\]string", re.MULTILINE)
CONSTANT = re.compile(r"^\s+\w+\s+(\w+)\s+= \"([^\"]*)\"", re.MULTILINE)
IMPORT = re.compile(r"^\s+(?:(\w+) )?\"k8s\.io/([\w./-]+)\"$", re.MULTILINE)


def read_package(directory: Path) -> Package:
    package = Package()
    constants: list[tuple[str, str]] = []
    for path in sorted(directory.glob("*.go")):
        if path.name.endswith("_test.go") or path.name.startswith("zz_"):
            continue
        text = path.read_text()
        package.imports |= {m[1] or m[2].rsplit("/", 1)[-1]: m[2] for m in IMPORT.finditer(text)}
        package.lists |= set(LISTED.findall(text))
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
    """The three parts of the Kubernetes tree, read as asked for."""

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
        prefix, directory = next((p, d) for p, d in PACKAGE_ROOTS.items() if type_name.startswith(p))
        path = directory + type_name[len(prefix) :].rpartition(".")[0].replace(".", "/")
        return self.package_at(path)

    def package_at(self, path: str) -> Package:
        if path not in self.packages:
            self.packages[path] = read_package(self.root / path)
        return self.packages[path]

    def named(self, package: Package, go_type: str) -> tuple[Package, str]:
        """The package and bare name a Go type expression ends in."""
        bare = re.sub(r"^(?:\*|\[\]|map\[\w+\])*", "", go_type)
        alias, _, name = bare.rpartition(".")
        if not alias:
            return package, bare
        path = package.imports.get(alias)
        return (self.package_at("staging/src/k8s.io/" + path), name) if path else (Package(), name)

    def tags(
        self, package: Package, struct: str, via: tuple[int, ...] = ()
    ) -> Iterator[tuple[str, tuple[int, ...], Tag, Package]]:
        """Every JSON field of a struct with its path of protobuf numbers, embedded structs unfolded."""
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
    found: dict[str, dict[str, Any]] = {}
    for entry in resources:
        plural, _, sub = entry["name"].partition("/")
        kind = {"group": entry.get("group", ""), "version": entry.get("version", ""), "kind": entry["kind"]}
        if sub:
            parent = found[plural]
            parent.setdefault("subresources", []).append(
                {"subresource": sub, "responseKind": kind, "verbs": entry["verbs"]}
            )
            continue
        found[plural] = {
            "resource": plural,
            "responseKind": kind,
            "scope": "Namespaced" if entry["namespaced"] else "Cluster",
            "singularResource": entry["singularName"],
            "verbs": entry["verbs"],
            **{k: entry[k] for k in ("shortNames", "categories") if k in entry},
        }
    return list(found.values())


def kind_facts(source: Source, group: str, version: str, entry: dict[str, Any]) -> dict[str, Any]:
    kind = entry["responseKind"]["kind"]
    plural = entry["resource"]
    facts: dict[str, Any] = {
        "group": group,
        "version": version,
        "kind": kind,
        "plural": plural,
        "singular": entry["singularResource"],
        "namespaced": entry["scope"] == "Namespaced",
        "verbs": entry["verbs"],
        "type": type_of(source, group, version, kind),
    }
    facts |= {k: entry[k] for k in ("shortNames", "categories") if k in entry}
    subresources = []
    for sub in entry.get("subresources", ()):
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
    """The schema that carries this group, version and kind (the most specific one)."""
    wanted = {"group": group, "version": version, "kind": kind}
    found = [n for n, s in source.schemas.items() if wanted in s.get("x-kubernetes-group-version-kind", ())]
    if not found:
        raise SystemExit(f"no schema for {group}/{version} {kind}")
    return found[0]


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


OPTIONS = {
    "x-kubernetes-list-type": "list",
    "x-kubernetes-list-map-keys": "keys",
    "x-kubernetes-map-type": "map",
    "x-kubernetes-patch-merge-key": "merge",
    "x-kubernetes-patch-strategy": "strategy",
}


def type_facts(source: Source, name: str) -> dict[str, Any]:
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
        facts |= {short: prop[long] for long, short in OPTIONS.items() if long in prop}
        named_in, bare = source.named(owner, tag.go_type)
        if path != (0,) and named_in.enums.get(bare):
            facts["enum"] = sorted(named_in.enums[bare])
        if path != (0,) and bare in named_in.lists:
            facts["wrapped"] = True
        fields[json_name] = facts
    whole: dict[str, Any] = {}
    kinds = schema.get("x-kubernetes-group-version-kind", ())
    if kinds and len(kinds) == 1:
        whole["gvk"] = [kinds[0]["group"], kinds[0]["version"], kinds[0]["kind"]]
    if "x-kubernetes-map-type" in schema:
        whole["map"] = schema["x-kubernetes-map-type"]
    return {**whole, "fields": fields}


def referenced(facts: dict[str, Any]) -> Iterator[str]:
    for described in facts["fields"].values():
        bare = re.sub(r"^(?:\[\]|\{\})*", "", described["type"])
        if bare.startswith("io.k8s."):
            yield bare
        elif bare.startswith("schema-or-"):
            yield EXTENSIONS + "JSONSchemaProps"


def derive(source: Source) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    kinds = [
        kind_facts(source, group, version, entry)
        for (group, version), plurals in SERVED.items()
        for entry in source.served[group, version]
        if plurals == ALL or entry["resource"] in plurals
    ]
    wanted = [*EXTRA_TYPES]
    for kind in kinds:
        wanted += [kind["type"], *(sub["type"] for sub in kind.get("subresources", ()))]
        if kind["type"] + "List" in source.schemas:
            wanted.append(kind["type"] + "List")
    types: dict[str, dict[str, Any]] = {}
    while wanted:
        name = wanted.pop()
        if name not in types:
            types[name] = type_facts(source, name)
            wanted += referenced(types[name])
    return kinds, types


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def write_types(path: Path, types: dict[str, dict[str, Any]]) -> None:
    """One field a line, so that a change of facts reads well in a diff."""
    blocks = []
    for name, facts in sorted(types.items()):
        head = "".join(f"{compact(k)}:{compact(v)}," for k, v in facts.items() if k != "fields")
        lines = ",\n".join(f"{compact(k)}:{compact(v)}" for k, v in facts["fields"].items())
        blocks.append(
            f'{compact(name)}:{{{head}"fields":{{\n{lines}\n}}}}'
            if lines
            else f'{compact(name)}:{{{head}"fields":{{}}}}'
        )
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubernetes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    kinds, types = derive(Source(options.kubernetes))
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("*.json"):
        old.unlink()
    (options.out / "kinds.json").write_text("[\n" + ",\n".join(map(compact, kinds)) + "\n]\n")
    packages: dict[str, dict[str, Any]] = {}
    for name, facts in types.items():
        packages.setdefault(name.rpartition(".")[0], {})[name] = facts
    for package, members in packages.items():
        write_types(options.out / f"{package}.json", members)
    sys.stderr.write(f"{len(kinds)} kinds, {len(types)} types\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
