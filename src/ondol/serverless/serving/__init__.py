"""Knative Serving: Service, Configuration, Revision and Route, one folder a kind.

Each folder holds pure makers of the kind's children (`resources`), its conditions (`status`) and
the phases that put them in effect (`reconciler`). Specification: knative/specs Serving API 1.0.
"""
