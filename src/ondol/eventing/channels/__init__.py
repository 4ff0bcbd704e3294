"""Channels and Subscriptions: what the control plane makes and says of them."""
