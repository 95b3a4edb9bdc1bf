"""Exercises of part I: the basics, notebooks 00 to 05."""
