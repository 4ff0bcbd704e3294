"""A pod, and what is known of where it runs, for tests of functions."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.node import value_sources

POD: Object = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "1", "b": 'q"x'}},
    "spec": {"containers": [{"name": "c"}]},
}


FACTS = value_sources.PodFacts("10.0.0.2", "1.2.3.4", "node", {"cpu": "4", "memory": "8Gi"})
