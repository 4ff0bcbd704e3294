"""Images from registries and back to them, by the OCI distribution specification and Docker's version 2.

Pure: `challenges` (who wants what proof), `credentials` (which of the secrets), `documents` (which image of
a manifest), `hosts` (where a name leads). Shells: `http` (one request with redirects and tries), `session`
(a repository, signed in), `pulling`, `pushing`; `server` is the platform's own registry.
"""
