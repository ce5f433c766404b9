"""Simulate a B-mode frame of a medium: scatterers, point-spread function, attenuation, TGC, log compression.

The model works on the demodulated (complex) echo signal. Many scatterers in a resolution cell, each with a random
phase, sum to a circular complex Gaussian field. Its envelope is Rayleigh distributed: fully developed speckle
(Burckhardt 1978, "Speckle in ultrasound B-mode scans"; Wagner, Smith, Sandrik & Lopez 1983, "Statistics of speckle in
ultrasound B-scans"). Blurring the scatterers with the point-spread function gives the image its texture (Bamber &
Dickinson 1980, "Ultrasonic B-scanning: a computer simulation"; Meunier & Bertrand 1995, "Ultrasonic texture motion
analysis: theory and simulation"). In all arrays rows are depth and columns are lateral.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

SPEED_OF_SOUND_MM_PER_US = 1.54  # the average of soft tissue, which scanners assume
TISSUE_ATTENUATION = 0.7  # of average soft tissue, dB/(cm MHz), one way
FWHM_PER_SIGMA = 2.3548  # of a Gaussian
APERTURE_MM = 0.8  # lateral extent over which the active aperture averages attenuation
DEPTH_OF_FIELD = 12  # Rayleigh length of the beam, in wavelengths times f-number squared
PULSE_WAVELENGTHS = 1.2  # axial extent (FWHM) of the echo of a pulse
NOISE_SIGMA_PX = 0.8  # of the blur of the receiver's noise
SPECKLE_WINDOW_PX = 9  # of speckle reduction

ScattererSource = Callable[[int], np.ndarray]


@dataclass
class Medium:
    """The acoustic properties of the tissue in the imaging plane, one value for each pixel.

    backscatter_db: float32, mean power of diffuse scattering, dB.
    specular: float32, amplitude of coherent reflection at interfaces, linear, 1 at 0 dB.
    attenuation: float32, one way, dB/(cm MHz).
    labels: uint8, 0 background, 1 nerve, 2 vessel.
    """

    backscatter_db: np.ndarray
    specular: np.ndarray
    attenuation: np.ndarray
    labels: np.ndarray

    @classmethod
    def uniform(cls, height: int, width: int, backscatter_db: float = 0.0) -> "Medium":
        """Return homogeneous soft tissue of `height` rows and `width` columns, without interfaces."""
        shape = (height, width)
        return cls(
            np.full(shape, backscatter_db, np.float32),
            np.zeros(shape, np.float32),
            np.full(shape, TISSUE_ATTENUATION, np.float32),
            np.zeros(shape, np.uint8),
        )


@dataclass(frozen=True)
class Scanner:
    """The transducer and the settings of one examination."""

    spacing_mm: float  # from pixel to pixel, axially and laterally
    frequency_mhz: float
    f_number: float  # focal depth divided by aperture
    focus_mm: float  # depth of the focus
    compounding_angles: int  # steering angles of spatial compounding
    gain_db: float
    dynamic_range_db: float
    grey_map_exponent: float  # above 1 it darkens middle greys
    tgc: float  # time-gain compensation; 1 compensates the attenuation of average soft tissue exactly
    noise_db: float  # of the receiver, before time-gain compensation
    speckle_reduction: float = 0.0  # of the displayed frame: grey values up to this difference are averaged; 0: none

    @property
    def wavelength_mm(self) -> float:
        return SPEED_OF_SOUND_MM_PER_US / self.frequency_mhz


def beam_width_mm(depth_mm: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Return the lateral full width at half maximum of the beam, mm, at each depth (same shape).

    A Gaussian beam: its waist is wavelength times f-number at the focus. Dynamic focusing on receive extends the depth
    of field.
    """
    waist = scanner.wavelength_mm * scanner.f_number
    rayleigh_mm = DEPTH_OF_FIELD * scanner.wavelength_mm * scanner.f_number**2
    return waist * np.sqrt(1 + ((depth_mm - scanner.focus_mm) / rayleigh_mm) ** 2)


