"""Who calls, and what they may do: authentication, tokens, RBAC and the policy a new server starts with.

Called by the API server's request pipeline. Everything here is synchronous and decides on documents
it is given; it reads objects through a lookup the server passes in and never writes one.
"""
