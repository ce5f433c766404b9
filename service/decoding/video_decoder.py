"""Decode videos, as portable probes export them, to grey frames: MP4, AVI, and the streams inside DICOM files."""

import os
import struct

import cv2
import numpy as np

from service.decoding.frame import MAX_FRAME_RATE_HZ, MAX_FRAMES, MIN_FRAME_RATE_HZ
from service.decoding.image_file import check_size
from service.decoding.jpeg_header import read_jpeg_header
from service.decoding.native_messages import native_messages
from service.decoding.pixel_range import DecodedPixels
from service.decoding.temporary_file import raise_no_room
from service.errors import ErrorCode, FrameError

MAX_VIDEO_BYTES = 64 * 1024 * 1024
MAX_DECODED_BYTES = 1024 * 1024 * 1024  # of all frames, one byte a pixel
MILLI = 1000
MOTION_JPEG, WITHOUT_DECODING = cv2.VideoWriter.fourcc(*"MJPG"), -1
PROP_HEIGHT, PROP_WIDTH = cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH
# FFmpeg also knows playlists, which name other files and addresses to read. A video must not be one.
CONTAINERS = ("mov", "avi", "mpegts", "mpeg", "mpegvideo", "h264", "hevc")
FFMPEG_OPTIONS = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": f"protocol_whitelist;file|format_whitelist;{','.join(CONTAINERS)}"}


def probe_video(source: str, max_pixels: int) -> np.ndarray:
    """Return what a video declares: int64 (3,) rows, columns, and number of frames, 0 if that is unknown.

    Runs in the decoder process. Raises FrameError (400, 413, 422).
    """
    video = _open(source)
    rows, columns, count = (int(video.get(key)) for key in (PROP_HEIGHT, PROP_WIDTH, cv2.CAP_PROP_FRAME_COUNT))
    check_size(rows, columns, max_pixels)
    return np.array([rows, columns, max(0, count)])


def decode_video(source: str, target: str, max_pixels: int, max_bytes: int = MAX_DECODED_BYTES) -> DecodedPixels:
    """Write the grey frames of a video to a file, uint8, one after the other. Runs in the decoder process.

    Returns int64 (4,): number of frames, rows, columns, and frames per 1000 seconds, 0 if that is unknown.

    source, target: paths. max_bytes: limit for all frames. Raises FrameError (400, 413, 422, 503).
    """
    with native_messages() as messages:
        video = _open(source)
        if int(video.get(cv2.CAP_PROP_FOURCC)) == MOTION_JPEG:
            _check_jpeg_sizes(source)
        count, rows, columns = _write_frames(video, target, max_pixels, max_bytes)
        notes = _notes(video, count)
        if messages():  # FFmpeg fills damaged parts of a frame with guesses, and OpenCV does not tell
            notes += ("the video is damaged: parts of its frames are guesses of the decoder",)
    return DecodedPixels(np.array([count, rows, columns, to_milli_rate(video.get(cv2.CAP_PROP_FPS))]), notes)


def _open(source: str) -> cv2.VideoCapture:
    os.environ.update(FFMPEG_OPTIONS)
    video = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
    if not video.isOpened():
        raise _damaged_error()
    return video


def _damaged_error() -> FrameError:
    message = "The video is damaged or truncated, or its codec is unknown. Send MP4 (H.264, MPEG-4) or AVI (MJPEG)."
    return FrameError(ErrorCode.MALFORMED, message)


def _write_frames(video: cv2.VideoCapture, target: str, max_pixels: int, max_bytes: int) -> tuple[int, int, int]:
    """Return the number of frames, their rows and their columns."""
    is_open, frame = video.read()
    if not is_open:
        raise _damaged_error()
    rows, columns = frame.shape[:2]
    check_size(rows, columns, max_pixels)
    count = 0
    with raise_no_room(), open(target, "wb") as output:
        while is_open:
            count += 1
            _check_length(count, rows * columns, max_bytes)
            if frame.shape[:2] != (rows, columns):
                raise _several_sizes_error()
            output.write(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).data)
            is_open, frame = video.read()
    return count, rows, columns


def _check_jpeg_sizes(source: str) -> None:
    """Raise FrameError 422 if the frames of a Motion JPEG video have several sizes: OpenCV would stretch them all."""
    packets = cv2.VideoCapture(source, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, WITHOUT_DECODING])
    sizes: set[tuple[int, int]] = set()
    while len(sizes) < 2:
        is_open, packet = packets.read()
        if not is_open:
            return
        try:
            header = read_jpeg_header(packet.tobytes())
        except (ValueError, IndexError, struct.error):  # the decoder skips a damaged frame too
            continue
        sizes.add((header.rows, header.columns))
    raise _several_sizes_error()


def _several_sizes_error() -> FrameError:
    return FrameError(ErrorCode.PIXEL_TYPE, "The frames of the video have several sizes. Send one video for each size.")


def to_milli_rate(rate: float) -> int:
    """Return the frames per 1000 seconds, or 0 for a rate that no scanner reaches.

    rate: frames per second, as the video declares it. It may be infinite or not a number.
    """
    return round(rate * MILLI) if MIN_FRAME_RATE_HZ <= rate <= MAX_FRAME_RATE_HZ else 0


def _notes(video: cv2.VideoCapture, count: int) -> tuple[str, ...]:
    """Return sentences for the reader of the answer. count: number of frames that were decoded."""
    notes: tuple[str, ...] = ()
    declared = int(video.get(cv2.CAP_PROP_FRAME_COUNT))  # negative if the video does not declare it
    if count < declared:
        notes += (f"the video declares {declared} frames: {count} of them can be decoded",)
    rotation = int(video.get(cv2.CAP_PROP_ORIENTATION_META))
    if rotation:
        notes += (f"the video declares a rotation of {rotation} degrees: its frames were turned, as viewers show them",)
    return notes


def _check_length(count: int, frame_bytes: int, max_bytes: int) -> None:
    if count > MAX_FRAMES or count * frame_bytes > max_bytes:
        message = f"The video has more than {min(MAX_FRAMES, max_bytes // frame_bytes)} frames. Send a part of it."
        raise FrameError(ErrorCode.TOO_MANY_FRAMES, message)
