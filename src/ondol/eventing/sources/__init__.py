"""Sources: what brings events in. Their control is in `control`, their adapters run in `events`.

The control plane resolves each sink into `status.sinkUri`; an adapter reads it there, sends events by an
`outbox.Outbox`, and says that it runs in the condition Deployed.
"""
