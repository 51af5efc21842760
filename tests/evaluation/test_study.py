"""Human studies: fits against peers, errors that know prompts and raters, screening, agreement, the paper's table."""

import json

import numpy as np
import pytest
from PIL import Image

from hunyuan_video.cli import main
from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.evaluation.study import picture, simulate
from hunyuan_video.evaluation.study.analysis import Rule, analysis
from hunyuan_video.evaluation.study.assignment import assigned
from hunyuan_video.evaluation.study.clusters import two_way
from hunyuan_video.evaluation.study.fits import fit, obstacle
from hunyuan_video.evaluation.study.published import TABLE, published
from hunyuan_video.evaluation.study.simulate import World
from hunyuan_video.evaluation.study.votes import QUESTIONS, read_votes, votes_of, write_votes

pytest.importorskip("scipy")
SMALL = World(raters=8, prompts=60, strengths=(0.6, 0.0, -0.6))


def votes_from(*rows):
    """Votes of rows (left, right, answer); each by a rater of its own on a prompt of its own."""
    named = [dict.fromkeys(QUESTIONS, answer) | {"left": a, "right": b} for a, b, answer in rows]
    return votes_of([row | {"rater": f"r{i}", "prompt": f"p{i}"} for i, row in enumerate(named)])


def test_every_pair_gets_its_votes_and_loads_and_sides_are_even():
    rows = assigned(prompts=40, systems=4, raters=12, votes=3, rng=np.random.default_rng(0))
    assert len(rows) == 40 * 6 * 3
    pairs = {}
    for rater, prompt, left, right in rows.tolist():
        pairs.setdefault((prompt, *sorted((left, right))), []).append((rater, left < right))
    assert len(pairs) == 240
    for seen in pairs.values():
        assert len({rater for rater, _ in seen}) == 3 and sum(side for _, side in seen) in (1, 2)
    loads = np.bincount(rows[:, 0])
    assert loads.max() - loads.min() <= 4
    together = {frozenset((a, b)) for seen in pairs.values() for a, _ in seen for b, _ in seen if a != b}
    assert len(together) == 66  # every two raters share a pair of videos


def test_too_few_raters_are_refused():
    rng = np.random.default_rng(0)
    for sizes in ({"raters": 2, "votes": 3}, {"raters": 4, "votes": 2, "most": 10}, {"raters": 4, "votes": 0}):
        with pytest.raises(ArgumentError):
            assigned(10, 3, rng=rng, **sizes)


def test_bradley_terry_equals_choix():
    choix = pytest.importorskip("choix")
    votes = simulate.simulated(SMALL, 3)
    votes = votes.where(votes.answers["text"] != 0)
    both = [*zip(votes.left, votes.right, strict=True)]
    won = [(a, b) if x > 0 else (b, a) for (a, b), x in zip(both, votes.answers["text"], strict=True)]
    expected = choix.ilsr_pairwise(3, won)
    found = fit(votes, "text", ties=False)
    assert found.strengths == pytest.approx(expected, abs=0.02)  # it has no side, which is balanced here


def test_davidson_has_the_closed_answer_for_two_systems():
    """10 wins, 4 losses and 6 ties on either side: d = log(10 / 4), nu = 6 / sqrt(40)."""
    one = [("a", "b", "left")] * 10 + [("a", "b", "right")] * 4 + [("a", "b", "same")] * 6
    other = [("b", "a", {"left": "right", "right": "left", "same": "same"}[answer]) for _, _, answer in one]
    found = fit(votes_from(*one, *other), "overall", ties=True)
    assert found.strengths == pytest.approx([np.log(2.5) / 2, -np.log(2.5) / 2], abs=1e-5)
    assert found.log_nu == pytest.approx(np.log(6 / np.sqrt(40)), abs=1e-5) and abs(found.left) < 1e-5
    row = found.difference(0, 1)
    assert row["error_votes"] == pytest.approx(np.sqrt(1 / 20 + 1 / 8), rel=1e-4)  # of log(20 wins / 8 losses)


def test_systems_that_never_met_or_never_lost_are_found_before_a_fit():
    apart = votes_from(("a", "b", "left"), ("b", "a", "left"), ("c", "d", "left"), ("d", "c", "left"))
    assert "never met" in obstacle(apart, "text")
    best = votes_from(("a", "b", "left"), ("c", "a", "right"), ("b", "c", "left"), ("c", "b", "left"))
    assert obstacle(best, "text") == "a won every vote against b, c: the difference has no upper end"
    worst = votes_from(("a", "b", "left"), ("b", "a", "left"), ("a", "c", "left"), ("b", "c", "left"))
    assert obstacle(worst, "text") == "a, b won every vote against c: the difference has no upper end"
    tied = votes_from(("a", "b", "left"), ("b", "a", "same"))
    assert obstacle(tied, "text") is None


