"""Exercises of part IV: beyond, notebooks 13 to 15."""
