"""Loss curves of a family of models, kept as one Parquet table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hunyuan_video.errors import UserError
from hunyuan_video.files import staged_file

COLUMNS = ("run", "parameters", "tokens", "compute", "loss", "cooldown")


@dataclass(frozen=True)
class Curve:
    """The loss of one run along its training, in increasing compute.

    `cooldown` marks points at which the learning rate was already falling. The envelope uses the others, which
    are comparable between runs of different length; the last point is the run's result for the parametric fit.
    """

    run: str
    parameters: float  # billions
    tokens: np.ndarray  # [n] billions seen so far
    compute: np.ndarray  # [n] PetaFLOP so far
    loss: np.ndarray  # [n]
    cooldown: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))  # [n] or empty: none

    def __post_init__(self):
        sizes = {len(self.tokens), len(self.compute), len(self.loss)} | ({len(self.cooldown)} - {0})
        values = np.concatenate([self.tokens, self.compute, self.loss])
        if len(sizes) != 1 or not len(self.loss) or not np.isfinite(values).all() or (values <= 0).any():
            raise ValueError(f"run {self.run}: tokens, compute and loss must be positive and of one length")
        if not (0 < self.parameters < np.inf) or (np.diff(self.compute) <= 0).any():
            raise ValueError(f"run {self.run}: parameters must be positive and compute must increase")

    def stable(self) -> Curve:
        """The part before the cool-down."""
        if not self.cooldown.any():
            return self
        keep = ~self.cooldown
        return Curve(self.run, self.parameters, self.tokens[keep], self.compute[keep], self.loss[keep])

    def final(self) -> tuple[float, float, float]:
        """(parameters, tokens, loss) at the end."""
        return self.parameters, float(self.tokens[-1]), float(self.loss[-1])


def arrow():
    """pyarrow's Parquet module. Raises UserError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError('loss curves are kept as Parquet: pip install "hunyuan-ext[scaling]"') from None
    return pyarrow


def write_curves(path: str | Path, curves: list[Curve]) -> None:
    """One row per point of every curve; written to a temporary name and renamed."""
    pa = arrow()
    rows: dict[str, list] = {name: [] for name in COLUMNS}
    for curve in curves:
        n = len(curve.loss)
        rows["run"] += [curve.run] * n
        rows["parameters"] += [curve.parameters] * n
        for name in ("tokens", "compute", "loss"):
            rows[name] += getattr(curve, name).tolist()
        rows["cooldown"] += curve.cooldown.tolist() if len(curve.cooldown) else [False] * n
    with staged_file(Path(path)) as file:
        pa.parquet.write_table(pa.table(rows), file)


def read_curves(path: str | Path) -> list[Curve]:
    """The curves of a table. Raises UserError for a missing, damaged or foreign file."""
    pa = arrow()
    try:
        table = pa.parquet.read_table(path).to_pydict()
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: cannot read the loss curves ({str(error).splitlines()[0]})") from None
    missing = [name for name in COLUMNS if name not in table]
    if missing or not table["run"]:
        raise UserError(f"{path}: not a table of loss curves; missing {', '.join(missing) or 'rows'}")
    try:
        columns = {name: np.array(table[name], float) for name in COLUMNS[1:]}
        cooldown = np.array([bool(value) for value in columns.pop("cooldown")])
    except (TypeError, ValueError):
        raise UserError(
            f"{path}: parameters, tokens, compute, loss and cooldown must be numbers in every row"
        ) from None
    names, curves = np.array(table["run"], dtype=object), []
    for run in dict.fromkeys(table["run"]):
        rows = np.flatnonzero(names == run)
        rows = rows[np.argsort(columns["compute"][rows], kind="stable")]
        parameters = set(columns["parameters"][rows].tolist())
        try:
            if len(parameters) != 1:
                raise ValueError(f"run {run}: it has parameters {sorted(parameters)}; a run has one size")
            picked = {name: columns[name][rows] for name in ("tokens", "compute", "loss")}
            curves.append(Curve(str(run), parameters.pop(), **picked, cooldown=cooldown[rows]))
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
    return curves
