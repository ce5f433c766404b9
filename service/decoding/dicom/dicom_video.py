"""Videos in DICOM files: MPEG-2, MPEG-4 AVC/H.264 and HEVC/H.265. The pixel data are one stream of all frames."""

from collections.abc import Iterator
from typing import IO, Any

from pydicom import Dataset

from service.decoding.decoded_video import DecodedVideo
from service.decoding.dicom.frame_locations import locate_video
from service.decoding.dicom.header_checks import is_frame_count_missing
from service.decoding.video_decoder import MAX_VIDEO_BYTES
from service.errors import ErrorCode, FrameError
from service.resources.worker_memory import RequestMemory


def decode_dicom_video(
    file: IO[bytes], header: Dataset, options: dict[str, Any], memory: RequestMemory
) -> DecodedVideo:
    """Return the frames of the video. `file` is at the first byte of the pixel data.

    options: of `read_pixel_options`. memory: where the bytes of the frames are reserved.

    Raises FrameError (400, 413, 422, 429, 503), also for another number or size of frames than the header declares.
    """
    video = DecodedVideo(_read_stream(file), memory)
    if (video.rows, video.columns) != (options["rows"], options["columns"]):
        message = f"The video has another size ({video.columns}x{video.rows}) than the file declares."
        raise FrameError(ErrorCode.MALFORMED, message)
    declared = options["number_of_frames"]
    if video.frame_count != declared and not is_frame_count_missing(header):
        message = f"The DICOM file declares {declared} frame(s). Its video has {video.frame_count} that can be decoded."
        raise FrameError(ErrorCode.MALFORMED, message)
    return video


def _read_stream(file: IO[bytes]) -> Iterator[bytes]:
    fragments = locate_video(file)
    if sum(length for _, length in fragments) > MAX_VIDEO_BYTES:
        raise FrameError(ErrorCode.TOO_LARGE, f"The video is larger than {MAX_VIDEO_BYTES // 2**20} MiB.")
    for position, length in fragments:
        file.seek(position)
        yield file.read(length)
