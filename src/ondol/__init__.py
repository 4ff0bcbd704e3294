"""Ondol: Operators, service mesh and serverless on one machine, behind the real Kubernetes API."""

__version__ = "0.1.0"
