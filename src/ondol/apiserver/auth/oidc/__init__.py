"""Tokens of OpenID Connect, by an AuthenticationConfiguration. Only a server with one imports it."""
