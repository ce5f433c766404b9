"""The service: ultrasound frames in, nerve masks out. The files stand in the order of a request."""

import os

# Nobody is told that this runs. BentoML takes the word True, and no other, for yes.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
