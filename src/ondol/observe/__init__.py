"""What happened: traces taken in by OTLP, kept, and answered in the shapes Jaeger's tools know."""
