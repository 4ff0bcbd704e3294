"""Labels and annotations of functions, as Knative's own tool writes them, and ours beside them."""

from __future__ import annotations

from typing import Final

SPEC_VERSION: Final = "0.36.0"
"""Of `func.yaml`: the newest that is understood."""
FILE: Final = "func.yaml"
RUN_FOLDER: Final = ".func"
"""In a function's folder: what only this copy of it knows."""

FUNCTION_LABEL: Final = "boson.dev/function"
NAME_LABEL: Final = "function.knative.dev/name"
RUNTIME_LABEL: Final = "function.knative.dev/runtime"
DEPLOYER_ANNOTATION: Final = "function.knative.dev/deployer"
DEPLOYER: Final = "knative"
CREATED_ANNOTATION: Final = "functions.ondol.dev/created"
"""The `created` of the `func.yaml` that a Service was deployed from: it tells functions of one name apart."""

EXECUTABLE: Final = "executable"
"""The language of functions that are any program."""
LIVENESS_PATH: Final = "/health/liveness"
READINESS_PATH: Final = "/health/readiness"

DEFAULT_BROKER: Final = "default"
