"""The words of the wide world and what each of them looks like.

Lengths are in world units (64 = the shorter side), colors RGB in [0, 1]. Fills have two tones: the object's color and
a second one, so that a color can be told whatever the fill. Backgrounds stay below the objects in every channel that
matters, under every light.
"""

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
SOLID = ("circle", "square", "triangle", "star", "heart", "cross")  # nothing behind shows through them

COLORS = {
    "red": (0.93, 0.12, 0.12),
    "orange": (1.00, 0.55, 0.08),
    "yellow": (0.99, 0.90, 0.15),
    "green": (0.15, 0.80, 0.22),
    "cyan": (0.15, 0.88, 0.93),
    "blue": (0.18, 0.36, 1.00),
    "purple": (0.62, 0.22, 0.92),
    "pink": (1.00, 0.52, 0.76),
    "white": (0.97, 0.97, 0.97),
    "gray": (0.60, 0.61, 0.63),
}
PALE = ("white",)  # its second tone is darker, that of all others nearly white

SIZES = {"small": 6.0, "medium": 9.5, "large": 14.0}  # radius
FILLS = ("plain", "striped", "dotted", "outlined")
# The smallest size at which a fill can be seen on a shape; a shape that is not there has the plain fill only.
FILL_SIZES = {
    "striped": dict.fromkeys(("circle", "square", "triangle", "star", "heart", "cross"), "medium"),
    "dotted": {"circle": "medium", "square": "medium", "heart": "medium", "triangle": "large", "star": "large"},
    "outlined": {"circle": "medium", "square": "medium", "heart": "medium", "triangle": "medium", "star": "large"},
}

# Unit vectors on the screen: x to the right, y down.
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
MOTIONS = ("rest", *DIRECTIONS, "bounce", "rotate", "grow", "shrink", "orbit")
SPEEDS = ("slow", "normal", "fast")
WAYS = {"slow": 12.0, "normal": 22.0, "fast": 36.0}  # of an object that goes somewhere
TURNS = {"slow": 50.0, "normal": 110.0, "fast": 200.0}  # degrees of a rotating object
ORBITS = {"slow": 140.0, "normal": 250.0, "fast": 400.0}  # degrees around the middle
HOPS = {"slow": 1, "normal": 2, "fast": 3}  # of a bouncing object
GROWTHS = {"slow": 1.35, "normal": 1.75, "fast": 2.4}  # radius at the end over that at the start
HOP_HEIGHT = 20.0
ORBIT_RADIUS = 14.0

RELATIONS = ("left of", "above", "in front of", "chasing", "orbiting")

BACKGROUNDS = ("plain", "gradient", "checkered", "starry", "landscape")
# On these a camera motion cannot be seen (plain), or only as a faint change (gradient).
UNTEXTURED = ("plain", "gradient")
# A dark and a light tone; a background blends from the first to the second. Starry skies and landscapes have their own.
BACKGROUND_COLORS = {
    "navy": ((0.08, 0.12, 0.32), (0.20, 0.28, 0.56)),
    "teal": ((0.04, 0.26, 0.28), (0.12, 0.48, 0.50)),
    "brown": ((0.28, 0.17, 0.08), (0.50, 0.34, 0.20)),
    "maroon": ((0.26, 0.05, 0.11), (0.48, 0.15, 0.25)),
    "olive": ((0.22, 0.24, 0.06), (0.42, 0.45, 0.16)),
}
SKY = ((0.14, 0.28, 0.56), (0.30, 0.48, 0.70))  # high up, at the horizon
GROUND = ((0.07, 0.24, 0.08), (0.20, 0.44, 0.16))  # far, near
STARRY = (0.07, 0.08, 0.20)
STAR = (0.62, 0.64, 0.70)  # what a star of the sky adds at its middle

LIGHTS = ("day", "dusk", "night")
# Each light multiplies the background, adds a glow at the bottom of the picture, darkens its corners, and multiplies
# what stands in front.
GAINS = {"day": (1.0, 1.0, 1.0), "dusk": (0.82, 0.62, 0.62), "night": (0.46, 0.50, 0.66)}
GLOWS = {"day": (0.0, 0.0, 0.0), "dusk": (0.20, 0.08, 0.0), "night": (0.0, 0.0, 0.0)}
CORNERS = {"day": 0.0, "dusk": 0.10, "night": 0.30}
TINTS = {"day": (1.0, 1.0, 1.0), "dusk": (1.0, 0.87, 0.76), "night": (0.74, 0.78, 0.90)}
LIGHTS_OF = {"starry": ("dusk", "night")}  # backgrounds that are not seen under every light
