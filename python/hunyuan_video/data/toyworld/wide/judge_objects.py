"""Which things stand in front: their colors, the pixels of each, and how many objects there are."""

from dataclasses import dataclass
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from hunyuan_video.data.toyworld.geometry import apply
from hunyuan_video.data.toyworld.wide import vocabulary as words
from hunyuan_video.data.toyworld.wide.judge_ground import Ground

_OBJECT = 0.12  # a pixel this far from the background is none of it
_EVEN = 0.2  # colors differ by less around a pixel that tells a color
_LIKE = 0.17  # and it is this near to the color
_MIN_SHARE = 0.015  # of the pixels that tell a color, and
_MIN_TELLING = 2.5  # square units a frame, on average
_MIN_AREA = 5.0  # square units a frame: less is no thing
_MANY = 0.6  # of the pixels around one, that tell the same color
_SKY = 0.35  # of a tone from those of the stars of a sky: any farther color is none of theirs
_MIXED = 0.04  # how much worse a mixture of two things must explain a pixel than one of them
_SPREAD = 40  # pixels that a color is carried to what tells none
_SPREAD_STARRY = 6  # fewer among stars, which may touch a thing
_PART = 0.4  # of the largest part of a thing: less is no object of its own


@dataclass(frozen=True)
class Found:
    """A thing as pixels. Sizes in units of the world, places as the camera shows them."""

    color: str
    opacity: Tensor  # [F, h, w]
    count: int
    places: Tensor  # [K, count, 3]: pixel x and y from the middle, area, of every object in the frames that count
    frames: Tensor  # [K] which frames these are
    whole: Tensor  # [K] bool: no edge of the picture cuts the thing


def palette(light: str) -> Tensor:
    """Color and second tone of every name under a light: [2, 10, 3]."""
    tint = torch.tensor(words.TINTS[light])
    first = torch.tensor(list(words.COLORS.values()))
    pale = torch.tensor([name in words.PALE for name in words.COLORS])[:, None]
    second = torch.where(pale, 0.45 * first, 0.25 * first + 0.72)
    return torch.stack([first * tint, second * tint])


def find_things(pictures: Tensor, ground: Ground, unit: float) -> list[Found]:
    """One or two things, the larger first; none where nothing stands in front. unit: side of a pixel."""
    front = ground.distance > _OBJECT
    colors, votes = _colors(pictures, front, ground, unit)
    if not colors:
        return []
    owner = _owners(pictures, votes, colors, front, ground)
    objects = []
    for number, color in enumerate(colors):
        mask = owner == number + 1
        thing = _found(list(words.COLORS)[color], mask, _opacity(ground.distance, mask, front), unit)
        if thing is not None:
            objects.append(thing)
    return objects


def _colors(pictures: Tensor, front: Tensor, ground: Ground, unit: float) -> tuple[list[int], Tensor]:
    """The colors of the things, and for every pixel that tells one which it is (-1: none): [F, h, w]."""
    inner = -F.max_pool2d(-front.float()[:, None], 3, 1, 1)[:, 0] > 0
    spread = F.max_pool2d(pictures, 3, 1, 1) + F.max_pool2d(-pictures, 3, 1, 1)
    telling = inner & (spread.amax(1) < _EVEN)
    table = palette(ground.light).flatten(0, 1)
    away = torch.cdist(pictures.permute(0, 2, 3, 1).reshape(-1, 3), table)
    distance, nearest = (value.view(front.shape) for value in away.min(1))
    votes = torch.where(telling & (nearest < len(words.COLORS)) & (distance < _LIKE), nearest, -1)
    if ground.kind == "starry":  # stars of the sky have a pixel or two of a gray or pink
        alike = torch.stack(
            [F.avg_pool2d((votes == c).float()[:, None], 3, 1, 1)[:, 0] for c in range(len(words.COLORS))]
        )
        clear = (_from_segment(palette(ground.light)[0], *_sky_tones(ground.light)) > _SKY)[votes.clamp(min=0)]
        votes = torch.where(clear | (alike.amax(0) > _MANY), votes, -1)
    counts = torch.bincount(votes[votes >= 0], minlength=len(words.COLORS)).float()
    least = max(_MIN_SHARE * counts.sum().item(), _MIN_TELLING * len(pictures) / unit**2)
    order = counts.argsort(descending=True)[:2].tolist()
    return [color for color in order if counts[color] >= least], votes


