"""The audit log: who asked what of the API and what was answered, chosen by a policy, a line of JSON each.

Only a server with a policy imports it.
"""
