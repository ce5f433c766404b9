"""Which class of a data set is nerve, vessel or ignored (`nerve.classes`)."""

from collections.abc import Mapping

from training.data.frame_mask_pair import NERVE, VESSEL
from training.workspace.parameter_validation import ParameterError

BACKGROUND = 0
LABELS = {"nerve": NERVE, "vessel": VESSEL, "ignore": BACKGROUND}


class ClassMap:
    """labels: 0, 1 or 2 by the name of a class, in lower case."""

    def __init__(self, classes: Mapping[str, str]):
        self.labels = {name.lower(): LABELS[role] for name, role in classes.items()}

    def label(self, name: str, file: str) -> int:
        """Return the label of a class. Raises ParameterError for a class that is not in `nerve.classes`."""
        if name.strip().lower() not in self.labels:
            raise ParameterError(
                f"{file} has the class {name!r}, which is not in nerve.classes of params.yaml. Add it there as nerve, "
                f"vessel or ignore: -S 'nerve.classes.{name}=ignore'."
            )
        return self.labels[name.strip().lower()]

    def pixel_labels(self) -> set[int]:
        """Return the labels of the classes that are grey values or colours."""
        return {label for name, label in self.labels.items() if name.isdecimal() or name.startswith("#")}
