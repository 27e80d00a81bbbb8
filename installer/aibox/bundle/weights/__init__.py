"""Whether the files of a model are only data; asked at build time and again at install time.

Allow-lists and structure, not a scan for known evil: what is not named and shaped like a file of
numbers, a configuration, a vocabulary or a text is refused. docs/model-files.md tells the rules.
"""

from aibox.bundle.weights.check import check_file
from aibox.bundle.weights.names import check_names
from aibox.bundle.weights.problem import Problem, printable, refuse

__all__ = ["Problem", "check_file", "check_names", "printable", "refuse"]
