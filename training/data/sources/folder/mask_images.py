"""Masks as pictures, whose grey values or colours are classes."""

import io

import numpy as np
from PIL import Image

from service.decoding.image_file import read_orientation
from service.decoding.pixel_range import turn_upright
from training.data.frame_mask_pair import NERVE, check_orientation
from training.data.source_errors import SourceError
from training.data.sources.folder.annotation import SourceFrame
from training.data.sources.folder.classes import BACKGROUND, ClassMap
from training.data.sources.folder_or_zip import SourceFiles

JPEG_THRESHOLD = 128  # of a JPEG mask, whose compression makes further grey values


def draw_mask(files: SourceFiles, file: str, classes: ClassMap, frame: SourceFrame) -> np.ndarray:
    """Return the labels of the mask picture of a frame, as `decode_mask`. Raises SourceError if one may be turned."""
    data = files.read(file)
    check_orientation(frame.picture, data, file)
    return decode_mask(data, classes, file)


def decode_mask(data: bytes, classes: ClassMap, file: str) -> np.ndarray:
    """Return the labels of a mask picture: uint8 (height, width), 0 background, 1 nerve, 2 vessel.

    Black and transparent pixels are background. Other values are classes: a grey value by its number ("255"), a colour
    as "#ff0000". A mask of one other value needs no class: it is nerve. A JPEG mask has a threshold in the middle.

    Raises SourceError for a mask that cannot be read, and ParameterError for an unknown class.
    """
    try:
        image = Image.open(io.BytesIO(data))
        pixels = np.asarray(image.convert("RGBA"))
    except Exception as error:  # for a damaged file Pillow raises many classes
        raise SourceError(file, "is not a readable mask", "Copy it again, or remove the pair.") from error
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    if alpha.any():  # many programs leave this channel unused, at 0
        colours = colours * (alpha > 0)
    colours = turn_upright(colours, read_orientation(data)).pixels
    if image.format == "JPEG":
        return (colours.max(axis=2) >= JPEG_THRESHOLD).astype(np.uint8) * NERVE
    values, inverse = np.unique(colours.reshape(-1, 3), axis=0, return_inverse=True)
    names = [_class_name(value) for value in values]
    foreground = [name for name in names if name != "0"]
    if len(foreground) == 1 and foreground[0] not in classes.labels:
        labels = [BACKGROUND if name == "0" else NERVE for name in names]
    else:
        labels = [BACKGROUND if name == "0" else classes.label(name, file) for name in names]
    return np.array(labels, np.uint8)[inverse.reshape(colours.shape[:2])]


def _class_name(colour: np.ndarray) -> str:
    red, green, blue = colour.tolist()
    return str(red) if red == green == blue else f"#{red:02x}{green:02x}{blue:02x}"
