"""The only place that builds and wires: reads settings, chooses what runs in which process, supervises it.

Called by `cli`; nothing below knows it exists.
"""