def _owners(pictures: Tensor, votes: Tensor, colors: list[int], front: Tensor, ground: Ground) -> Tensor:
    """Which thing every pixel in front belongs to; 0: background. [F, h, w]

    Colors spread from the pixels that tell one: first over those that no other thing explains better, then over what is
    left, where of two that arrive the likelier goes on; at the rim, where the background mixes in, that of more
    neighbors.
    """
    owner = torch.zeros(votes.shape)
    for number, color in enumerate(colors):
        owner[votes == color] = number + 1.0
    inside, at_rim = _explained(pictures, palette(ground.light)[:, colors], ground.behind)
    inner = -F.max_pool2d(-front.float()[:, None], 5, 1, 2)[:, 0] > 0
    cost = torch.where(inner, inside, at_rim)
    best = cost <= cost.amin(0) + 1e-6
    for allowed in (best, torch.ones_like(best)):
        for _ in range(_SPREAD if ground.kind != "starry" else _SPREAD_STARRY):
            before = owner
            near = torch.stack(
                [F.avg_pool2d((owner == n + 1).float()[:, None], 3, 1, 1)[:, 0] for n in range(len(colors))]
            )
            likely = torch.where(inner, 1.0, near) / (0.05 + cost) * (near > 0) * allowed
            likeliest, which = likely.max(0)
            owner = torch.where(front & (owner == 0) & (likeliest > 0), which + 1.0, owner)
            if torch.equal(owner, before):
                break
    return owner


def _explained(
    pictures: Tensor,  # [F, 3, h, w]
    tones: Tensor,  # [2, n, 3] the first and second tone of each thing
    behind: Tensor,  # [F, 3, h, w]
) -> tuple[Tensor, Tensor]:
    """Distance of each pixel from the mixtures that a thing explains, inside it and at its rim: [n, F, h, w] each.

    A thing has every mixture of its tones, inside; next to another thing those of which it has the greater part; at
    the rim its tones mix with what is behind.
    """
    points, ground = pictures.movedim(1, -1), behind.movedim(1, -1)
    inside, at_rim = [], []
    for number in range(tones.shape[1]):
        first, second = tones[:, number]
        cost = _from_segment(points, first, second)
        mixed = [
            _from_segment(points, tone, (tone + other) / 2.0) + _MIXED
            for rival in range(tones.shape[1])
            if rival != number
            for tone in (first, second)
            for other in tones[:, rival]
        ]
        inside.append(torch.stack([cost, *mixed]).amin(0))
        rims = [_from_segment(points, tone, ground) for tone in (first, second, (first + second) / 2.0)]
        at_rim.append(torch.stack([inside[-1], *rims]).amin(0))
    return torch.stack(inside), torch.stack(at_rim)


def _from_segment(points: Tensor, start: Tensor, end: Tensor) -> Tensor:  # [..., 3] each
    """Distance of colors from the mixtures of two others. [...]"""
    way = end - start
    share = ((points - start) * way).sum(-1) / way.square().sum(-1).clamp(min=1e-9)
    return (points - start - share.clamp(0.0, 1.0)[..., None] * way).square().sum(-1).sqrt()


def _sky_tones(light: str) -> tuple[Tensor, Tensor]:
    """The sky and the brightest of its stars under a light, without the glow at the bottom."""
    sky, star, gain = (torch.tensor(row) for row in (words.STARRY, words.STAR, words.GAINS[light]))
    return sky * gain, (sky + star) * gain


