"""Sinks: what takes events and does something with them. A JobSink runs a Job for each."""
