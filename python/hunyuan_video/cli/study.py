"""`hunyuan-video eval study`: votes of people on pairs of videos."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hunyuan_video.errors import UserError


def add_study(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    parser = actions.add_parser("study", help="serve, analyse or simulate a study of people's votes")
    steps = parser.add_subparsers(dest="what", metavar="STEP", required=True)
    serve = steps.add_parser("serve", help="the page on which invited people vote")
    analyse = steps.add_parser("analyse", help="wins, ties, losses, strengths and agreement, with intervals")
    simulate = steps.add_parser("simulate", help="votes of known strengths, as votes.csv")
    table = steps.add_parser("published", help="the arithmetic of the paper's own table")
    for step in (serve, analyse, simulate):
        step.add_argument("study", metavar="STUDY", help="folder of the study")
    for step in (serve, simulate):
        step.add_argument("--raters", type=int, default=60, help="default: 60")
        step.add_argument("--votes", type=int, default=3, help="raters of each pair (default: 3)")
    for step in (analyse, table):
        step.add_argument("--json", action="store_true", help="print JSON")
        step.add_argument("-o", "--output", metavar="JSON", help="write the JSON into a file, too")
    analyse.add_argument("--least-share", type=float, default=0.8, help="of checks that must be right (default: 0.8)")
    analyse.add_argument("--least-checks", type=int, default=10, help="checks that can exclude a rater (default: 10)")
    analyse.add_argument("--plot", metavar="PNG", help="draw the results with their intervals (matplotlib)")
    simulate.add_argument("--prompts", type=int, default=1533, help="default: 1533")
    simulate.add_argument("--clickers", type=int, default=0, help="raters who answer at random (default: 0)")
    simulate.add_argument("--seed", type=int, default=0, help="default: 0")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    serve.add_argument("--port", type=int, default=8001, help="0: a free one, which is printed")
    serve.add_argument("--address", metavar="URL", help="that the links begin with, behind a proxy")
    serve.add_argument("--checks", type=int, default=10, help="pairs with a known loser for each rater (default: 10)")
    serve.add_argument("--most", type=int, metavar="N", help="votes of a rater at most, without checks")
    serve.add_argument("--days", type=float, default=14.0, help="that a link can be opened (default: 14)")
    serve.add_argument("--invite", action="append", default=[], metavar="RATER", help="a new link; the old one ends")
    for step in (serve, analyse, simulate, table):
        step.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def run_study(args: argparse.Namespace) -> int:
    return {"serve": serve_page, "simulate": simulate, "analyse": analyse, "published": show_published}[args.what](args)


def show_published(args: argparse.Namespace) -> int:
    """The paper's table, as JSON either way."""
    from hunyuan_video.cli.compare import show_result
    from hunyuan_video.evaluation.study.published import published

    result = published()
    show_result(args, result, json.dumps(result, indent=1))
    return 0


def analyse(args: argparse.Namespace) -> int:
    """Results of a study's votes."""
    from hunyuan_video.cli.compare import show_result
    from hunyuan_video.evaluation.clips import SUITE_FILE
    from hunyuan_video.evaluation.study.analysis import Rule, analysis, as_markdown
    from hunyuan_video.evaluation.study.votes import VOTES_FILE, read_votes
    from hunyuan_video.evaluation.suites import read_suite
    from hunyuan_video.serving.study.store import STORE_FILE

    study = Path(args.study)
    if (study / STORE_FILE).exists():
        export(study)
    votes, checks = read_votes(study / VOTES_FILE)
    categories = {}
    if (study / SUITE_FILE).exists():
        categories = {item.id: item.categories for item in read_suite(str(study / SUITE_FILE)).items}
    result = analysis(votes, checks, Rule(args.least_share, args.least_checks), categories)
    if args.plot:
        from hunyuan_video.evaluation.study.picture import plot

        plot(Path(args.plot), result)
    show_result(args, result, as_markdown(result))
    return 0


def export(study: Path) -> None:
    """Writes votes.csv from the store of a study that is or was served."""
    from hunyuan_video.evaluation.study.votes import VOTES_FILE, write_votes
    from hunyuan_video.serving.study.store import StudyStore

    store = StudyStore(study)
    try:
        if not store.is_new:  # a start that failed leaves an empty one
            write_votes(study / VOTES_FILE, store.rows())
    finally:
        store.close()


def serve_page(args: argparse.Namespace) -> int:
    """The page of a study until a signal."""
    try:
        from hunyuan_video.serving.study.server import serve_study
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs the package {error.name}; pip install 'hunyuan-ext[serve]'") from error
    serve_study(
        Path(args.study), lambda line: print(line, file=sys.stderr, flush=True), host=args.host, port=args.port,
        raters=args.raters, votes=args.votes, checks=args.checks, days=args.days, most=args.most,
        invite=tuple(args.invite), address=args.address,
    )  # fmt: skip
    return 0


def simulate(args: argparse.Namespace) -> int:
    """Votes of a study of known strengths, as votes.csv."""
    from dataclasses import asdict

    from hunyuan_video.evaluation.study.simulate import World, as_rows, simulated
    from hunyuan_video.evaluation.study.votes import VOTES_FILE, write_votes
    from hunyuan_video.files import write_json

    file = Path(args.study) / VOTES_FILE
    if file.exists():
        raise UserError(f"{file}: votes are there already; simulate into a new folder")
    world = World(raters=args.raters, prompts=args.prompts, votes=args.votes, clickers=args.clickers)
    votes = simulated(world, args.seed)
    write_votes(file, as_rows(votes, world, args.seed))
    write_json(file.with_name("truth.json"), {"systems": world.systems, "seed": args.seed, **asdict(world)})
    print(f"{file}: {len(votes)} votes of {world.raters} raters; the truth is in truth.json")
    return 0
