"""An operator in one file: a `Cache` becomes a Deployment and a Service that run a small cache."""

from typing import Annotated

import msgspec

from ondol import sdk
from ondol.api import objects, progress, resources
from ondol.base import quantity

MEMORY = msgspec.Meta(pattern="^[0-9]+(Ki|Mi|Gi)$", description="Memory for entries, as in 64Mi.")
COLUMNS = (
    sdk.Column("Phase", ".status.phase"),
    sdk.Column("Ready", ".status.ready", "integer"),
    sdk.Column("Address", ".status.address"),
)


class CacheSpec(sdk.Model, frozen=True):
    memory: Annotated[str, MEMORY] = "64Mi"
    replicas: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1
    ttl_seconds: Annotated[int, msgspec.Meta(ge=0, description="Life of an entry; 0 is for ever.")] = 0


class CacheStatus(sdk.Status, frozen=True):
    phase: str = ""
    ready: int = 0
    address: str = ""


@sdk.custom_resource(group="shop.ondol.dev", columns=COLUMNS, scale=sdk.Scale(status_path=".status.ready"))
class Cache(sdk.CustomResource, frozen=True):
    """A key-value cache over HTTP, bounded in memory and time."""

    spec: CacheSpec = CacheSpec()
    status: CacheStatus = CacheStatus()


class CacheOperator(sdk.Operator[Cache]):
    owns = (resources.DEPLOYMENT, resources.SERVICE)

    async def reconcile(self, ctx: sdk.Context[Cache]) -> None:
        deployed = await ctx.apply(deployment(ctx.name, ctx.object.spec))
        await ctx.apply(service(ctx.name))
        ready = objects.status(deployed).get("readyReplicas", 0)
        phase = "Running" if progress.is_rolled_out(deployed) else "Starting"
        message = f"{ready} of {ctx.object.spec.replicas} replicas ready"
        if phase != ctx.object.status.phase:
            ctx.event("Normal", phase, message)
        ctx.set_status(phase=phase, ready=ready, address=f"http://{ctx.name}.{ctx.namespace}")
        ctx.set_condition("Ready", phase == "Running", phase, message)

    async def finalize(self, ctx: sdk.Context[Cache]) -> None:
        ctx.event("Normal", "Emptied", "the cache and all it held are going")


def deployment(name: str, spec: CacheSpec) -> objects.Object:
    memory_bytes = quantity.bytes_of(spec.memory)
    env = {"CACHE_MEMORY_BYTES": str(memory_bytes), "CACHE_TTL_SECONDS": str(spec.ttl_seconds)}
    container = {
        "name": "cache",
        "image": "ondol.local/shop/cache:latest",
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
        "resources": {"limits": {"memory": str(memory_bytes + 64 * 2**20)}},  # entries, and Python itself
    }
    template = {"metadata": {"labels": {"cache": name}}, "spec": {"containers": [container]}}
    desired = {"replicas": spec.replicas, "selector": {"matchLabels": {"cache": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": desired}


def service(name: str) -> objects.Object:
    desired = {"selector": {"cache": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": desired}


if __name__ == "__main__":
    sdk.run(CacheOperator())
