"""Training: from frames to a champion. ARCHITECTURE.md shows the walk of a frame, dvc.yaml the stages.

The variables below turn off the telemetry and the log noise of the libraries. A variable that is already set wins.
"""

import os

for _variable, _value in {
    "BENTOML_DO_NOT_TRACK": "True",  # BentoML accepts only this word
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "RAY_DEDUP_LOGS": "0",  # it would leave out epochs of trainings that run at the same time
    "OPENCV_LOG_LEVEL": "SILENT",  # the project reports broken files itself
}.items():
    os.environ.setdefault(_variable, _value)
