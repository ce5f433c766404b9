"""Read DICOM ultrasound: the header, where each frame is in the file, its grey values, and the scan area.

Nothing here trusts the file: every length, number and value in it may be wrong or hostile.
"""

import logging
import warnings

import pydicom.config

# `value_validation` runs pydicom's checks for the elements that are used, and names what they find. While reading,
# pydicom would check all elements, and write pages about small faults into the log, patients' names included.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module="pydicom")
