"""Volumes of pods: a module a kind, behind the protocol in `volume`, found by `registry`."""