def test_two_way_errors_by_hand():
    influence = np.array([1.0, 2.0, -1.0, 3.0])[:, None]
    found = two_way(influence, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert found.votes.item() == 15 and found.prompts.item() == 2 * (9 + 4) and found.raters.item() == 2 * (0 + 25)
    assert found.both.item() == 26 + 50 - 15 and found.quantile == pytest.approx(12.706, abs=1e-3)


def test_intervals_cover_the_truth_of_small_studies():
    """Naive ones do not. 60 studies; the long form is benchmarks/study_coverage.py."""
    coverage = pytest.importorskip("benchmarks.study_coverage").coverage
    found = coverage(World(raters=12, prompts=80, strengths=(0.4, 0.0, -0.4), taste=0.5), 60)
    for name in ("net", "davidson"):
        assert found[name]["both"] > 0.92 > found[name]["votes"] + 0.1
    assert found["order"]["recovered"] > 0.7


def test_truth_of_the_simulation_is_the_mean_of_its_studies():
    nets = []
    for seed in range(12):
        votes = simulate.simulated(SMALL, seed, ("text",))
        here = np.isin(votes.left, (0, 2)) & np.isin(votes.right, (0, 2))
        nets.append(np.mean(np.where(votes.left[here] == 0, 1, -1) * votes.answers["text"][here]))
    error = np.std(nets) / np.sqrt(len(nets))
    assert abs(np.mean(nets) - simulate.true_net(SMALL, 0, 2)) < 3.5 * error
    exact = simulate.true_strengths(World(luck=0, taste=0, left_spread=0))
    assert exact == pytest.approx(World.strengths, abs=1e-6)


def test_a_simulated_study_from_file_to_report(tmp_path, capsys):
    pytest.importorskip("krippendorff")
    study = str(tmp_path / "study")
    words = ["eval", "study", "simulate", study, "--raters", "9", "--prompts", "40", "--clickers", "1"]
    assert main(words) == 0
    assert main(words) == 1 and "votes are there already" in capsys.readouterr().err
    assert main(["eval", "study", "analyse", study, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["excluded"] == ["rater-00"] and result["kept"]["raters"] == 8 and result["all"]["raters"] == 9
    assert result["all"]["votes"] == 40 * 10 * 3
    overall = result["kept"]["questions"]["overall"]
    assert 0 < overall["agreement"]["alpha"] < 0.5 and overall["davidson"]["order"][-1] == "system-e"
    row = overall["davidson"]["differences"]["system-a - system-e"]
    assert row["low"] < row["value"] < row["high"] and row["error_both"] > row["error_votes"]
    pair = overall["pairs"]["system-a - system-b"]
    assert pair["net"]["value"] == pytest.approx(
        (pair["win"] - pair["loss"]) / (pair["win"] + pair["tie"] + pair["loss"])
    )
    table = result["kept"]["table"]["system-a"]
    assert table["all three"]["value"] < min(table[name]["value"] for name in ("text", "motion", "visual"))
    assert main(["eval", "study", "analyse", study]) == 0
    report = capsys.readouterr().out
    assert "rater-00" in report and "new prompts and new raters" in report
    of_all = result["all"]["questions"]["text"]["pairs"]["system-a - system-b"]["net"]["value"]
    assert f"; all raters {of_all:+.1%} (" in report


def test_the_picture_says_who_was_left_out_and_whom_it_speaks_of(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("krippendorff")
    world = World(raters=8, prompts=30, strengths=(0.6, -0.6), clickers=1)
    write_votes(tmp_path / "votes.csv", simulate.as_rows(simulate.simulated(world, 1), world, 1))
    result = analysis(*read_votes(tmp_path / "votes.csv"), Rule())
    words = picture.caption(result)
    assert "rater-00" in words and "(hollow)" in words and "new prompts and new raters" in words
    picture.plot(tmp_path / "study.png", result)
    with Image.open(tmp_path / "study.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB")).reshape(-1, 3)
    assert len(pixels) > 500_000 and len(np.unique(pixels, axis=0)) > 50


def test_one_valued_votes_have_no_agreement_and_no_strengths(tmp_path, capsys):
    pytest.importorskip("krippendorff")
    rows = [dict.fromkeys(QUESTIONS, "same") | {"left": "a", "right": "b", "check": ""} for _ in range(4)]
    for i, row in enumerate(rows):
        row |= {"rater": f"r{i % 2}", "prompt": f"=p{i // 2}"}
    write_votes(tmp_path / "votes.csv", rows)
    assert "'=p0" in (tmp_path / "votes.csv").read_text()  # no formula
    assert main(["eval", "study", "analyse", str(tmp_path), "--json"]) == 0
    overall = json.loads(capsys.readouterr().out)["kept"]["questions"]["overall"]
    assert overall["agreement"] == {"alpha": None, "reason": "all votes are equal"}
    assert overall["ties"] == 1.0 and overall["bradley_terry"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rater,prompt\n", "no column left, right"),
        ("{head}\nr,p,a,b,left,left,left,best,\n", "overall is 'best'"),
        ("{head}\nr,p,a,b,left,left,left\n", "more or fewer fields"),
        ("{head}\nr,p,a,a,left,left,left,left,\n", "'a' against itself"),
        ("{head}\nr,p,a,b,left,left,left,left,same\n", "check is 'same'"),
        ("{head}\n", "holds no vote"),
    ],
)
def test_votes_that_are_none_are_refused(tmp_path, text, message):
    path = tmp_path / "votes.csv"
    path.write_text(text.replace("{head}", "rater,prompt,left,right,text,motion,visual,overall,check"))
    with pytest.raises(UserError, match=message):
        read_votes(path)


def test_the_papers_table():
    result = published()
    assert [round(value, 1) for value in result["sums"].values()] == [338.2, 337.2, 576.9, 193.3]
    assert result["least_verdicts"] == 832
    counts = [row["counts"]["overall"] for row in result["systems"].values()]
    assert counts == [633, 578, 575, 420, 380, 377]
    products = [round(row["product"], 1) for row in result["systems"].values()]
    assert products == [39.3, 36.9, 36.9, 25.4, 24.0, 22.0]
    for row, (_, _, _, overall) in zip(result["systems"].values(), TABLE.values(), strict=True):
        assert 1.01 < row["overall_to_product"] < 1.125 and row["bounds"][0] <= overall <= row["bounds"][1]
    assert result["z"]["CNTopA"]["overall"] == pytest.approx(2.04, abs=0.01)
    assert result["z"]["CNTopA"]["text"] == pytest.approx(-0.46, abs=0.01)
    assert result["z"]["CNTopB"]["visual"] == pytest.approx(-3.1, abs=0.05)
