"""What becomes of requests for certificates: nodes' own are approved, approved ones signed, old ones go."""
