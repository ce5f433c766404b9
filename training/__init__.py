"""From raw frames to a champion: the modules stand here in the order of the stages of dvc.yaml.

No tool that the stages use phones home or chatters; an environment variable that is set already is left as it is.
"""

import os

for _variable, _value in {
    "BENTOML_DO_NOT_TRACK": "True",  # the word: BentoML takes a 1 for a no
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "OPENCV_LOG_LEVEL": "SILENT",  # of a broken file we tell ourselves
}.items():
    os.environ.setdefault(_variable, _value)
