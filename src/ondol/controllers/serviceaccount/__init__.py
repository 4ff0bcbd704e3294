"""What every namespace is born with: its `default` service account and the authority's certificate."""
