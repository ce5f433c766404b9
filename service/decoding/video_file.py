"""Decode MP4 and AVI videos, as portable probes export them, to grey frames."""

import math
import os

import cv2
import numpy as np

from service.decoding.frame import MAX_FRAMES
from service.decoding.image_file import check_size
from service.decoding.pixel_range import DecodedPixels
from service.errors import ErrorCode, FrameError

MAX_VIDEO_BYTES = 64 * 1024 * 1024
MAX_DECODED_BYTES = 1024 * 1024 * 1024  # of all frames, one byte a pixel
MILLI = 1000
# A video cannot name other files or addresses to read.
FFMPEG_OPTIONS = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file"}


def decode_video(source: str, target: str, max_pixels: int) -> DecodedPixels:
    """Write the grey frames of a video to a file, uint8, one after the other. Runs in the decoder process.

    Returns int64 (4,): number of frames, rows, columns, and frames per 1000 seconds.

    source, target: paths. Raises FrameError (400, 413, 422).
    """
    os.environ.update(FFMPEG_OPTIONS)
    video = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
    is_open, frame = video.read()
    if not is_open:
        message = "The video is damaged or truncated, or its codec is unknown. Send MP4 (H.264, MPEG-4) or AVI (MJPEG)."
        raise FrameError(ErrorCode.MALFORMED, message)
    rows, columns = frame.shape[:2]
    check_size(rows, columns, max_pixels)
    count = 0
    with open(target, "wb") as output:
        while is_open:
            count += 1
            _check_length(count, rows * columns)
            if frame.shape[:2] != (rows, columns):
                raise FrameError(
                    ErrorCode.MALFORMED, f"Frame {count - 1} of the video has another size than the first."
                )
            output.write(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).data)
            is_open, frame = video.read()
    declared = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    notes = (f"the video declares {declared} frames: {count} of them can be decoded",) if count < declared else ()
    rate = video.get(cv2.CAP_PROP_FPS)
    milli_rate = round(rate * MILLI) if math.isfinite(rate) else 0  # 0: unknown
    return DecodedPixels(np.array([count, rows, columns, milli_rate]), notes)


def _check_length(count: int, frame_bytes: int) -> None:
    if count > MAX_FRAMES or count * frame_bytes > MAX_DECODED_BYTES:
        message = (
            f"The video has more than {min(MAX_FRAMES, MAX_DECODED_BYTES // frame_bytes)} frames. Send a part of it."
        )
        raise FrameError(ErrorCode.TOO_MANY_FRAMES, message)
