"""An operator as its users write them with kopf, which knows nothing of who serves the API.

`kopf run` starts it; the admission webhook's port, certificate and authority are in the environment.
"""

from __future__ import annotations

import os
from typing import Any

import kopf


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.finalizer = "kopf.example.org/finalizer"
    settings.admission.managed = "auto.kopf.example.org"
    folder = os.environ["KOPF_TEST_CERTIFICATES"]
    settings.admission.server = kopf.WebhookServer(
        addr="127.0.0.1",
        host="localhost",
        certfile=f"{folder}/both.pem",
        pkeyfile=f"{folder}/both.pem",
        cafile=f"{folder}/ca.pem",
    )


@kopf.on.validate("kettles")
def not_too_hot(spec: kopf.Spec, warnings: list[str], **_: Any) -> None:
    if spec.get("celsius", 0) > 100:
        raise kopf.AdmissionError("water boils at 100", code=400)
    if spec.get("celsius", 0) > 90:
        warnings.append("that is hot")


@kopf.on.mutate("kettles", operation="CREATE")
def with_a_default(spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> None:
    if "celsius" not in spec:
        patch.spec["celsius"] = 60


@kopf.on.create("kettles")
def create(spec: kopf.Spec, name: str, **_: Any) -> dict[str, Any]:
    return {"made": f"{name}-water", "celsius": spec["celsius"]}


@kopf.on.update("kettles", field="spec.celsius")
def update(old: Any, new: Any, body: kopf.Body, **_: Any) -> dict[str, Any]:
    kopf.info(body, reason="Heated", message=f"from {old} to {new}")
    return {"from": old, "to": new}


@kopf.on.create("kettles", retries=3, backoff=0.2)
def in_the_end(retry: int, **_: Any) -> str:
    """Fails twice: its progress is kept in the object in between."""
    if retry < 2:
        raise kopf.TemporaryError("not yet", delay=0.2)
    return f"after {retry}"


@kopf.on.delete("kettles")
def delete(name: str, logger: Any, **_: Any) -> None:
    logger.info("emptied %s", name)


@kopf.timer("kettles", interval=0.3)
def tick(patch: kopf.Patch, status: kopf.Status, **_: Any) -> None:
    patch.status["ticks"] = min(status.get("ticks", 0) + 1, 3)


@kopf.index("configmaps", labels={"of": "kettles"})
def sizes(name: str, body: kopf.Body, **_: Any) -> dict[str, str]:
    return {name: (body.get("data") or {}).get("size", "")}


@kopf.on.event("configmaps", labels={"of": "kettles"})
def seen(type: str, name: str, logger: Any, **indexes: Any) -> None:
    sizes = indexes["sizes"]
    logger.info("seen %s %s %s", type, name, sorted(value for key in sizes for value in sizes[key]))
