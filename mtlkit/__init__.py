"""mtlkit: learn multi-task learning by steering it.

data → model → losses → weighting → training → records → plots and the live lab.
"""

__version__ = "0.1.0"
