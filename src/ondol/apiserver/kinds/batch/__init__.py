"""The kinds of the group `batch`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.batch import cron_job, job

KINDS: Final = (cron_job.KIND, job.KIND)
