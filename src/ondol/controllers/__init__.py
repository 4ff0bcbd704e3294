"""The controllers of the platform: workloads, scheduling, endpoints and housekeeping.

One folder a kind: `reconciler` reads listers and writes through the SDK, the modules beside it are pure.
Those of workloads stand on a kit, `workloads/`. Wired by compose into one `sdk.Manager`; they know
nothing but the public API.
"""

from ondol.controllers.wiring import ControllersConfig, add_to

__all__ = ["ControllersConfig", "add_to"]
