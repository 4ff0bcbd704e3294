"""Eventing on the Knative Eventing API: brokers, channels, sources and sinks, with CloudEvents between them.

`control` runs the controllers, `events` the data plane: ingress, dispatcher, adapters of sources.
They meet each other and the rest of the platform only through API objects.
"""
