"""Exercises of part II: does it pay, notebooks 06 and 07."""
