"""The service: it takes ultrasound frames and returns nerve masks. ARCHITECTURE.md shows the walk of a request."""

import os
import sys

VERSION = "0.2.0"  # of this release; pyproject.toml and the image tags of deploy/ have the same

# Turn telemetry off. BentoML accepts only the word True. OpenVINO reports each import unless this module is missing.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# OpenCV reads these once, when it is imported. At its default level it logs every damaged upload. Pillow reads the
# header of a picture and OpenCV the pixels: if they disagree about the size, OpenCV keeps the limit too.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(4096 * 4096))  # MAX_PIXELS of service/decoding/frame.py
