"""Kafka: records as events, how a cluster is reached, and the client, which is an extra of the package.

Sources and sinks are written against `port`; `client` implements it and is imported once one is there.
"""
