"""Metrics: the pages of all parts of the platform, merged to one."""
