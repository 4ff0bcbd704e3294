"""Documents of every built-in kind, as the table of facts describes its type: for properties of all kinds."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ondol.api import facts


def named(group: str, version: str, kind: str) -> tuple[str, str]:
    return f"{group}/{version}" if group else version, kind


KINDS = {named(k.group, k.version, k.kind): k.type for k in facts.kinds()} | {
    named(s.group, s.version, s.kind): s.type for k in facts.kinds() for s in k.subresources if s.type
}
TEXT = st.text(max_size=5)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXT,
    "bytes": st.sampled_from(["", "aGk=", "AA=="]),
    "int32": st.integers(-(1 << 31), (1 << 31) - 1),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "bool": st.booleans(),
    "double": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "time": st.sampled_from(["2024-01-02T03:04:05Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"]),
    "micro-time": st.sampled_from(["2024-01-02T03:04:05.000001Z", "1970-01-01T00:00:00.000000Z"]),
    "duration": st.sampled_from(["0s", "15s", "0.25s"]),
    "quantity": st.sampled_from(["0", "1", "500m", "1Gi"]),
    "int-or-string": st.integers(-(1 << 31), (1 << 31) - 1) | TEXT,
    "raw": st.just({"a": 1}),
    "fields": st.just({"f:a": {}}),
    "json": st.sampled_from([{"a": [1, None]}, "x", 0, False]),
    "schema-or-array": st.sampled_from([{"type": "string"}, [{"type": "integer"}, {"type": "string"}]]),
    "schema-or-bool": st.sampled_from([{"type": "string"}, True, False]),
    "schema-or-strings": st.sampled_from([{"type": "string"}, ["a", "b"]]),
}


@st.composite
def value(draw: st.DrawFn, word: str, depth: int) -> Any:
    if word.startswith("[]"):
        return [draw(value(word[2:], depth)) for _ in range(draw(st.integers(0, 2)))]
    if word.startswith("{}"):
        return {key: draw(value(word[2:], depth)) for key in draw(st.sets(TEXT, max_size=2))}
    if word in SCALARS:
        return draw(SCALARS[word])
    return draw(document(word, depth - 1))


@st.composite
def document(draw: st.DrawFn, type_name: str, depth: int) -> dict[str, Any]:
    described = {
        name: field
        for name, field in facts.type_named(type_name).fields.items()
        if field.path and (depth > 0 or facts.split(field.type)[1] in facts.SCALARS)
    }
    chosen = draw(st.lists(st.sampled_from(sorted(described)), unique=True, max_size=4)) if described else []
    drawn = {name: draw(value(described[name].type, depth)) for name in chosen}
    return {name: _once_a_key(described[name], listed) for name, listed in drawn.items()}


def _once_a_key(field: facts.Field, drawn: Any) -> Any:
    """A list whose items have keys has each of them once: what two of one key mean, nobody says."""
    keys = field.list_keys or ((field.patch_merge_key,) if field.patch_merge_key else ())
    if not keys or not isinstance(drawn, list):
        return drawn
    once = {str([item.get(key) for key in keys]): item for item in drawn}
    return list(once.values())
