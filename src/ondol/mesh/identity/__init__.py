"""Who workloads are: SPIFFE identities, the authority that certifies them, and what it has issued."""