def round_trip_attenuation_db(attenuation: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Return the attenuation of the echo from each pixel, there and back, dB, float32 (rows, columns).

    It is the integral over depth. Enhancement behind fluid and shadow behind bone follow from it. The lateral average
    models the active aperture, which receives echoes past a small obstacle.

    attenuation: float32 (rows, columns), one way, dB/(cm MHz).
    """
    aperture_px = max(3, round(APERTURE_MM / scanner.spacing_mm)) | 1
    averaged = cv2.blur(attenuation, (aperture_px, 1))
    return np.cumsum(averaged, axis=0, dtype=np.float32) * np.float32(0.2 * scanner.spacing_mm * scanner.frequency_mhz)


def apply_point_spread(field: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Return the field blurred by the pulse (axially) and by the beam (laterally, with its width at each depth).

    field: complex64 (rows, columns); the result has the same type. A constant field does not change.
    """
    height, width = field.shape
    lateral = _lateral_sigma_px(height, scanner)[:, None]
    frequency = np.fft.fftfreq(width).astype(np.float32)[None, :]
    spectrum = np.fft.fft(field, axis=1)
    spectrum *= np.exp(np.float32(-2 * np.pi**2) * (lateral * frequency) ** 2)
    beam = np.fft.ifft(spectrum, axis=1).view(np.float32).reshape(height, width, 2)
    return cv2.GaussianBlur(beam, (1, 0), 1e-6, None, _axial_sigma_px(scanner)).view(np.complex64)[..., 0]


def detect_envelope(
    medium: Medium, scanner: Scanner, rng: np.random.Generator, scatterers: ScattererSource | None = None
) -> np.ndarray:
    """Return the amplitude of the echo after time-gain compensation: float32 (rows, columns), 0 or more.

    Spatial compounding averages the power of several angles, each with its own scatterers, which smooths speckle
    (Burckhardt 1978). Time-gain compensation amplifies the receiver's noise with depth.

    scatterers: returns those of an angle, complex64 (rows, columns), standard normal; None: random ones.
    """
    height, width = medium.attenuation.shape
    arriving = _amplitude(-round_trip_attenuation_db(medium.attenuation, scanner))
    # The point-spread function keeps a constant but averages noise; this factor restores the amplitude of the noise.
    averaging = np.sqrt(4 * np.pi * _lateral_sigma_px(height, scanner) * _axial_sigma_px(scanner) / 2)[:, None]
    diffuse, specular = (averaging * _amplitude(medium.backscatter_db) * arriving, medium.specular * arriving)
    power = np.zeros((height, width), np.float32)
    for angle in range(scanner.compounding_angles):
        if scatterers is None:
            field = rng.standard_normal((height, width, 2), dtype=np.float32).view(np.complex64)[..., 0]
        else:
            field = scatterers(angle)
        echo = apply_point_spread(field * diffuse + specular, scanner)
        power += (echo.real**2 + echo.imag**2) / np.float32(scanner.compounding_angles)
    noise = rng.standard_exponential((height, width), dtype=np.float32) * np.float32(10 ** (scanner.noise_db / 10))
    average_tissue = np.full((height, 1), TISSUE_ATTENUATION, np.float32)
    tgc_db = round_trip_attenuation_db(average_tissue, scanner) * np.float32(scanner.tgc)
    return np.sqrt(power + cv2.GaussianBlur(noise, (0, 0), NOISE_SIGMA_PX)) * _amplitude(tgc_db)


def log_compress(amplitude: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Return the displayed frame: uint8 (rows, columns), 255 at 0 dB, 0 at `dynamic_range_db` below.

    Scanners compress the envelope logarithmically (its effect on the statistics of speckle: Dutt & Greenleaf 1996,
    "Adaptive speckle reduction filter for log-compressed B-scan images").
    """
    decibel = 20 * np.log10(np.maximum(amplitude, np.float32(1e-6))) + np.float32(scanner.gain_db)
    brightness = np.clip(1 + decibel / np.float32(scanner.dynamic_range_db), 0, 1)
    frame = np.rint(255 * brightness ** np.float32(scanner.grey_map_exponent)).astype(np.uint8)
    if scanner.speckle_reduction:  # a bilateral filter keeps edges (Tomasi and Manduchi 1998)
        frame = cv2.bilateralFilter(frame, SPECKLE_WINDOW_PX, scanner.speckle_reduction, SPECKLE_WINDOW_PX / 2)
    return frame


def _amplitude(decibel: np.ndarray) -> np.ndarray:
    return np.exp(decibel * np.float32(np.log(10) / 20))


def _lateral_sigma_px(height: int, scanner: Scanner) -> np.ndarray:
    """Return the standard deviation of the beam, in pixels, for each row: float32 (rows,)."""
    depth_mm = (np.arange(height) + 0.5) * scanner.spacing_mm
    return (beam_width_mm(depth_mm, scanner) / FWHM_PER_SIGMA / scanner.spacing_mm).astype(np.float32)


def _axial_sigma_px(scanner: Scanner) -> float:
    """Return the standard deviation of the pulse, in pixels."""
    return PULSE_WAVELENGTHS * scanner.wavelength_mm / FWHM_PER_SIGMA / scanner.spacing_mm
