"""Phrases for each attribute. `captions` puts the phrases together, `parsing` finds them again."""

from hunyuan_video.data.toyworld.vocabulary import DIRECTIONS

MOTION_PHRASES: dict[str, tuple[str, ...]] = {
    "static": ("does not move", "stays still", "is still"),
    "grow": ("grows", "is growing", "gets bigger"),
    "shrink": ("shrinks", "is shrinking", "gets smaller"),
    "rotate": ("rotates", "is rotating", "spins"),
    "bounce": ("bounces", "is bouncing", "bounces up and down"),
}
for _side in DIRECTIONS:
    _way = _side.replace("-", " and ")
    MOTION_PHRASES[_side] = (f"moves {_way}", f"is moving {_way}", f"slides {_way}", f"goes {_way}")
for _side in ("left", "right"):
    MOTION_PHRASES[_side] += (f"moves to the {_side}",)

# Said of the camera ("the camera ...") and as a label ("static shot").
CAMERA_CLAUSES: dict[str, tuple[str, ...]] = {
    "static shot": ("is static", "does not move"),
    "handheld shot": ("is handheld", "shakes"),
}
CAMERA_LABELS: dict[str, tuple[str, ...]] = {
    "static shot": ("static shot", "static camera"),
    "handheld shot": ("handheld shot", "handheld camera"),
}
for _side in ("left", "right", "up", "down"):
    for _kind in ("pan", "tilt"):
        CAMERA_CLAUSES[f"{_kind} {_side}"] = (f"{_kind}s {_side}",)
for _side in ("in", "out"):
    CAMERA_CLAUSES[f"zoom {_side}"] = (f"zooms {_side}",)
for _side in ("left", "right"):
    CAMERA_CLAUSES[f"around {_side}"] = (f"moves around {_side}", f"circles {_side}")
for _camera in CAMERA_CLAUSES:
    CAMERA_LABELS.setdefault(_camera, (_camera, f"camera {_camera}"))

# The other fields of the paper's structured captions, as far as a world of flat shapes has them.
SHOT_TYPES = {"small": "long shot", "medium": "medium shot", "large": "close shot"}
STYLE = "flat animation"
LIGHTING = {
    "plain": "even light",
    "gradient": "light from one side",
    "striped": "even light",
    "checkered": "even light",
    "dotted": "even light",
    "wavy": "soft light",
    "cloudy": "soft light",
}
ATMOSPHERES = {"static": "calm", "rotate": "playful", "bounce": "playful", "grow": "tense", "shrink": "tense"}
OTHER_ATMOSPHERE = "lively"

# {object}: "large red circle"; {does}: "moves right"; {background}: "striped navy background"; {camera}: a clause
# ("the camera zooms in"); {label}: "zoom in".
FORMS = {
    "sentence": "a {object} {does} on a {background}, {camera}",
    "label_last": "a {object} {does} on a {background}, {label}",
    "label_first": "{label}. a {object} {does} on a {background}.",
    "camera_first": "{camera}. a {object} {does} over a {background}.",
    "background_first": "on a {background}, a {object} {does}; {camera}",
    "two_sentences": "a {object} {does} on a {background}. {camera}.",
    "there_is": "there is a {object} on a {background}. the {shape} {does}. {camera}.",
    "tags": "{object}, {does}, {background}, {label}",
    "video_of": "a video of a {object} that {does} on a {background}, {label}",
    "while": "{camera} while a {object} {does} on a {background}",
}
BRIEF_FORM = "a {object} {does}"
FIELD_NAMES = (
    "short description",
    "dense description",
    "background",
    "style",
    "shot type",
    "lighting",
    "atmosphere",
    "camera movement",
)

# What captions say -> what people also say; training captions are varied with these words, so that
# they mean something.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("ball", "disc", "disk", "dot"),
    "square": ("box", "block"),
    "plus": ("cross",),
    "ring": ("donut", "hoop"),
    "red": ("crimson", "scarlet"),
    "green": ("lime",),
    "purple": ("violet",),
    "cyan": ("turquoise", "aqua"),
    "yellow": ("golden",),
    "gray": ("grey",),
    "large": ("big", "huge"),
    "small": ("little", "tiny"),
    "moves": ("travels", "drifts", "glides", "flies", "floats"),
    "moving": ("traveling", "drifting", "gliding", "flying", "floating"),
    "grows": ("expands", "enlarges"),
    "shrinks": ("contracts",),
    "rotates": ("turns", "twirls"),
    "rotating": ("turning", "spinning"),
    "bounces": ("jumps", "hops"),
    "bouncing": ("jumping",),
    "still": ("motionless",),
    "left": ("leftwards", "leftward"),
    "right": ("rightwards", "rightward"),
    "up": ("upwards", "upward"),
    "down": ("downwards", "downward"),
    "striped": ("stripy", "stripes"),
    "checkered": ("checked", "chequered"),
    "dotted": ("spotted",),
    "background": ("backdrop",),
    "static": ("fixed", "stationary"),
    "handheld": ("shaky",),
    "video": ("clip", "movie", "animation"),
}
