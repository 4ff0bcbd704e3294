"""PodTemplates: a template by itself, for whoever reads it."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import workloads as defaults
from ondol.api.objects import Object
from ondol.api.tables import builtin
from ondol.api.validation import Rules, pods, warnings
from ondol.apiserver.kinds.core import pod
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Unsupported


class PodTemplate(Strategy):
    has_generation: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = True

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.workload(new, old, ("template",), named=False)


KIND: Final = Kind(
    "",
    "PodTemplate",
    strategy=PodTemplate(),
    default=defaults.pod_template,
    rules=Rules(lambda obj: pods.template(obj.get("template") or {}, "template")),
    layout=builtin.layout("", "PodTemplate"),
    unsupported=Unsupported(pod.UNSUPPORTED, ("template", "spec")),
)