def _opacity(distance: Tensor, mask: Tensor, front: Tensor) -> Tensor:
    """Share of each pixel near the thing that it covers: its distance from the background over the thing's own."""
    level = distance[mask].median() if mask.any() else torch.ones(())
    near = F.max_pool2d(mask.float()[:, None], 3, 1, 1)[:, 0] > 0
    other = front & ~mask
    inner = -F.max_pool2d(-(mask | other).float()[:, None], 3, 1, 1)[:, 0] > 0
    share = torch.where(inner & mask, torch.ones(()), distance / (0.9 * level))
    return share.clamp(0.0, 1.0) * (near & ~other)


def _found(color: str, mask: Tensor, opacity: Tensor, unit: float) -> Found | None:
    parts = _parts(mask)
    rows = [_objects(labels, cover, unit) for labels, cover in zip(parts, opacity, strict=True)]
    counts = torch.tensor([min(len(row), 3) for row in rows])
    if (counts > 0).float().mean() < 0.6:
        return None
    count = int(torch.bincount(counts[counts > 0]).argmax())
    frames = [frame for frame, row in enumerate(rows) if min(len(row), 3) == count]
    places = torch.stack([rows[frame][:count] for frame in frames])
    edge = torch.stack([mask[:, 0], mask[:, -1]]).any(0).any(1) | torch.stack([mask[:, :, 0], mask[:, :, -1]]).any(
        0
    ).any(1)
    chosen = torch.tensor(frames)
    return Found(color, opacity, count, _linked(places), chosen, ~edge[chosen])


def _parts(mask: Tensor) -> Tensor:
    """Connected parts of every frame, each with a number of its own; 0: none. [F, h, w]"""
    numbers = torch.arange(1, mask[0].numel() + 1, dtype=torch.float32).view(1, *mask.shape[1:]) * mask
    while True:
        grown = F.max_pool2d(numbers[:, None], 3, 1, 1)[:, 0] * mask
        if torch.equal(grown, numbers):
            return numbers
        numbers = grown


def _objects(labels: Tensor, cover: Tensor, unit: float) -> Tensor:
    """Pixel x, y from the middle and area in square units of the parts that are large enough: [n, 3]."""
    height, width = labels.shape
    parts = []
    for label in labels.unique()[1:] if (labels == 0).any() else labels.unique():
        # The soft rim around a part is its own.
        near = F.max_pool2d((labels == label).float()[None, None], 3, 1, 1)[0, 0] * cover
        area = near.sum()
        x = (near.sum(0) * (torch.arange(width) - (width - 1) / 2.0)).sum() / area.clamp(min=1e-6)
        y = (near.sum(1) * (torch.arange(height) - (height - 1) / 2.0)).sum() / area.clamp(min=1e-6)
        parts.append(torch.stack([x * unit, y * unit, area * unit * unit]))
    if not parts:
        return torch.zeros(0, 3)
    table = torch.stack(parts)
    table = table[table[:, 2] >= max(_MIN_AREA, _PART * table[:, 2].max().item())]
    return table[table[:, 2].argsort(descending=True)]


def _linked(places: Tensor) -> Tensor:  # [K, n, 3]
    """The objects of each frame in the order of those that were nearest in the frame before."""
    linked = [places[0]]
    for row in places[1:]:
        orders = list(permutations(range(len(row))))
        ways = [(row[list(order), :2] - linked[-1][:, :2]).square().sum() for order in orders]
        linked.append(row[list(orders[int(torch.stack(ways).argmin())])])
    return torch.stack(linked)


def world_places(item: Found, matrices: Tensor) -> Tensor:  # [F, 3, 3] pixel -> world
    """Found.places with the camera undone: x, y, area in the world. [K, n, 3]"""
    chosen = matrices[item.frames]
    x, y = apply(chosen, item.places[..., 0], item.places[..., 1])
    depth = chosen[:, 2, :1] * item.places[..., 0] + chosen[:, 2, 1:2] * item.places[..., 1] + chosen[:, 2, 2:]
    area = item.places[..., 2] * torch.linalg.det(chosen)[:, None] / depth**3
    return torch.stack([x, y, area], -1)
