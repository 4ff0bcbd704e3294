"""Tools to test operators: a world with an API server in it, faults by a seed, and virtual time.

For tests only: nothing that runs in production imports it.
"""

from ondol.sdk.testing.clock import LoopClock, simulate
from ondol.sdk.testing.faults import Faults, FaultyTransport, rough
from ondol.sdk.testing.world import World

__all__ = ["Faults", "FaultyTransport", "LoopClock", "World", "rough", "simulate"]
