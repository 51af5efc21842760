"""The words of the toy world and what each of them looks like.

Lengths are in world units: 64 units are the shorter side of the picture, whatever its size in pixels. Colors are RGB
in [0, 1]. Object colors are bright (largest channel >= 0.8), backgrounds dark (largest channel <= 0.46), and no name
is used for both, so that the object can be told from its background by pixels alone and by words alone.
"""

WORLD_UNITS = 64.0

SHAPES = ("circle", "square", "triangle", "star", "plus", "ring")

OBJECT_COLORS = {
    "red": (0.94, 0.10, 0.10),
    "green": (0.12, 0.82, 0.18),
    "blue": (0.15, 0.33, 1.00),
    "yellow": (0.98, 0.92, 0.12),
    "orange": (1.00, 0.54, 0.06),
    "purple": (0.66, 0.18, 0.90),
    "white": (0.97, 0.97, 0.97),
    "cyan": (0.12, 0.90, 0.94),
}

# Each background color is a dark and a light tone; a texture blends from the first to the second.
BACKGROUND_COLORS = {
    "gray": ((0.23, 0.23, 0.24), (0.43, 0.43, 0.44)),
    "navy": ((0.03, 0.05, 0.19), (0.13, 0.19, 0.42)),
    "brown": ((0.19, 0.11, 0.05), (0.39, 0.25, 0.14)),
    "teal": ((0.02, 0.17, 0.18), (0.08, 0.37, 0.38)),
    "maroon": ((0.18, 0.03, 0.07), (0.38, 0.10, 0.17)),
    "olive": ((0.15, 0.16, 0.03), (0.33, 0.35, 0.10)),
    "black": ((0.02, 0.02, 0.03), (0.06, 0.06, 0.07)),
}

SIZES = {"small": 7.0, "medium": 10.0, "large": 13.5}  # radius

# Unit vectors on the screen: x to the right, y down. A diagonal covers a little more ground than an axis.
DIRECTIONS = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "up-left": (-0.75, -0.75),
    "up-right": (0.75, -0.75),
    "down-left": (-0.75, 0.75),
    "down-right": (0.75, 0.75),
}
MOTIONS = ("static", *DIRECTIONS, "grow", "shrink", "rotate", "bounce")

TEXTURES = ("plain", "gradient", "striped", "checkered", "dotted", "wavy", "cloudy")
# On these a camera motion cannot be seen (plain), or only as a faint change (gradient).
UNTEXTURED = ("plain", "gradient")

# The fourteen camera classes of the HunyuanVideo paper, section 3.2.
CAMERAS = (
    "static shot",
    "pan left",
    "pan right",
    "pan up",
    "pan down",
    "tilt left",
    "tilt right",
    "tilt up",
    "tilt down",
    "zoom in",
    "zoom out",
    "around left",
    "around right",
    "handheld shot",
)
