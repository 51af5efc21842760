"""L(N, D) = E + A / N^alpha + B / D^beta fitted to final losses (Hoffmann et al. 2022, approach 3).

The second opinion to the envelope: it uses the end of every run, so runs of an IsoFLOP grid are enough, and it does
not have the bias of parabolas through IsoFLOP profiles. For fixed exponents the surface is linear in E, A and B, so
the exponents are found on a grid that is refined around its best cell, and the rest by weighted least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hunyuan_video.errors import UserError
from hunyuan_video.training.scaling.laws import PFLOP_PER_BILLION_SQUARED, PowerLaw, ScalingLaw

Values = Sequence[float] | np.ndarray
EXPONENTS = (0.02, 2.0)  # searched range
CELLS = 40  # per axis and round
ROUNDS = 8  # each shrinks the range around the best cell by a quarter


@dataclass(frozen=True)
class LossSurface:
    """The fitted surface; N and D in billions."""

    floor: float  # E
    a: float
    alpha: float
    b: float
    beta: float

    def __call__(self, parameters, tokens):
        return self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta

    def law(self) -> ScalingLaw:
        """The optimum under C = 6 N D: N_opt = G (C/6)^(beta/(alpha+beta)), D_opt = (C/6)^(alpha/(alpha+beta)) / G."""
        total = self.alpha + self.beta
        g = (self.alpha * self.a / (self.beta * self.b)) ** (1 / total)
        b1, b2 = self.beta / total, self.alpha / total
        scale = PFLOP_PER_BILLION_SQUARED
        return ScalingLaw(PowerLaw(g * scale**-b1, b1), PowerLaw(scale**-b2 / g, b2))


def solve(parameters, tokens, loss, weight, alpha, beta):
    """(coefficients [G, 3] for E, A, B; squared relative error [G]) for exponents [G]; negative ones become zero."""
    columns = np.stack(
        [np.ones((len(alpha), len(loss))), parameters ** -alpha[:, None], tokens ** -beta[:, None]], axis=-1
    )  # [G, n, 3]
    scaled = columns * (weight / loss)[None, :, None]
    target = np.broadcast_to(weight, (len(alpha), len(loss)))
    best = np.full((len(alpha), 3), np.nan)
    error = np.full(len(alpha), np.inf)
    for active in ([0, 1, 2], [1, 2]):  # without a floor where the best floor would be negative
        part = scaled[..., active]
        gram = np.einsum("gni,gnj->gij", part, part) + 1e-13 * np.eye(len(active))
        coefficients = np.linalg.solve(gram, np.einsum("gni,gn->gi", part, target)[..., None])[..., 0]
        misfit = ((np.einsum("gni,gi->gn", part, coefficients) - target) ** 2).sum(1)
        better = (coefficients >= 0).all(1) & (misfit < error)
        best[better] = 0.0
        best[np.ix_(better, active)] = coefficients[better]
        error[better] = misfit[better]
    return best, error


def fit_surface(parameters: Values, tokens: Values, loss: Values) -> LossSurface:
    """Fit to final losses of runs with N, D in billions; robust (Huber weights on the relative residuals).

    Raises UserError for fewer than six runs or runs that differ in N or D only.
    """
    n, d, y = (np.asarray(values, float) for values in (parameters, tokens, loss))
    if len(y) < 6 or len(set(n.tolist())) < 2 or len(set(d.tolist())) < 2:
        raise UserError(f"the surface needs 6 runs of different sizes and lengths, got {len(y)}")
    n0, d0 = np.exp(np.log(n).mean()), np.exp(np.log(d).mean())  # centered: A and B are then of the size of the loss
    weight = np.ones_like(y)
    for _ in range(6):
        low, high = np.full(2, EXPONENTS[0]), np.full(2, EXPONENTS[1])
        for _ in range(ROUNDS):
            axes = [np.linspace(low[i], high[i], CELLS) for i in range(2)]
            alpha, beta = (mesh.ravel() for mesh in np.meshgrid(*axes, indexing="ij"))
            coefficients, error = solve(n / n0, d / d0, y, weight, alpha, beta)
            if not np.isfinite(error).any():
                raise UserError("no surface with positive terms fits: the loss does not fall with size and tokens")
            at = int(error.argmin())
            span = (high - low) / 8
            center = np.array([alpha[at], beta[at]])
            low, high = np.maximum(center - span, EXPONENTS[0]), np.minimum(center + span, EXPONENTS[1])
        floor, a, b = coefficients[at]
        surface = LossSurface(
            float(floor), float(a * n0 ** alpha[at]), float(alpha[at]), float(b * d0 ** beta[at]), float(beta[at])
        )
        residual = np.abs(surface(n, d) / y - 1)
        limit = max(1.5 * float(np.median(residual)), 1e-6)
        weight = np.sqrt(np.minimum(1.0, limit / np.maximum(residual, 1e-12)))
    return surface


def bootstrap_surface(
    parameters: Values, tokens: Values, loss: Values, *, draws: int, level: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Intervals of b1 and b2 (the exponents of N_opt and D_opt) from runs drawn with replacement."""
    n, d, y = (np.asarray(values, float) for values in (parameters, tokens, loss))
    rng = np.random.default_rng(seed)
    exponents = []
    for _ in range(draws):
        pick = rng.integers(len(y), size=len(y))
        try:
            law = fit_surface(n[pick], d[pick], y[pick]).law()
        except UserError:  # this draw holds too few different runs
            continue
        exponents.append((law.parameters.b, law.tokens.b))
    if not exponents:
        return {}
    edges = np.quantile(np.array(exponents), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return dict(zip(("b1", "b2"), map(tuple, edges.T.tolist()), strict=True))
