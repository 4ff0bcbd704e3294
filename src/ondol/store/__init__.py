"""The versioned log: append, list at a revision, watch after a revision, compact.

Every write appends one row and its row number is the new revision, so revisions grow across all
objects. The store knows buckets, names and bytes; it has no idea of kinds. Only the API server and
compose use it. A write that was acknowledged is on disk.
"""

from ondol.store import repair
from ondol.store.commits import CommitMetrics
from ondol.store.log import Store, open_file, open_memory
from ondol.store.records import Event, Page, Record, Retention
from ondol.store.sqlite import require_readable

__all__ = [
    "CommitMetrics",
    "Event",
    "Page",
    "Record",
    "Retention",
    "Store",
    "open_file",
    "open_memory",
    "repair",
    "require_readable",
]
