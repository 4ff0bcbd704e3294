"""Holds the requests for a revision without a ready pod, and hands each to the first that becomes ready.

Every revision has a listening port of its own here, which stands in its Service's endpoints while
the revision is at zero. The port says whose request it is, so no header is needed, and nothing of
the activator remains in the path once the endpoints are the pods themselves.
"""
