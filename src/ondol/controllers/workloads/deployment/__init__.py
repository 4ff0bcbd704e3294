"""Deployments: a ReplicaSet for each template, and an orderly change from one to the next."""
