"""HDR video (PQ and HLG of BT.2100) as a standard display of 203 cd/m2 shows it, in BT.709's colors.

The tone curve is that of BT.2390 section 5.4 on the largest of the three colors, which keeps their ratios, so the hue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame

PQ, HLG = 16, 18  # FFmpeg's numbers of transfer characteristics
TRANSFERS = {PQ, HLG}
WHITE = 203.0  # cd/m2 of a standard display's white, as BT.2408 has it for paper in HDR
PEAK = 1000.0  # of the mastering display, where the file does not say
TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)  # linear light of BT.2020's primaries to BT.709's (BT.2407)
PRIMARIES_BT2020 = 9
M1, M2 = 2610 / 16384, 2523 / 4096 * 128
C1, C2, C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def side_data(frame: VideoFrame) -> dict[str, bytes]:
    """Side data of a frame, by FFmpeg's names."""
    sides: Any = frame.side_data
    return {side.type.name: bytes(side) for side in sides}


def tone_mapped(signal: np.ndarray, frame: VideoFrame) -> np.ndarray:  # float32 [H, W, 3] in 0..1 -> uint8 [H, W, 3]
    """RGB as coded, with the transfer characteristic of `frame`, as 8-bit BT.709."""
    light = pq_to_light(signal) if frame.color_trc == PQ else hlg_to_light(signal)  # cd/m2
    peak = max(_peak(frame) if frame.color_trc == PQ else PEAK, WHITE)
    largest = light.max(axis=-1, keepdims=True)
    light = light * (rolled_off(largest, peak) / np.maximum(largest, 1e-6)) / WHITE
    if frame.color_primaries in (PRIMARIES_BT2020, 2):  # unspecified: nothing else is usual with these transfers
        light = light @ TO_BT709.T
    shown = light.clip(0, 1) ** (1 / 2.4)  # BT.1886
    return (shown * 255).round().astype(np.uint8)


def pq_to_light(signal: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: 0..1 to cd/m2."""
    power = signal ** np.float32(1 / M2)
    return 10000 * (np.maximum(power - C1, 0) / (C2 - C3 * power)) ** np.float32(1 / M1)


def light_to_pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: cd/m2 to 0..1."""
    power = (np.asarray(light, np.float32) / 10000) ** np.float32(M1)
    return ((C1 + C2 * power) / (1 + C3 * power)) ** np.float32(M2)


def hlg_to_light(signal: np.ndarray) -> np.ndarray:  # [..., 3]
    """ARIB STD-B67 on a display of 1000 cd/m2: 0..1 to cd/m2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return (PEAK * scene * np.maximum(luminance, 1e-6)[..., None] ** 0.2).astype(np.float32)


def rolled_off(light: np.ndarray, peak: float) -> np.ndarray:
    """BT.2390's curve: cd/m2 up to `peak` to cd/m2 up to WHITE; what is dark stays as it is."""
    top, white = float(light_to_pq(np.float32(peak))), float(light_to_pq(np.float32(WHITE)))
    if peak <= WHITE:
        return np.minimum(light, WHITE)
    e1 = np.minimum(light_to_pq(light) / top, 1)
    most = white / top
    knee = 1.5 * most - 0.5
    t = (e1 - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_to_light(np.where(e1 < knee, e1, spline) * np.float32(top))


def _peak(frame: VideoFrame) -> float:
    """The brightest light of the content in cd/m2: its light level, else that of its mastering display, else 1000."""
    sides = side_data(frame)
    if "CONTENT_LIGHT_LEVEL" in sides:
        level = int(np.frombuffer(sides["CONTENT_LIGHT_LEVEL"], np.uint32, 1)[0])
        if level:
            return float(min(level, 10000))
    if "MASTERING_DISPLAY_METADATA" in sides:
        numbers = np.frombuffer(sides["MASTERING_DISPLAY_METADATA"], np.int32)
        luminance = numbers[18:20]  # after three primaries and the white point, x and y each, minimum first
        if luminance[1] and luminance[0] > 0:
            return float(min(luminance[0] / luminance[1], 10000))
    return PEAK
