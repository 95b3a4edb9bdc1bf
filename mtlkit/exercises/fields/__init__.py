"""Exercises of part III: fields, notebooks 08 to 12."""
