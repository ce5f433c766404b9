"""From a medium to a B-mode frame: random scatterers, the beam's point-spread function, attenuation, log compression.

The model works on the demodulated (complex) echo signal. Many scatterers a resolution cell, each with a random
phase, sum to a circular complex Gaussian field, whose envelope is Rayleigh distributed: fully developed speckle
(Burckhardt 1978, "Speckle in ultrasound B-mode scans"; Wagner, Smith, Sandrik & Lopez 1983, "Statistics of speckle
in ultrasound B-scans"). Blurring such scatterers with the point-spread function gives the image its texture
(Bamber & Dickinson 1980, "Ultrasonic B-scanning: a computer simulation"; Meunier & Bertrand 1995, "Ultrasonic
texture motion analysis: theory and simulation"). Rows are depth, columns are lateral.
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

    backscatter: mean power of diffuse scattering, dB. specular: amplitude of coherent reflection at interfaces,
    linear, 1 at 0 dB. loss: attenuation one way, dB a cm and MHz. labels: uint8, 0 background, 1 nerve, 2 vessel.
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

    A Gaussian beam: wavelength times f-number at the focus, and wider away from it; dynamic focusing on receive
    stretches the depth of field.
    """
    waist = scanner.wavelength_mm * scanner.f_number
    rayleigh_mm = 12 * scanner.wavelength_mm * scanner.f_number**2
    return waist * np.sqrt(1 + ((depth_mm - scanner.focus_mm) / rayleigh_mm) ** 2)


def round_trip_db(loss: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Loss on the way down and up again, dB, float32 (rows, columns), from the one-way `loss` in dB a cm and MHz.

    Enhancement behind fluid and shadow behind bone need no other rule than this integral. An active aperture looks
    past a small obstacle, hence the lateral average.
    """
    aperture = max(3, round(0.8 / scanner.spacing_mm)) | 1
    seen = cv2.blur(loss, (aperture, 1))
    return np.cumsum(seen, axis=0, dtype=np.float32) * np.float32(0.2 * scanner.spacing_mm * scanner.frequency_mhz)


def echo(medium: Medium, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """One look's echo signal before any gain: complex64 (rows, columns), a new draw of the scatterers."""
    height, width = medium.loss.shape
    depth_mm = (np.arange(height, dtype=np.float32) + 0.5) * np.float32(scanner.spacing_mm)
    lateral = (beam_width_mm(depth_mm, scanner) / FWHM_PER_SIGMA / scanner.spacing_mm)[:, None]
    axial = 0.8 * scanner.wavelength_mm / FWHM_PER_SIGMA * 1.5 / scanner.spacing_mm

    noise = rng.standard_normal((height, width, 2), dtype=np.float32).view(np.complex64)[..., 0]
    # The kernels below pass a constant unchanged; this keeps the speckle's mean power at the backscatter's too.
    energy = np.sqrt(2 * np.pi * lateral * axial).astype(np.float32)
    field = noise * (energy * np.exp(medium.backscatter * np.float32(np.log(10) / 20)))
    field += medium.specular
    field *= np.exp(-round_trip_db(medium.loss, scanner) * np.float32(np.log(10) / 20))

    spectrum = np.fft.fft(field, axis=1)
    spectrum *= np.exp(-2 * (np.pi * lateral * np.fft.fftfreq(width)[None, :]) ** 2).astype(np.float32)
    field = np.fft.ifft(spectrum, axis=1).astype(np.complex64)
    planes = cv2.GaussianBlur(field.view(np.float32).reshape(height, width, 2), (1, 0), 1e-6, None, axial)
    return planes.view(np.complex64)[..., 0]


def envelope(medium: Medium, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Detected amplitude after time gain: float32 (rows, columns), at least 0, before log compression.

    Several looks are compounded in power, which smooths speckle (Burckhardt 1978); the receiver's noise rises with
    the time gain and drowns the depths.
    """
    height, width = medium.loss.shape
    looks = [echo(medium, scanner, rng) for _ in range(scanner.looks)]
    power = np.mean([look.real**2 + look.imag**2 for look in looks], axis=0, dtype=np.float32)
    noise = rng.standard_exponential((height, width), dtype=np.float32) * np.float32(10 ** (scanner.noise_db / 10))
    expected = round_trip_db(np.full((height, 1), TISSUE_LOSS, np.float32), scanner) * np.float32(scanner.time_gain)
    return np.sqrt((power + cv2.GaussianBlur(noise, (0, 0), 0.8)) * np.float32(10) ** (expected / 10))


def log_compress(amplitude: np.ndarray, scanner: Scanner) -> np.ndarray:
    """The display: uint8 (rows, columns) of an envelope; `dynamic_range_db` below 0 dB is black, 0 dB is white.

    Logarithmic compression as scanners do it (for what it does to speckle's statistics: Dutt & Greenleaf 1996,
    "Adaptive speckle reduction filter for log-compressed B-scan images").
    """
    decibel = 20 * np.log10(np.maximum(amplitude, np.float32(1e-6))) + np.float32(scanner.gain_db)
    shade = np.clip(1 + decibel / np.float32(scanner.dynamic_range_db), 0, 1)
    return np.rint(255 * shade ** np.float32(scanner.contrast)).astype(np.uint8)
