"""What objects are, as metrics: the families of kube-state-metrics, under its names and labels.

Each kind is a `Subject`: pure functions from an object to samples, in a table. `subjects.ALL` has all of
them; a family more is a line in the table of its kind. `pages` writes them, `handlers.state_metrics` reads
the objects.

Source: kube-state-metrics' `docs/metrics`; families that are stable there, and those that rules commonly use.
"""
