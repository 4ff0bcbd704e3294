"""The Operator SDK: what every controller of this project, and of its users, is written with.

From below: `Informer` and `Lister` (a local copy of the objects), `Workqueue`, `Controller`,
`Manager`. It knows the client and nothing of the platform.
"""

from ondol.sdk.controller import (
    Controller,
    always,
    controller_key,
    generation_changed,
    own_key,
)
from ondol.sdk.informer import Informer
from ondol.sdk.leader import Lease
from ondol.sdk.manager import Manager
from ondol.sdk.reconcile import Result, Retry, Terminal
from ondol.sdk.recorder import EventRecorder
from ondol.sdk.store import Lister
from ondol.sdk.workqueue import Workqueue

__all__ = [
    "Controller",
    "EventRecorder",
    "Informer",
    "Lease",
    "Lister",
    "Manager",
    "Result",
    "Retry",
    "Terminal",
    "Workqueue",
    "always",
    "controller_key",
    "generation_changed",
    "own_key",
]
