"""How events are delivered, decided: outcomes, back-off, dead letters, order, what may be forgotten. Pure.

The dispatcher of `plane` asks these functions and does what they say.
"""
