"""The Operator SDK: what every controller of this project, and of its users, is written with.

From below: `Informer` and `Lister` (a local copy of the objects), `Workqueue`, `Controller`,
`Manager`, `Children` and `status.Writer` (the one way to keep children and to write a status). Above
them what authors of operators use: `CustomResource`, `Operator`, `Context`, `run`.
It knows the client and nothing of the platform.
"""

from ondol.sdk.children import Children
from ondol.sdk.context import Context
from ondol.sdk.controller import (
    Controller,
    always,
    controller_key,
    generation_changed,
    own_key,
)
from ondol.sdk.informer import Informer
from ondol.sdk.install import install_crds
from ondol.sdk.leader import Lease
from ondol.sdk.manager import Manager
from ondol.sdk.model import (
    IMMUTABLE,
    Column,
    Condition,
    CustomResource,
    Model,
    Scale,
    Status,
    custom_resource,
    rules,
)
from ondol.sdk.operator import Operator, Watch
from ondol.sdk.reconcile import Result, Retry, Terminal
from ondol.sdk.recorder import EventRecorder
from ondol.sdk.run import run
from ondol.sdk.schema import crd
from ondol.sdk.store import Lister
from ondol.sdk.workqueue import Workqueue

__all__ = [
    "IMMUTABLE",
    "Children",
    "Column",
    "Condition",
    "Context",
    "Controller",
    "CustomResource",
    "EventRecorder",
    "Informer",
    "Lease",
    "Lister",
    "Manager",
    "Model",
    "Operator",
    "Result",
    "Retry",
    "Scale",
    "Status",
    "Terminal",
    "Watch",
    "Workqueue",
    "always",
    "controller_key",
    "crd",
    "custom_resource",
    "generation_changed",
    "install_crds",
    "own_key",
    "rules",
    "run",
]
