"""Traffic as kn's flags ask for it: tags taken away first, then given, then the percentages. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from typer import Option

from ondol.api import objects
from ondol.api.objects import Object
from ondol.cli.output import UsageError

LATEST: Final = "@latest"


@dataclass(frozen=True, slots=True)
class Tags:
    """Names for revisions, which `create` and `update` take."""

    tag: Annotated[
        list[str] | None, Option("--tag", help="REVISION=tag, or @latest=tag: a name of its own.")
    ] = None


@dataclass(frozen=True, slots=True)
class Shares:
    """How requests are divided, which only `update` takes."""

    traffic: Annotated[
        list[str] | None,
        Option("--traffic", help="REVISION=percent; a revision's name, a tag or @latest. They make 100."),
    ] = None
    untag: Annotated[list[str] | None, Option("--untag", help="A tag to take away.")] = None


def computed(
    service: Mapping[str, Any], tags: Tags, shares: Shares, *, makes_revision: bool = False
) -> list[Object]:
    """The targets of the Service; what of them has neither a share nor a tag is left out."""
    targets: list[Object] = copy.deepcopy(list(objects.spec(service).get("traffic") or ()))
    if not targets:
        targets = [{"latestRevision": True, "percent": 100}]
    for tag in _listed(shares.untag):
        _untag(targets, tag, objects.name(service))
    for text in _listed(tags.tag):
        reference, tag = _pair(text, "--tag")
        _tag(targets, tag, reference)
    if shares.traffic:
        asked = _percentages(_listed(shares.traffic))
        _share(targets, _completed(asked, targets, service, makes_revision=makes_revision))
    return [target for target in targets if target.get("tag") or target.get("percent")]


def _listed(texts: Iterable[str] | None) -> list[str]:
    """Each of what is given one by one or with commas between, as kn takes it."""
    return [part for text in texts or () for part in text.split(",")]


def _pair(text: str, flag: str) -> tuple[str, str]:
    reference, equals, value = text.partition("=")
    if not equals:
        return LATEST, reference
    if not reference or not value or "=" in value:
        raise UsageError(f"{flag}: {text} is not REVISION=value")
    return reference, value.removesuffix("%")


def _is(target: Mapping[str, Any], reference: str) -> bool:
    if reference == LATEST:
        return not target.get("revisionName")
    return reference in (target.get("revisionName"), target.get("tag"))


def _untag(targets: Iterable[Object], tag: str, service: str) -> None:
    tagged = next((target for target in targets if target.get("tag") == tag), None)
    if tagged is None:
        raise UsageError(f"tag {tag} is not present for any revision of service {service}")
    del tagged["tag"]


def _tag(targets: list[Object], tag: str, reference: str) -> None:
    holder = next((target for target in targets if target.get("tag") == tag), None)
    if holder is not None:
        if _is(holder, reference):
            return
        raise UsageError(f"refusing to overwrite existing tag {tag}: add --untag {tag} to take it away first")
    for target in targets:
        if _is(target, reference) and not target.get("tag"):
            target["tag"] = tag
            return
        if reference == LATEST and _is(target, LATEST):
            other = target["tag"]
            raise UsageError(f"the latest revision has the tag {other}: add --untag {other} to take it away")
    targets.append({**_named(reference), "percent": 0, "tag": tag})


def _named(reference: str) -> Object:
    if reference == LATEST:
        return {"latestRevision": True}
    return {"revisionName": reference, "latestRevision": False}


def _percentages(texts: Sequence[str]) -> dict[str, int]:
    asked: dict[str, int] = {}
    for text in texts:
        reference, number = _pair(text, "--traffic")
        if reference in asked:
            raise UsageError(f"--traffic: {reference} is given twice")
        if not number.isdigit() or int(number) > 100:
            raise UsageError(f"--traffic: {number} is no percentage between 0 and 100")
        asked[reference] = int(number)
    if (total := sum(asked.values())) > 100:
        raise UsageError(f"given traffic percents sum to {total}, want <=100")
    return asked


def _completed(
    asked: dict[str, int], targets: Sequence[Object], service: Mapping[str, Any], *, makes_revision: bool
) -> dict[str, int]:
    """What is missing to 100 goes to the only one that is not named; to a new one, if there will be one."""
    missing = 100 - sum(asked.values())
    if not missing:
        return asked
    served = objects.status(service).get("traffic") or targets
    left = [t for t in served if t.get("percent") and not any(_is(t, reference) for reference in asked)]
    if makes_revision and LATEST not in asked:
        return {**asked, LATEST: missing}
    if len(left) != 1:
        raise UsageError(
            f"unable to allocate the remaining traffic: {missing}%: name all revisions but one with --traffic"
        )
    only = left[0]
    reference = LATEST if only.get("latestRevision") and LATEST not in asked else only.get("revisionName")
    return {**asked, str(reference): missing}


def _share(targets: list[Object], asked: Mapping[str, int]) -> None:
    for target in targets:
        target["percent"] = 0
    for reference, percent in asked.items():
        named = [target for target in targets if _is(target, reference)]
        if not named:
            named = [_named(reference)]
            targets += named
        named[0]["percent"] = percent
