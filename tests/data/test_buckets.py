"""Buckets: shapes, where a clip belongs, batches under a budget, shares of groups, the order of the data."""

from collections import Counter

import pytest

from hunyuan_video.data.buckets import Bucket, BucketSampler, Group, batch_size, make_buckets, nearest, ratio, tokens
from hunyuan_video.errors import UserError
from hunyuan_video.models.grid import Grid

ASPECTS = ("16:9", "4:3", "1:1", "3:4", "9:16")
GRID = Grid()
SMALL = tuple(make_buckets(256, (1,), ASPECTS, GRID))
LARGE = tuple(make_buckets(512, (1,), ASPECTS, GRID))


def size_of(bucket):
    return batch_size(bucket, GRID, 8192, 24)


@pytest.mark.parametrize("anchor", [256, 512, 960])
def test_buckets_of_an_anchor_have_its_area_and_their_aspect(anchor):
    for bucket, aspect in zip(make_buckets(anchor, (1,), ASPECTS, GRID), ASPECTS, strict=True):
        assert bucket.height % 16 == bucket.width % 16 == 0
        assert bucket.height * bucket.width == pytest.approx(anchor**2, rel=0.08)
        assert bucket.width / bucket.height == pytest.approx(ratio(aspect), rel=0.1)


def test_durations_times_aspects():
    buckets = make_buckets(256, (17, 65), ("1:1", "16:9"), GRID)
    assert [str(bucket) for bucket in buckets] == ["17x256x256", "17x192x336", "65x256x256", "65x192x336"]


def test_tokens_are_those_of_the_paper():
    assert tokens(Bucket(1, 256, 256), GRID) == 256
    assert tokens(Bucket(65, 256, 256), GRID) == 4352
    assert tokens(Bucket(129, 544, 960), GRID) == 67320
    assert tokens(Bucket(129, 720, 1280), GRID) == 118800


@pytest.mark.parametrize(
    ("clip", "bucket"),
    [
        ((129, 720, 1280), "65x192x336"),
        ((64, 1080, 1920), "17x192x336"),
        ((300, 500, 480), "65x256x256"),
        ((16, 500, 480), None),
    ],
)
def test_clips_go_to_the_nearest_bucket(clip, bucket):
    result = nearest(make_buckets(256, (17, 65), ("1:1", "16:9"), GRID), *clip)
    assert (result and str(result)) == bucket


def test_of_one_aspect_the_larger_picture_is_taken():
    buckets = [*make_buckets(256, (17,), ("1:1",), GRID), *make_buckets(512, (17,), ("1:1",), GRID)]
    assert str(nearest(buckets, 20, 300, 310)) == "17x512x512"


def test_batches_fit_the_budget():
    for bucket in (*SMALL, *LARGE, Bucket(65, 256, 256)):
        count = size_of(bucket)
        assert 1 <= count <= 24 and (count == 1 or count * tokens(bucket, GRID) <= 8192)
    assert size_of(Bucket(1, 256, 256)) == 24 and size_of(Bucket(1, 512, 512)) == 8
    assert size_of(Bucket(129, 720, 1280)) == 1


def test_every_global_batch_has_both_anchors():
    sampler = BucketSampler([Group(SMALL, 0.5), Group(LARGE, 0.5)], size_of, seed=0)
    seen = set()
    for step in range(50):
        draws = sampler.plan(step, 4)
        assert sum(draw.bucket in SMALL for draw in draws) == 2
        assert all(draw.count == size_of(draw.bucket) for draw in draws)
        seen |= {draw.bucket for draw in draws}
    assert seen == {*SMALL, *LARGE}


@pytest.mark.parametrize("images", [0.05, 0.2, 1 / 3])
def test_the_share_of_images_is_exact_over_time(images):
    video = tuple(make_buckets(256, (17, 65), ASPECTS, GRID))
    sampler = BucketSampler([Group(video, 1 - images), Group(SMALL, images)], size_of, seed=3)
    result = 0
    for step in range(200):
        result += sum(draw.bucket.frames == 1 for draw in sampler.plan(step, 3))
        assert abs(result - images * 3 * (step + 1)) <= 1


def test_samples_of_a_bucket_come_one_after_the_other():
    sampler = BucketSampler([Group(SMALL, 1)], size_of, seed=1)
    reached = Counter()
    for step in range(30):
        for draw in sampler.plan(step, 4):
            assert draw.start == reached[draw.bucket]
            reached[draw.bucket] += draw.count


def test_every_rank_plans_the_same_and_seeds_differ():
    groups = [Group(SMALL, 0.7), Group(LARGE, 0.3)]
    one, other, third = (BucketSampler(groups, size_of, seed) for seed in (5, 5, 6))
    plans = [[sampler.plan(step, 4) for step in range(20)] for sampler in (one, other, third)]
    assert plans[0] == plans[1] != plans[2]


def test_a_saved_position_continues_exactly():
    groups = [Group(SMALL, 0.7), Group(LARGE, 0.3)]
    whole, first, second = (BucketSampler(groups, size_of, 5) for _ in range(3))
    plans = [whole.plan(step, 3) for step in range(20)]
    for step in range(11):
        first.plan(step, 3)
    second.load(first.state())
    assert [second.plan(step, 3) for step in range(11, 20)] == plans[11:]
    with pytest.raises(ValueError, match="step 3 planned after 19"):
        second.plan(3, 3)


def test_weights_of_buckets():
    sampler = BucketSampler([Group(SMALL[:2], 1, (3.0, 1.0))], size_of, 0)
    count = Counter(sampler.plan(step, 1)[0].bucket for step in range(400))
    assert 240 < count[SMALL[0]] < 360


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ratio("wide"), "16:9"),
        (lambda: ratio("0:1"), "no ratio"),
        (lambda: make_buckets(8, (1,), ("1:1",), GRID), "anchor 8"),
        (lambda: make_buckets(64, (6,), ("1:1",), GRID), "4k \\+ 1"),
        (lambda: BucketSampler([], size_of, 0), "share above 0"),
        (lambda: BucketSampler([Group(SMALL, 1, (1.0,))], size_of, 0), "1 weights for 5"),
        (lambda: BucketSampler([Group(SMALL, 1)], size_of, 0).load({"given": [1, 2]}), "changed since"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(UserError, match=words):
        make()
