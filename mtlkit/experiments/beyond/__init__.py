"""Beyond the single model: what is inside, and where research goes: notebooks 13 to 15."""
