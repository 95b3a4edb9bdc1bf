"""What is raised when data cannot be used."""


class DataError(ValueError):
    """A data file or field is wrong; the message names it and says how to mend it."""
