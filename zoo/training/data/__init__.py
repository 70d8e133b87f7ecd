"""Labelled data in every form users have it, read as rows. Importing this imports no data library and no torch.

`read` recognises what it is given; `hold_out` and `split` make a validation part; `check` finds what would spoil
training. docs/data.md lists the forms.
"""

from zoo.training.data.checks import check, check_classes, check_splits
from zoo.training.data.kinds import problem_of
from zoo.training.data.reading import read
from zoo.training.data.rows import Dataset, Row, Rows
from zoo.training.data.splits import hold_out, split

__all__ = [
    "Dataset",
    "Row",
    "Rows",
    "check",
    "check_classes",
    "check_splits",
    "hold_out",
    "problem_of",
    "read",
    "split",
]
