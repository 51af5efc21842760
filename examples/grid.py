"""One animated picture with a video for each line of a prompt file:

    python examples/grid.py docs/media/demo.txt docs/media/demo.webp

The picture in the README was made by this command with the bundled checkpoint.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from hunyuan_video import HunyuanVideoPipeline

COLUMNS, SCALE, LABEL = 3, 3, 26  # pictures a row, pixels per pixel, height of the caption


def panel(frame, prompt):  # uint8 [H, W, 3] -> picture with its prompt underneath
    size = frame.shape[1] * SCALE, frame.shape[0] * SCALE
    picture = Image.new("RGB", (size[0] + 8, size[1] + LABEL + 8), "white")
    picture.paste(Image.fromarray(frame).resize(size, Image.BICUBIC), (4, 4))
    words, lines = prompt.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > size[0] // 6:
            lines.append("")
        lines[-1] += word + " "
    ImageDraw.Draw(picture).multiline_text((4, size[1] + 5), "\n".join(lines[:2]), fill="black", spacing=1)
    return picture


def main(prompt_file, output, seed=3):
    prompts = [line for line in Path(prompt_file).read_text().splitlines() if line.strip()]
    clips = HunyuanVideoPipeline.from_pretrained("tiny")(prompts, seed=seed).frames  # uint8 [N, F, H, W, 3]
    pictures = []
    for moment in range(clips.shape[1]):
        panels = [panel(clips[i, moment], prompt) for i, prompt in enumerate(prompts)]
        width, height = panels[0].size
        sheet = Image.new("RGB", (width * COLUMNS, height * -(-len(panels) // COLUMNS)), "white")
        for i, picture in enumerate(panels):
            sheet.paste(picture, (i % COLUMNS * width, i // COLUMNS * height))
        pictures.append(sheet)
    pictures[0].save(output, save_all=True, append_images=pictures[1:], duration=125, loop=0, quality=85)
    print(output, np.prod(pictures[0].size), "pixels a frame")


if __name__ == "__main__":
    main(*sys.argv[1:3])
