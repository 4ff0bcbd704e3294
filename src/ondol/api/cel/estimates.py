"""What calls may cost by the sizes of their arguments, and how large their results may be.

The figures decide which definitions Kubernetes accepts, so they are its own (cel-go `checker/cost.go`,
apiserver `pkg/cel/library/cost.go`). `None` stands for «as any other call»: one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ondol.api.cel.nodes import Literal, Node
from ondol.api.cel.ranges import EXPRESSION, ONE, TRAVERSAL, UNKNOWN, Range, fixed
from ondol.api.cel.types import SIZE_MAX, Type


@dataclass(slots=True)
class Argument:
    """An operand: its node, type and size, and the size of the elements of a list."""

    node: Node
    type: Type
    size: Range | None
    element: Range | None = None
    """None where nothing is known of the elements."""

    @property
    def size_range(self) -> Range:
        return self.size if self.size is not None else UNKNOWN


class Estimate(NamedTuple):
    """The cost of a call without that of its arguments; the size of its result where it has a bound."""

    cost: Range
    size: Range | None = None


Rule = Callable[[str, Sequence[Argument]], Estimate | None]
"""From the overload and the operands, the target first, to the estimate."""


def _one(_: str, __: Sequence[Argument]) -> Estimate:
    return Estimate(ONE)


def _check(_: str, __: Sequence[Argument]) -> Estimate:
    return Estimate(fixed(350_000))


def _selector(_: str, args: Sequence[Argument]) -> Estimate:
    size = args[1].size_range
    requirements = size.scaled(0.5).scaled(50.0)
    return Estimate(fixed(10).plus(size.scaled(TRAVERSAL)).plus(requirements))


def _over_list(_: str, args: Sequence[Argument]) -> Estimate:
    """A comparison for every element, and of texts for every character; of a text, going over it."""
    target = args[0]
    if target.type.kind != "list":
        return Estimate(target.size_range.scaled(TRAVERSAL))
    each = ONE
    if target.type.params[0].kind in ("string", "bytes"):
        each = each.plus((target.element or UNKNOWN).scaled(TRAVERSAL))
    return Estimate(target.size_range.times(each))


def _traversal_kept(_: str, args: Sequence[Argument]) -> Estimate:
    """Going over the first operand, whose size the result has."""
    size = args[0].size_range
    return Estimate(size.scaled(TRAVERSAL), size)


def _traversal(_: str, args: Sequence[Argument]) -> Estimate:
    return Estimate(args[0].size_range.scaled(TRAVERSAL))


def _traversal_twice(_: str, args: Sequence[Argument]) -> Estimate:
    return Estimate(args[0].size_range.scaled(2 * TRAVERSAL))


def _replace(_: str, args: Sequence[Argument]) -> Estimate:
    """Going over it and making the result, which is longest when the shortest part is replaced."""
    size, old, new = (arg.size_range for arg in args[:3])
    most_times, most_kept = _replacements(size.most, old.least, new.most, longer=new.most > old.least)
    least_times, least_kept = _replacements(size.least, old.most, new.least, longer=new.least < old.most)
    times, kept = Range(least_times, most_times), Range(least_kept, most_kept)
    return Estimate(size.scaled(2 * TRAVERSAL), times.times(new).plus(kept))


def _replacements(size: int, old: int, new: int, *, longer: bool) -> tuple[int, int]:
    """How often something is replaced, and how much stays beside it."""
    del new
    if old == 0:
        return min(size + 1, SIZE_MAX), size
    if not longer:
        return 0, size
    return -(-size // old), 0


def _split(_: str, args: Sequence[Argument]) -> Estimate:
    size = args[0].size_range
    most = size.most
    if len(args) > 2 and isinstance(args[2].node, Literal) and type(args[2].node.value) is int:
        most = args[2].node.value % 2**64
    return Estimate(size.scaled(2 * TRAVERSAL), Range(0, most))


def _join(_: str, args: Sequence[Argument]) -> Estimate:
    count = args[0].size_range
    size = count.times(args[0].element or UNKNOWN)
    if len(args) > 1:
        between = Range(max(count.least - 1, 0), max(count.most - 1, 0))
        size = size.plus(args[1].size_range.times(between))
    return Estimate(size.scaled(TRAVERSAL), size)


def _matching(text: Argument, expression: Argument) -> Range:
    return text.size_range.plus(ONE).scaled(TRAVERSAL).times(expression.size_range.scaled(EXPRESSION))


def _find(_: str, args: Sequence[Argument]) -> Estimate:
    return Estimate(_matching(args[0], args[1]), Range(0, args[0].size_range.most))


def _matches(id: str, args: Sequence[Argument]) -> Estimate | None:
    return Estimate(_matching(args[0], args[1])) if id == "matches_string" else None


def _contains(_: str, args: Sequence[Argument]) -> Estimate:
    text, part = (arg.size_range.scaled(TRAVERSAL) for arg in args)
    return Estimate(text.times(part))


def _starts(_: str, args: Sequence[Argument]) -> Estimate:
    return Estimate(args[1].size_range.scaled(TRAVERSAL))


def _ip(id: str, args: Sequence[Argument]) -> Estimate:
    return Estimate(ONE) if id == "cidr_ip" else _traversal(id, args)


_ADDRESS_SIZE: Final = Range(4, 16)


def _contains_ip(id: str, args: Sequence[Argument]) -> Estimate:
    cost = _ADDRESS_SIZE.plus(_ADDRESS_SIZE).scaled(TRAVERSAL)
    if id.endswith("_string"):
        cost = cost.plus(args[1].size_range.scaled(TRAVERSAL))
    return Estimate(cost)


def _contains_cidr(id: str, args: Sequence[Argument]) -> Estimate:
    more = _ADDRESS_SIZE.scaled(TRAVERSAL).plus(ONE)
    return Estimate(_contains_ip(id, args).cost.plus(more))


def _validate(_: str, args: Sequence[Argument]) -> Estimate:
    return Estimate(args[1].size_range.scaled(TRAVERSAL).scaled(128 * EXPRESSION))


def _bytes(id: str, args: Sequence[Argument]) -> Estimate | None:
    if id != "string_to_bytes":
        return None
    size = args[0].size_range
    return Estimate(size.scaled(TRAVERSAL), Range(size.least, min(size.most * 4, SIZE_MAX)))


def _string(id: str, args: Sequence[Argument]) -> Estimate | None:
    if id != "bytes_to_string":
        return None
    size = args[0].size_range
    return Estimate(size.scaled(TRAVERSAL), Range(size.least // 4, size.most))


def _quote(_: str, args: Sequence[Argument]) -> Estimate:
    size = args[0].size_range
    return Estimate(size.scaled(TRAVERSAL), Range(size.least + 2, min(size.most * 2 + 2, SIZE_MAX)))


def _in(id: str, args: Sequence[Argument]) -> Estimate | None:
    return Estimate(args[1].size_range) if id == "in_list" else None


def _add(id: str, args: Sequence[Argument]) -> Estimate | None:
    size = args[0].size_range.plus(args[1].size_range)
    if id == "add_list":
        return Estimate(ONE, size)
    return Estimate(size.scaled(TRAVERSAL), size) if id in ("add_string", "add_bytes") else None


_UNIT_EQUALITY: Final = ("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver")


def _smaller(id: str, args: Sequence[Argument]) -> Estimate:
    """What is compared: at most the smaller of the two."""
    one, other = args[0].type, args[1].type
    if id == "equals" and one == other:
        if one.name in _UNIT_EQUALITY or one.name.startswith("kubernetes.authorization."):
            return Estimate(ONE)
        if one.name == "kubernetes.NamedFormat":
            return Estimate(Range(1, 64).scaled(TRAVERSAL))
    most = min(args[0].size_range.most, args[1].size_range.most)
    return Estimate(Range(1 if most else 0, most).scaled(TRAVERSAL))


def _ordering(id: str, args: Sequence[Argument]) -> Estimate | None:
    return _smaller(id, args) if id.endswith(("_string_string", "_bytes_bytes")) else None


def _sets(factor: float) -> Rule:
    def rule(_: str, args: Sequence[Argument]) -> Estimate:
        return Estimate(args[0].size_range.times(args[1].size_range).scaled(factor).plus(ONE))

    return rule


def _allocating(factor: float, size: Range) -> Estimate:
    return Estimate(size.scaled(factor).plus(fixed(11)), size)


def _integer(node: Node, default: int) -> int:
    """The value of a literal, as an unsigned one."""
    if isinstance(node, Literal) and type(node.value) is int:
        return node.value % 2**64
    return default


def _slice(_: str, args: Sequence[Argument]) -> Estimate:
    start, end = _integer(args[1].node, 0), _integer(args[2].node, args[0].size_range.most)
    return _allocating(1, fixed((end - start) % 2**64))


def _range(_: str, args: Sequence[Argument]) -> Estimate:
    return _allocating(1, fixed(_integer(args[0].node, SIZE_MAX)))


def _reverse(id: str, args: Sequence[Argument]) -> Estimate | None:
    return _allocating(1, args[0].size_range) if id == "list_reverse" else None


def _flatten(_: str, args: Sequence[Argument]) -> Estimate:
    depth = _integer(args[1].node, SIZE_MAX) if len(args) == 2 else 1
    return _allocating(float(depth), args[0].size_range)


def _self_comparing(place: int) -> Rule:
    def rule(id: str, args: Sequence[Argument]) -> Estimate:
        size = args[place].size_range
        factor = 2.1 if id.startswith(("list_string_", "list_bytes_")) else 2.0
        return _allocating(factor, size.times(size))

    return rule


_OF_UNIT: Final = [
    "serviceAccount",
    "path",
    "group",
    "resource",
    "subresource",
    "namespace",
    "name",
    "allowed",
    "reason",
    "error",
    "errored",
    "masked",
    "prefixLength",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "format.named",
    "sign",
    "asInteger",
    "isInteger",
    "asApproximateFloat",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "add",
    "sub",
    "major",
    "minor",
    "patch",
    "getScheme",
    "getHostname",
    "getHost",
    "getPort",
    "getEscapedPath",
    "getQuery",
]
_RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(_OF_UNIT, _one),
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _over_list),
    **dict.fromkeys(
        ("url", "jsonpatch.escapeKey", "lowerAscii", "upperAscii", "substring", "trim"), _traversal_kept
    ),
    **dict.fromkeys(
        ("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver", "format"), _traversal
    ),
    **dict.fromkeys(("fieldSelector", "labelSelector"), _selector),
    **dict.fromkeys(("find", "findAll"), _find),
    **dict.fromkeys(("startsWith", "endsWith"), _starts),
    **dict.fromkeys(("_==_", "_!=_"), _smaller),
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _ordering),
    **dict.fromkeys(("sets.contains", "sets.intersects"), _sets(1)),
    "sets.equivalent": _sets(2),
    "check": _check,
    "replace": _replace,
    "split": _split,
    "join": _join,
    "matches": _matches,
    "contains": _contains,
    "ip": _ip,
    "ip.isCanonical": _traversal_twice,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "validate": _validate,
    "bytes": _bytes,
    "string": _string,
    "strings.quote": _quote,
    "@in": _in,
    "_+_": _add,
    "slice": _slice,
    "lists.range": _range,
    "reverse": _reverse,
    "flatten": _flatten,
    "distinct": _self_comparing(0),
    "sort": _self_comparing(0),
    "@sortByAssociatedKeys": _self_comparing(1),
}


def of_call(function: str, overload: str, args: Sequence[Argument]) -> Estimate:
    """The estimate of one overload of a function."""
    rule = _RULES.get(function)
    estimate = rule(overload, args) if rule is not None else None
    return estimate if estimate is not None else Estimate(ONE)
