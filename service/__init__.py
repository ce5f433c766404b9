"""The service: ultrasound frames in, nerve masks out. The files stand in the order of a request."""

import os
import sys

# Nobody is told that this runs. BentoML takes the word True, and no other, for yes. OpenVINO's own switch is a file in
# the home folder: it tells of each import unless its telemetry cannot be loaded.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
