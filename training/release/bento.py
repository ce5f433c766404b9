"""Build the Bento."""

import os
import tempfile

from training.workspace import paths


def build_bento() -> None:
    """Build models/nervemask.bento: the service, the champion's folder and the locked requirements without TensorFlow.

    This uses a temporary BentoML store. `bentoml import "$PWD/models/nervemask.bento"` adds the Bento to the user's
    store.
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ["BENTOML_HOME"] = home
        import bentoml

        bento = bentoml.bentos.build_bentofile("deploy/bentofile.yaml", build_ctx=".")
        paths.BENTO.unlink(missing_ok=True)
        bentoml.export_bento(str(bento.tag), str(paths.BENTO.resolve()))
