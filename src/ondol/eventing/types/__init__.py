"""EventTypes: which events there are, and who has them."""
