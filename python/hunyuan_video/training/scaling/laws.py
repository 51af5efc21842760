"""Power laws between compute, model size and data.

Units as in the paper's section 4.4: N in billions of parameters, D in billions of tokens, C in PetaFLOP (1e15
operations, a total), and C = 6 N D, that is C = 6000 N D in these units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PFLOP_PER_BILLION_SQUARED = 6e3  # 6 N D with N and D in billions, in units of 1e15


def training_compute(parameters: float, tokens: float) -> float:
    """C = 6 N D in PetaFLOP; parameters and tokens in billions."""
    return PFLOP_PER_BILLION_SQUARED * parameters * tokens


@dataclass(frozen=True)
class PowerLaw:
    """y = a C^b."""

    a: float
    b: float

    def __call__(self, compute: float) -> float:
        return self.a * compute**self.b

    def inverse(self, value: float) -> float:
        """The compute at which the law gives `value`."""
        return (value / self.a) ** (1 / self.b)

    @classmethod
    def fit(cls, compute: np.ndarray, values: np.ndarray) -> PowerLaw:
        """Least squares on log(values) against log(compute). Raises ValueError below two distinct points."""
        x, y = np.log(compute), np.log(values)
        if x.size < 2 or np.ptp(x) == 0:
            raise ValueError("a power law needs points at two different amounts of compute")
        b, intercept = np.polyfit(x, y, 1)
        return cls(float(np.exp(intercept)), float(b))


@dataclass(frozen=True)
class ScalingLaw:
    """N_opt = a1 C^b1 and D_opt = a2 C^b2."""

    parameters: PowerLaw
    tokens: PowerLaw

    def optimum(self, compute: float) -> tuple[float, float]:
        """(billions of parameters, billions of tokens) for `compute` PetaFLOP."""
        return self.parameters(compute), self.tokens(compute)


# The paper's fits for its image and its video family (section 4.4).
PAPER = {
    "image": ScalingLaw(PowerLaw(5.48e-4, 0.5634), PowerLaw(0.324, 0.4325)),
    "video": ScalingLaw(PowerLaw(0.0189, 0.3618), PowerLaw(0.0108, 0.6289)),
}
