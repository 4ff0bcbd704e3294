"""The function: a receipt for each order."""

from .func import new as new
