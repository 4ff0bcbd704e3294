"""Container runtimes behind one port: OCI runtimes (crun, runc) under the shim conmon."""
