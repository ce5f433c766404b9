"""From a medium to a B-mode frame: scatterers, the beam's point spread, attenuation, log compression.

The model works on the demodulated (complex) echo signal. Many scatterers a resolution cell, each with a
random phase, sum to a circular complex Gaussian field, whose envelope is Rayleigh distributed: fully
developed speckle (Burckhardt 1978, "Speckle in ultrasound B-mode scans"; Wagner, Smith, Sandrik & Lopez 1983,
"Statistics of speckle in ultrasound B-scans"). Blurring such scatterers with the point-spread function gives
the image its texture (Bamber & Dickinson 1980, "Ultrasonic B-scanning: a computer simulation"; Meunier &
Bertrand 1995, "Ultrasonic texture motion analysis: theory and simulation"). Rows are depth, columns are
lateral.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SOUND_MM_PER_US = 1.54  # the soft-tissue average that scanners assume
TISSUE_LOSS = 0.7  # dB a cm and MHz, one way: what time-gain compensation expects
FWHM_PER_SIGMA = 2.3548


@dataclass
class Medium:
    """What the beam meets: float32 arrays (rows, columns), painted by the anatomy.

    backscatter: mean power of diffuse scattering, dB. specular: amplitude of coherent reflection at
    interfaces, linear, 1 at 0 dB. loss: attenuation one way, dB a cm and MHz. labels: uint8, 0 background, 1
    nerve, 2 vessel.
    """

    backscatter: np.ndarray
    specular: np.ndarray
    loss: np.ndarray
    labels: np.ndarray

    @classmethod
    def uniform(cls, height: int, width: int, backscatter_db: float = 0.0) -> "Medium":
        """Homogeneous soft tissue of `height` rows and `width` columns, with no interface in it."""
        shape = (height, width)
        return cls(
            np.full(shape, backscatter_db, np.float32),
            np.zeros(shape, np.float32),
            np.full(shape, TISSUE_LOSS, np.float32),
            np.zeros(shape, np.uint8),
        )


@dataclass(frozen=True)
class Scanner:
    """The probe and the knobs of one examination."""

    spacing_mm: float  # of a pixel, both ways
    frequency_mhz: float
    f_number: float  # focal depth over aperture
    focus_mm: float
    looks: int  # steering angles compounded
    gain_db: float
    dynamic_range_db: float
    contrast: float  # exponent of the grey map: above 1 darkens the middle
    time_gain: float  # the sliders: 1 compensates average tissue exactly
    noise_db: float  # of the receiver, before the time gain

    @property
    def wavelength_mm(self) -> float:
        return SOUND_MM_PER_US / self.frequency_mhz


def beam_width_mm(depth_mm: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Lateral full width at half maximum, mm, at each depth (same shape).

    A Gaussian beam: wavelength times f-number at the focus, and wider away from it; dynamic focusing on
    receive stretches the depth of field.
    """
    waist = scanner.wavelength_mm * scanner.f_number
    rayleigh_mm = 12 * scanner.wavelength_mm * scanner.f_number**2
    return waist * np.sqrt(1 + ((depth_mm - scanner.focus_mm) / rayleigh_mm) ** 2)


def round_trip_db(loss: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Loss on the way down and up again, dB, float32 (rows, columns); `loss` is one way, dB a cm and MHz.

    Enhancement behind fluid and shadow behind bone need no other rule than this integral. An active aperture
    looks past a small obstacle, hence the lateral average.
    """
    aperture = max(3, round(0.8 / scanner.spacing_mm)) | 1
    seen = cv2.blur(loss, (aperture, 1))
    return np.cumsum(seen, axis=0, dtype=np.float32) * np.float32(0.2 * scanner.spacing_mm * scanner.frequency_mhz)


def point_spread(field: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Blur by the pulse (axially) and the beam (laterally, as wide as it is at each depth).

    field: complex64 (rows, columns); the answer the same. A constant field passes unchanged.
    """
    height, width = field.shape
    lateral = _lateral_px(height, scanner)[:, None]
    frequency = np.fft.fftfreq(width).astype(np.float32)[None, :]
    spectrum = np.fft.fft(field, axis=1)
    spectrum *= np.exp(np.float32(-2 * np.pi**2) * (lateral * frequency) ** 2)
    beam = np.fft.ifft(spectrum, axis=1).view(np.float32).reshape(height, width, 2)
    return cv2.GaussianBlur(beam, (1, 0), 1e-6, None, _axial_px(scanner)).view(np.complex64)[..., 0]


def envelope(medium: Medium, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Detected amplitude after time gain: float32 (rows, columns), at least 0, before log compression.

    Several looks, each with scatterers of its own, are compounded in power, which smooths speckle (Burckhardt
    1978); the receiver's noise rises with the time gain and drowns the depths.
    """
    height, width = medium.loss.shape
    arriving = _amplitude(-round_trip_db(medium.loss, scanner))
    # The point spread keeps a constant's height but averages noise away: this much, in amplitude.
    averaged = np.sqrt(4 * np.pi * _lateral_px(height, scanner) * _axial_px(scanner) / 2)[:, None]
    diffuse, mirror = (averaged * _amplitude(medium.backscatter) * arriving, medium.specular * arriving)
    power = np.zeros((height, width), np.float32)
    for _ in range(scanner.looks):
        scatterers = rng.standard_normal((height, width, 2), dtype=np.float32).view(np.complex64)[..., 0]
        echo = point_spread(scatterers * diffuse + mirror, scanner)
        power += (echo.real**2 + echo.imag**2) / np.float32(scanner.looks)
    receiver = rng.standard_exponential((height, width), dtype=np.float32) * np.float32(10 ** (scanner.noise_db / 10))
    expected = round_trip_db(np.full((height, 1), TISSUE_LOSS, np.float32), scanner) * np.float32(scanner.time_gain)
    return np.sqrt(power + cv2.GaussianBlur(receiver, (0, 0), 0.8)) * _amplitude(expected)


def _amplitude(decibel: np.ndarray) -> np.ndarray:
    return np.exp(decibel * np.float32(np.log(10) / 20))


def _lateral_px(height: int, scanner: Scanner) -> np.ndarray:
    """The beam's standard deviation in pixels in each row: float32 (rows,)."""
    depth_mm = (np.arange(height) + 0.5) * scanner.spacing_mm
    return (beam_width_mm(depth_mm, scanner) / FWHM_PER_SIGMA / scanner.spacing_mm).astype(np.float32)


def _axial_px(scanner: Scanner) -> float:
    """The pulse's standard deviation in pixels: a pulse and its echo of 1.2 wavelengths' depth."""
    return 1.2 * scanner.wavelength_mm / FWHM_PER_SIGMA / scanner.spacing_mm


def log_compress(amplitude: np.ndarray, scanner: Scanner) -> np.ndarray:
    """The display: uint8 (rows, columns) of an envelope, 255 at 0 dB, 0 at `dynamic_range_db` below.

    Logarithmic compression as scanners do it (for what it does to speckle's statistics: Dutt & Greenleaf
    1996, "Adaptive speckle reduction filter for log-compressed B-scan images").
    """
    decibel = 20 * np.log10(np.maximum(amplitude, np.float32(1e-6))) + np.float32(scanner.gain_db)
    shade = np.clip(1 + decibel / np.float32(scanner.dynamic_range_db), 0, 1)
    return np.rint(255 * shade ** np.float32(scanner.contrast)).astype(np.uint8)
