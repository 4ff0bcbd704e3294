"""Aggregated cluster roles: their rules are those of the roles their labels select."""
