"""The journal: where every event is kept before it is acknowledged, and until all have had it.

`port` is what the data plane knows of it. `jetstream` keeps it in NATS JetStream, over the connection of
`wire`, which alone speaks its protocol; `memory` is one for simulations.
"""
