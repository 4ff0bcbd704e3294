"""The date of a build: the epoch or `SOURCE_DATE_EPOCH`, so that the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping

from ondol.build.errors import BuildError


def epoch_s(environment: Mapping[str, str]) -> int:
    """Seconds since 1970 for every file and document of an image.

    Source: https://reproducible-builds.org/specs/source-date-epoch/
    """
    text = environment.get("SOURCE_DATE_EPOCH", "0")
    try:
        return int(text)
    except ValueError:
        raise BuildError(
            f"SOURCE_DATE_EPOCH is {text!r}, not seconds since 1970", remedy="unset SOURCE_DATE_EPOCH"
        ) from None
