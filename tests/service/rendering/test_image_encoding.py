"""PNG, JPEG and overlay of a frame and its mask."""

import base64

import cv2
import numpy as np

from service.decoding.frame import Frame
from service.rendering.image_encoding import encode_jpeg, encode_png, to_data_url
from service.rendering.overlay import NERVE_BGR, draw_overlay


def decode(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_png_holds_a_mask_or_a_colour_image_without_loss(grey) -> None:
    mask = (grey > 127).astype(np.uint8) * 255
    colour = np.dstack([grey, grey[::-1], grey[:, ::-1]])
    assert np.array_equal(decode(encode_png(mask)), mask)
    assert np.array_equal(decode(encode_png(colour)), colour)


def test_a_jpeg_shows_the_upper_8_bits_of_a_frame(grey) -> None:
    for pixels in (grey, grey.astype(np.uint16) * 257):
        picture = decode(encode_jpeg(Frame(pixels)))
        assert picture.shape == grey.shape
        assert np.abs(picture.astype(int) - grey).mean() < 2


def test_an_overlay_tints_the_mask_and_keeps_the_rest(grey) -> None:
    mask = np.zeros_like(grey)
    mask[20:60, 30:70] = 255
    overlay = draw_overlay(Frame(grey), mask)
    assert tuple(overlay[20, 30]) == NERVE_BGR  # the outline
    assert (overlay[30, 40] != grey[30, 40]).any()  # the tint
    outside = cv2.dilate(mask, np.ones((5, 5))) == 0
    assert (overlay[outside] == grey[outside][:, np.newaxis]).all()


def test_a_data_url_holds_type_and_data() -> None:
    head, _, data = to_data_url(b"picture", "image/png").partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == b"picture"
