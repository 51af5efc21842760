#!/usr/bin/env bash
# PyAV 18.1.0: a gray frame of limited range (16 black, 235 white) stays so when it becomes RGB, although the range is
# given: reformat(src_color_range=MPEG, dst_color_range=JPEG) changes nothing for gray, gray10le and gray16le, where the
# same numbers as yuv420p with neutral chroma become 0 and 255 (253). Black is then dark gray, without a word.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" av==18.1.0 numpy==2.2.6
PYTHONPATH="$folder/packages" python3 - <<'PY'
import sys

import av
import numpy as np
from av.video.reformatter import ColorRange

print("PyAV", av.__version__, "FFmpeg", av.ffmpeg_version_info)


def frame(name, value):
    made = av.VideoFrame(64, 64, name)
    deep = 2 ** (made.format.components[0].bits - 8)
    for number, plane in enumerate(made.planes):
        kind = np.uint16 if deep > 1 else np.uint8
        level = value if number == 0 else 128
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, level * deep, kind))
    made.color_range = ColorRange.MPEG
    return made


found = {}
for name in ("gray", "gray10le", "gray16le", "yuv420p", "yuv420p10le"):
    shown = []
    for value in (16, 126, 235):
        rgb = frame(name, value).reformat(
            format="rgb24", src_color_range=ColorRange.MPEG, dst_color_range=ColorRange.JPEG
        )
        shown.append(int(rgb.to_ndarray()[32, 32, 0]))
    found[name] = shown
    print(f"{name}: 16, 126 and 235 of limited range become {shown}")
same = all(found[name][0] == 16 and found[name][2] == 235 for name in ("gray", "gray10le", "gray16le"))
stretched = all(found[name][0] <= 1 and found[name][2] >= 250 for name in ("yuv420p", "yuv420p10le"))
sys.exit(0 if same and stretched else 1)
PY
