"""Voorwerp: find scientifically interesting unknowns in more galaxy images than anyone can look at."""

__version__ = "0.1.0"
