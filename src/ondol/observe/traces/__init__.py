"""Traces: spans taken in by OTLP, kept in SQLite, answered in Jaeger's shapes, drawn as waterfalls."""
