"""What can be wrong with an upload, and with a model folder."""


class FrameError(Exception):
    """What a caller did wrong: a machine's word for it, a person's sentence, and the HTTP status that fits."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class ModelFolderError(Exception):
    """A model folder that must not be served; the message names the file and the remedy."""
