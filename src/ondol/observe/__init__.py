"""Observability: traces received by OTLP, stored, and answered in the shapes that Jaeger's tools read."""
