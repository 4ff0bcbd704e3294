"""Serverless on the Knative Serving API: revisions, routes, 0 to N replicas and back.

`control` runs the controllers of `serving`; `gateway` runs `autoscaler` and `activator` together,
so that a request that finds nobody is one function call away from the decision to scale.
They meet the rest of the platform only through API objects.
"""
