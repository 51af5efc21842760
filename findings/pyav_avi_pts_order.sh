#!/usr/bin/env bash
# PyAV 18.1.0: frames decoded from H.264 in AVI come in the order of the screen, but their pts do not ascend.
# They are the numbers of the packets, which AVI stores in decoding order, so frame.time is wrong where the encoder
# used B-frames. Expected: ascending pts (FFmpeg's best-effort timestamps), as for the same frames in Matroska.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" av==18.1.0 numpy==2.2.6
PYTHONPATH="$folder/packages" python3 - "$folder" <<'PY'
import sys

import av
import numpy as np

print("PyAV", av.__version__, "FFmpeg", av.ffmpeg_version_info)
found = {}
for name in ("avi", "mkv"):
    path = f"{sys.argv[1]}/x.{name}"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(12):
            picture = np.full((64, 64, 3), 20 + 16 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    with av.open(path) as container:
        frames = [(frame.pts, int(frame.to_ndarray(format="gray").mean())) for frame in container.decode(video=0)]
    pts, brightness = zip(*frames)
    print(f"{name}: pts {list(pts)}\n     brightness {list(brightness)}")
    found[name] = list(pts) == sorted(pts)
    assert list(brightness) == sorted(brightness), "the pictures themselves are in order"
print("pts ascend:", found)
sys.exit(0 if found == {"avi": False, "mkv": True} else 1)
PY
