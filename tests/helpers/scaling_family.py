"""Synthetic families of loss curves that obey a scaling law exactly."""

import numpy as np

from hunyuan_video.training.scaling import Curve


def synthetic_family(law, sizes, noise=0.0, seed=0):
    """Curves whose lower envelope is 3 C^-0.05 and follows `law` exactly: parabolas in log-log, one per size."""
    rng = np.random.default_rng(seed)
    curves = []
    for n in sizes:
        best = law.parameters.inverse(n)
        compute = best * np.logspace(-1.5, 1.5, 120)
        loss = 3 * best**-0.05 * (compute / best) ** -0.05 * np.exp(0.02 * np.log(compute / best) ** 2)
        tokens = compute * law.tokens(best) / best
        curves.append(Curve(f"{n:.3g}B", n, tokens, compute, loss * np.exp(noise * rng.standard_normal(120))))
    return curves


FAMILIES = {"image": np.geomspace(0.092, 6.6, 7), "video": np.geomspace(0.4, 6.6, 5)}
