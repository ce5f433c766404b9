"""The service: it takes ultrasound frames and returns nerve masks. ARCHITECTURE.md shows the walk of a request."""

import os
import sys

# Turn telemetry off. BentoML accepts only the word True. OpenVINO reports each import unless this module is missing.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
