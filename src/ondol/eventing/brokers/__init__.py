"""Brokers and Triggers: what the control plane says of them."""
