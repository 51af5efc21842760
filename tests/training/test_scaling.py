"""Scaling laws: the paper's constants from synthetic curves, the parametric fit, files and bad input."""

import json
import math

import numpy as np
import pytest
from helpers.scaling_family import FAMILIES, synthetic_family

from hunyuan_video.cli import main
from hunyuan_video.errors import UserError
from hunyuan_video.training.scaling import (
    PAPER,
    Curve,
    LossSurface,
    PowerLaw,
    fit_envelope,
    fit_surface,
    read_curves,
    write_curves,
)
from hunyuan_video.training.scaling.laws import training_compute
from hunyuan_video.training.scaling.parametric import bootstrap_surface
from hunyuan_video.training.scaling.report import Fit, to_json


@pytest.mark.parametrize("name", ["image", "video"])
def test_envelope_recovers_the_paper(name):
    law = PAPER[name]
    fit = fit_envelope(synthetic_family(law, FAMILIES[name]), bootstrap=0)
    assert fit.law.parameters.a == pytest.approx(law.parameters.a, rel=0.02)
    assert fit.law.parameters.b == pytest.approx(law.parameters.b, abs=1e-3)
    assert fit.law.tokens.a == pytest.approx(law.tokens.a, rel=0.02)
    assert fit.law.tokens.b == pytest.approx(law.tokens.b, abs=1e-3)
    sizes = len(FAMILIES[name])
    assert len(fit.points) == (sizes - 1) + (sizes - 2)


@pytest.mark.parametrize(("name", "compute", "tokens"), [("image", 5.83e7, 740.0), ("video", 6.96e7, 924.0)])
def test_the_papers_operating_points(name, compute, tokens):
    law = fit_envelope(synthetic_family(PAPER[name], FAMILIES[name]), bootstrap=0).law
    at = law.parameters.inverse(13.0)
    assert at == pytest.approx(compute, rel=0.02)
    assert law.tokens(at) == pytest.approx(tokens, rel=0.02)
    assert at / (13.0 * law.tokens(at)) / 1e3 == pytest.approx(6.0, abs=0.3)  # the 6 N D rule


@pytest.mark.parametrize("name", ["image", "video"])
def test_bootstrap_intervals_hold_the_truth(name):
    law = PAPER[name]
    fit = fit_envelope(synthetic_family(law, FAMILIES[name], noise=0.004), bootstrap=60, level=0.98)
    for key, value in {"b1": law.parameters.b, "b2": law.tokens.b}.items():
        low, high = fit.intervals[key]
        assert low < high
        assert low - 0.03 <= value <= high + 0.03
    assert fit.law.parameters.b == pytest.approx(law.parameters.b, abs=0.06)


def test_a_size_that_is_never_best_is_left_out():
    curves = synthetic_family(PAPER["video"], FAMILIES["video"])
    bad = curves[2]
    curves[2] = Curve("worse", bad.parameters, bad.tokens, bad.compute, bad.loss * 1.5)
    fit = fit_envelope(curves, bootstrap=0)
    assert len(fit.points) == 3 + 2
    assert fit.law.parameters.b == pytest.approx(PAPER["video"].parameters.b, abs=0.03)  # spacing is uneven now


def test_curves_that_do_not_cross_are_refused():
    curves = synthetic_family(PAPER["video"], [1.0, 1.2])
    with pytest.raises(UserError, match="lower envelope"):
        fit_envelope(curves[:1])
    apart = Curve("far", 2.0, curves[0].tokens * 1e6, curves[0].compute * 1e6, curves[0].loss)
    with pytest.raises(UserError, match="lower envelope"):
        fit_envelope([curves[0], apart])


def test_cooldown_points_do_not_enter_the_envelope():
    plain = synthetic_family(PAPER["image"], FAMILIES["image"])
    cooled = []
    for c in plain:
        tail = np.arange(len(c.loss)) >= 110
        loss = np.where(tail, c.loss * 0.8, c.loss)
        cooled.append(Curve(c.run, c.parameters, c.tokens, c.compute, loss, tail))
    assert fit_envelope(cooled, bootstrap=0).law == fit_envelope([c.stable() for c in cooled], bootstrap=0).law
    assert cooled[0].final()[2] == pytest.approx(plain[0].loss[-1] * 0.8)


def test_surface_recovers_itself_and_its_optimum_is_the_minimum():
    truth = LossSurface(floor=0.15, a=0.05, alpha=0.34, b=0.12, beta=0.28)
    sizes, budgets = np.geomspace(1e-3, 0.1, 5), np.geomspace(0.1, 100, 3)
    n = np.repeat(sizes, 3)
    d = np.tile(budgets, 5) / training_compute(1.0, 1.0) / n
    fit = fit_surface(n, d, truth(n, d))
    assert (fit.alpha, fit.beta) == (pytest.approx(0.34, abs=0.01), pytest.approx(0.28, abs=0.01))
    assert fit.floor == pytest.approx(0.15, abs=0.01)
    law = truth.law()
    for compute in (1.0, 50.0):
        best, tokens = law.optimum(compute)
        assert training_compute(best, tokens) == pytest.approx(compute)
        losses = [truth(best * f, tokens / f) for f in (0.9, 1.0, 1.1)]
        assert losses[1] == min(losses)


