"""`hunyuan-video scaling run|fit|plan`: train a family of sizes, fit the scaling laws, choose N and D for a budget."""

from __future__ import annotations

import argparse
from pathlib import Path

from hunyuan_video.errors import ArgumentError, Interruption


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = commands.add_parser("scaling", help="scaling laws: run a study, fit the laws, plan a budget")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    study = actions.add_parser("run", help="train every size of a study at every budget")
    study.add_argument("config", metavar="CONFIG", help="a study: a YAML file, or scaling/tiny")
    study.add_argument("--resume", action="store_true", help="keep finished runs and continue the interrupted one")
    study.add_argument("--dry-run", action="store_true", help="print the runs and their lengths")
    fit = actions.add_parser("fit", help="fit the laws to the curves of a study")
    fit.add_argument("curves", metavar="CURVES", help="the table of `scaling run`, curves.parquet")
    fit.add_argument("-o", "--output", help="where to write the fit; default fit.json beside the curves")
    fit.add_argument("--plot", help="where to draw it; default fit.png beside the curves")
    fit.add_argument("--bootstrap", type=int, default=200, help="replicates for the intervals (default %(default)s)")
    fit.add_argument("--level", type=float, default=0.9, help="of the intervals, 0 to 1 (default %(default)s)")
    fit.add_argument("--seed", type=int, default=0, help="of the replicates")
    plan = actions.add_parser("plan", help="the best size and data for a budget")
    plan.add_argument("law", metavar="LAW", help="a fit.json, or the paper's: image, video")
    target = plan.add_mutually_exclusive_group(required=True)
    target.add_argument("--budget", type=float, metavar="PFLOP", help="total training compute in PetaFLOP (1e15)")
    target.add_argument("--parameters", type=float, metavar="BILLIONS", help="size for which this is the best compute")
    return parser


def run(args: argparse.Namespace) -> int:
    {"run": _run, "fit": _fit, "plan": _plan}[args.action](args)
    return 0


def _run(args: argparse.Namespace) -> None:
    from hunyuan_video.training.scaling.config import load_scaling
    from hunyuan_video.training.scaling.study import run_study

    try:
        table = run_study(load_scaling(args.config), resume=args.resume, dry_run=args.dry_run, report=_line)
    except KeyboardInterrupt:
        raise Interruption("interrupted; finished runs are kept, continue with --resume") from None
    if not args.dry_run:
        _line(f"{table}\nfit it with: hunyuan-video scaling fit {table}")


def _fit(args: argparse.Namespace) -> None:
    from hunyuan_video.files import write_json
    from hunyuan_video.training.scaling import read_curves
    from hunyuan_video.training.scaling.picture import plot
    from hunyuan_video.training.scaling.report import fit_study, to_json

    if min(args.bootstrap, args.seed) < 0 or not 0 < args.level < 1:
        raise ArgumentError("--bootstrap and --seed must be 0 or more and --level between 0 and 1")
    curves = read_curves(args.curves)
    fit = fit_study(curves, bootstrap=args.bootstrap, level=args.level, seed=args.seed, report=_line)
    output = Path(args.output or Path(args.curves).with_name("fit.json"))
    picture = Path(args.plot or Path(args.curves).with_name("fit.png"))
    content = to_json(fit, args.level, curves)
    for name in ("envelope", "parametric"):
        if name in content:
            _line(f"{name}: {_law_line(content[name], args.level)}")
    write_json(output, content)
    plot(picture, curves, fit)
    _line(f"{output}\n{picture}")


def _law_line(law: dict, level: float) -> str:
    parts = []
    for name, a, b in (("N_opt", "a1", "b1"), ("D_opt", "a2", "b2")):
        interval = law["intervals"].get(b)
        known = f" [{interval[0]:.3f}, {interval[1]:.3f}] at {level:.0%}" if interval else ""
        parts.append(f"{name} = {law[a]:.4g} C^{law[b]:.4f}{known}")
    return "; ".join(parts)


def _plan(args: argparse.Namespace) -> None:
    from hunyuan_video.training.scaling.report import UNITS, read_laws

    given = args.budget if args.budget is not None else args.parameters
    if not 0 < given < float("inf"):
        raise ArgumentError("--budget and --parameters take a positive number")
    laws, measured = read_laws(args.law)
    _line(UNITS)
    for name, law in laws.items():
        compute = args.budget if args.budget is not None else law.parameters.inverse(args.parameters)
        parameters, tokens = law.optimum(compute)
        _line(f"{name}: C = {compute:.4g} PFLOP -> N = {parameters:.4g} B parameters, D = {tokens:.4g} B tokens")
        if measured and not measured[0] <= compute <= measured[1]:
            _line(f"  extrapolated: measured from {measured[0]:.4g} to {measured[1]:.4g} PFLOP")


def _line(text: str) -> None:
    print(text, flush=True)
