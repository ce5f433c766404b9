"""Ultrasound headers and segmentations for tests."""

import io
from collections.abc import Iterable

import numpy as np
from pydicom import Dataset, Sequence, dcmread

from service.decoding.cine import open_cine
from service.model.card import Card
from service.rendering.dicom_segmentation import build_dicom_segmentation
from tests.dicoms import make_ultrasound

CHARACTER_SETS = [
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO 2022 IR 100", "Buc^Jérôme"),
    ("ISO_IR 6", "Doe^Jane"),
    ("", "Doe^Jane"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
]


def ultrasound_of_patient(name: str, charset: str | list[str]) -> Dataset:
    """Return an ultrasound with the name in an element and in a sequence."""
    procedure = Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = "1", "99TEST"
    procedure.CodeMeaning = name.split("=")[-1].replace("^", " ")
    return make_ultrasound(
        np.zeros((64, 80), np.uint8),
        SpecificCharacterSet=charset,
        PatientName=name,
        ProcedureCodeSequence=Sequence([procedure]),
    )


def read_header(data: bytes) -> Dataset:
    return open_cine(io.BytesIO(data)).header


def build(source: Dataset, masks: Iterable[np.ndarray], card: Card) -> Dataset:
    """Return the segmentation as pydicom reads it."""
    return dcmread(io.BytesIO(build_dicom_segmentation(source, masks, card)))


def asymmetric_mask(rows: int, columns: int, shift: int = 0) -> np.ndarray:
    """Return an L near the upper left corner: every flip, rotation or transposition changes it."""
    mask = np.zeros((rows, columns), np.uint8)
    mask[3:20, 5 + shift : 9 + shift] = 255
    mask[16:20, 5 + shift : 30 + shift] = 255
    return mask