def test_surface_resists_an_outlier_and_reports_intervals():
    truth = LossSurface(floor=0.2, a=0.04, alpha=0.4, b=0.1, beta=0.3)
    n = np.repeat(np.geomspace(1e-3, 0.1, 6), 4)
    d = np.tile(np.geomspace(1e-3, 1.0, 4), 6)
    loss = truth(n, d)
    loss[7] *= 1.3
    fit = fit_surface(n, d, loss)
    assert fit.law().parameters.b == pytest.approx(truth.law().parameters.b, abs=0.05)
    intervals = bootstrap_surface(n, d, truth(n, d), draws=3, level=0.9, seed=0)
    assert intervals["b1"][0] <= truth.law().parameters.b + 0.03
    assert intervals["b1"][1] >= truth.law().parameters.b - 0.03


def test_surface_refuses_too_little():
    with pytest.raises(UserError, match="6 runs"):
        fit_surface([1, 2], [1, 2], [1, 0.9])
    with pytest.raises(UserError, match="6 runs"):
        fit_surface([1.0] * 8, np.arange(1, 9), np.linspace(1, 0.5, 8))


def test_power_law_needs_two_points():
    with pytest.raises(ValueError, match="two different"):
        PowerLaw.fit(np.array([1.0, 1.0]), np.array([1.0, 2.0]))
    law = PowerLaw.fit(np.array([1.0, 10.0, 100.0]), np.array([2.0, 20.0, 200.0]))
    assert law.inverse(law(7.0)) == pytest.approx(7.0)


def test_curve_refuses_nonsense():
    good = np.array([1.0, 2.0])
    for bad in (np.array([1.0, np.nan]), np.array([1.0, -1.0]), np.array([1.0])):
        with pytest.raises(ValueError, match="run x"):
            Curve("x", 1.0, good, good, bad)
    with pytest.raises(ValueError, match="increase"):
        Curve("x", 1.0, good, good[::-1].copy(), good)


def test_parquet_round_trip_and_damage(tmp_path):
    pytest.importorskip("pyarrow", reason="loss curves are Parquet; install the extra 'scaling'")
    curves = synthetic_family(PAPER["video"], FAMILIES["video"])
    path = tmp_path / "curves.parquet"
    write_curves(path, curves)
    again = read_curves(path)
    assert [c.run for c in again] == [c.run for c in curves]
    np.testing.assert_array_equal(again[3].loss, curves[3].loss)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot read"):
        read_curves(path)
    with pytest.raises(UserError, match="cannot read"):
        read_curves(tmp_path / "absent.parquet")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("loss", None, "positive"), ("loss", math.nan, "positive"), ("compute", -1.0, "positive"),
     ("parameters", 7.0, "a run has one size"), ("parameters", math.nan, "a run has one size"),
     ("loss", "x", "numbers in every row")],
)  # fmt: skip
def test_wrong_rows_of_a_table_are_named(tmp_path, column, value, message):
    pa = pytest.importorskip("pyarrow", reason="loss curves are Parquet; install the extra 'scaling'")
    import pyarrow.parquet as parquet

    path = tmp_path / "curves.parquet"
    write_curves(path, synthetic_family(PAPER["video"], FAMILIES["video"])[:1])
    rows = parquet.read_table(path).to_pydict()
    rows[column] = [value] * len(rows[column]) if isinstance(value, str) else [value, *rows[column][1:]]
    parquet.write_table(pa.table(rows), path)
    with pytest.raises(UserError, match=message):
        read_curves(path)


def test_runs_that_only_cool_down_are_left_out_of_the_envelope():
    plain = synthetic_family(PAPER["image"], FAMILIES["image"])
    cooled = [Curve(c.run, c.parameters, c.tokens, c.compute, c.loss, np.ones(len(c.loss), bool)) for c in plain]
    with pytest.raises(UserError, match="0 sizes give 0 points"):
        fit_envelope(cooled, bootstrap=0)


def test_a_plan_outside_the_measured_budgets_says_so(tmp_path, capsys):
    curves = synthetic_family(PAPER["image"], FAMILIES["image"])
    fit = Fit(fit_envelope(curves, bootstrap=0), None, {})
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(to_json(fit, 0.9, curves)))
    ends = sorted(curve.compute[-1] for curve in curves)
    for budget, outside in ((ends[0] * 1.01, False), (ends[-1] * 2, True), (ends[0] / 2, True)):
        assert main(["scaling", "plan", str(path), "--budget", repr(float(budget))]) == 0
        assert ("extrapolated: measured from" in capsys.readouterr().out) == outside
    for law in ({"a1": "x", "b1": 1, "a2": 1, "b2": 1}, {"a1": 1, "b1": 0, "a2": 1, "b2": 1},
                {"a1": -1, "b1": 1, "a2": 1, "b2": 1}):  # fmt: skip
        path.write_text(json.dumps({"envelope": law}))
        assert main(["scaling", "plan", str(path), "--parameters", "1"]) == 1
        assert "not a fit" in capsys.readouterr().err
