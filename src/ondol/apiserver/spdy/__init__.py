"""SPDY/3.1 as clients of Kubernetes speak it: the frames of one connection, and its streams.

They open streams for what they forward, inside a WebSocket. Only the API server's streams use it.
"""
