"""The plain web edge: serving, routes, bodies, error documents, WebSockets. Nothing of the Kubernetes API.

`node` and `observe` stand on it; the API server, whose connections need more, has an edge of its own.
Only `application` and `serving` know starlette and uvicorn.
"""
