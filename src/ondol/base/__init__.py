"""Ground floor: clocks, back-off, quantities, durations, names, files and errors.

Everything above may import it; it knows no Kubernetes kind and performs no I/O of its own.
"""
