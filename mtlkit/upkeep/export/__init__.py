"""The course for a class, made from the one set of notebooks: `mtlkit export --student | --nbgrader | --otter DIR`."""

from mtlkit.upkeep.export.answers import Asked, exercises_in
from mtlkit.upkeep.export.nbgrader import export_nbgrader
from mtlkit.upkeep.export.otter import export_otter
from mtlkit.upkeep.export.student import export_student

__all__ = ["Asked", "exercises_in", "export_nbgrader", "export_otter", "export_student"]
