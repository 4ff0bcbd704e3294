"""Mirroring: Endpoints that people or programs write by hand, as the EndpointSlices that are acted on."""
