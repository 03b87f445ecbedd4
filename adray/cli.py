"""The command line: verbs over config files. It grows verbs, never flags; everything else is a field of a config.

Nothing heavy is imported here, so that `--help` is instant.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from adray.errors import INTERRUPTED, ConfigError

UNEXPECTED = 70
"""Exit code of an error that is ours, not the user's (`EX_SOFTWARE` of sysexits.h)."""

app = typer.Typer(
    name="adray",
    help="Train and serve models for advertising creatives. One config file is one run: `launch.py VERB configs/x.yaml`.",
    epilog="Any field can be changed for one run: --set training.epochs=2 --set name=second-try",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.", show_default=False)]
Overrides = Annotated[list[str], typer.Option("--set", metavar="A.B=C", help="Override one field; may be repeated.", show_default=False)]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="URL", help="The cluster's job server; default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report alone, as JSON, on stdout; everything else goes to stderr.")]


@app.command()
def demo(config: ConfigPath = Path("configs/demo.yaml"), overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Run the whole story on a simulated marketplace: simulate, train, serve, ask, report.

    Examples:
    - `launch.py demo` takes `configs/demo.yaml` and ends by itself

    - `launch.py demo configs/demo.yaml --set seed=7 --set name=demo-7`
    """
    _execute("demo", config, overrides, as_json)


@app.command()
def simulate(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Simulate a marketplace and write its tables, with the true click probability of every candidate.

    Examples:
    - `launch.py simulate configs/world.yaml`

    - `launch.py simulate configs/world.yaml --set seed=3 --set name=world-3`
    """
    _execute("simulate", config, overrides, as_json)


@app.command()
def train(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Train a model, evaluate it on the held-out rows and export its artifacts.

    Examples:
    - `launch.py train configs/ranker-upworthy.yaml --set data.path=logs/upworthy.parquet`

    - `launch.py train configs/ranker-upworthy.yaml --set resume=true` goes on after a crash

    - `launch.py train configs/ranker-upworthy.yaml --set training.workers=2 --set name=two-workers`
    """
    _execute("train", config, overrides, as_json)


@app.command()
def evaluate(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Measure a trained run's artifacts on a table, the run's own held-out rows or another of the same columns.

    Examples:
    - `launch.py evaluate configs/ranker-upworthy.yaml`

    - `launch.py evaluate configs/ranker-upworthy.yaml --set data.path=logs/next-month.parquet --json`
    """
    _execute("evaluate", config, overrides, as_json)


@app.command()
def export(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Write the artifacts of a trained run's last checkpoint.

    Examples:
    - `launch.py export configs/ranker-upworthy.yaml`

    - `launch.py export configs/ranker-upworthy.yaml --json` prints the artifacts' folders
    """
    _execute("export", config, overrides, as_json)


@app.command()
def generate(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Make pictures of products, inspect each, and make again what fails, up to a number of attempts.

    Examples:
    - `launch.py generate configs/generation.yaml`

    - `launch.py generate configs/generation.yaml --set attempts=1 --set name=single-shot` makes one picture of each

    - `launch.py generate configs/generation.yaml --set resume=true` goes on where it stopped
    """
    _execute("generate", config, overrides, as_json)


@app.command()
def extract(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Read every creative's attributes: background colour, entities, logos, text, promotion, audience, style.

    Examples:
    - `launch.py extract configs/attributes.yaml --set data.creatives=shop/creatives.parquet`

    - `launch.py extract configs/attributes.yaml --set resume=true` goes on where it stopped
    """
    _execute("extract", config, overrides, as_json)


@app.command()
def embed(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Turn every creative's picture and copy into a vector, in parallel, with its provenance beside it.

    Examples:
    - `launch.py embed configs/embedding.yaml --set data.creatives=shop/creatives.parquet`

    - `launch.py embed configs/embedding.yaml --set resume=true` computes the rows that are missing
    """
    _execute("embed", config, overrides, as_json)


@app.command()
def index(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Build and publish a Faiss index over an embeddings table.

    Examples:
    - `launch.py index configs/index.yaml --set embeddings=runs/embedding/embeddings`

    - `launch.py index configs/index.yaml --set factory=IVF4096,Flat --set shards=4`
    """
    _execute("index", config, overrides, as_json)


@app.command()
def inspect(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Judge generated pictures, by a trained inspector or by the simulated world's oracle: a verdict each, and what share passes.

    Examples:
    - `launch.py inspect configs/inspection.yaml --set data.pictures=shop/pictures.parquet`

    - `launch.py inspect configs/inspection.yaml --set job.workers=4 --set resume=true` goes on where it stopped

    - `launch.py inspect configs/oracle.yaml --set data.pictures=runs/shop/pictures.parquet --set holdout=0.2`
    """
    _execute("inspect", config, overrides, as_json)


@app.command()
def serve(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Serve exported artifacts on live endpoints and print a curl line; Ctrl-C drains and ends.

    Examples:
    - `launch.py serve configs/serve.yaml`

    - `launch.py serve configs/serve.yaml --set http.port=9000`
    """
    _execute("serve", config, overrides, as_json)


@app.command()
def study(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Compare variants of a run over several seeds: a table and a plot with intervals.

    Examples:
    - `launch.py study configs/studies/objectives.yaml`

    - `launch.py study configs/studies/objectives.yaml --set resume=true` runs what is missing

    - `launch.py study configs/studies/objectives.yaml --set 'seeds=[0,1]' --set name=quick`
    """
    _execute("study", config, overrides, as_json)


@app.command()
def submit(
    verb: Annotated[str, typer.Argument(metavar="VERB", help="What to do there.", show_default=False)],
    config: ConfigPath,
    overrides: Overrides = [],
    as_json: AsJson = False,
    address: Address = None,
) -> None:
    """Run a verb on a cluster: send the project's own files, follow the log, end as the job ends; Ctrl-C stops it or lets it go on.

    Examples:
    - `launch.py submit train configs/ranker-world.yaml --address http://127.0.0.1:8265 --set runs_dir=/mnt/runs`

    - `launch.py submit embed configs/embedding.yaml --set runs_dir=/mnt/runs --set submit.follow=false`
    """
    with _errors(), _stdout_for_report(as_json) as out:
        from adray.jobs.submit import submit as hand_over

        outcome = hand_over(verb, config, overrides, address)
        if as_json:
            _print_json(outcome.report(), out)
    if outcome.error:
        _print_error(outcome.error)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


@app.command()
def check(config: ConfigPath, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Look for everything that would stop a run, and start nothing. Every other verb does this first.

    Examples:
    - `launch.py check configs/demo.yaml`

    - `launch.py check configs/ranker-upworthy.yaml --set training.workers=4`
    """
    with _errors(), _stdout_for_report(as_json) as out:
        _check(config, overrides, out if as_json else None)


def _execute(verb: str, path: Path, overrides: list[str], as_json: bool) -> None:
    with _errors() as log, _stdout_for_report(as_json) as out:
        from adray import kinds, summary

        job = kinds.load_job(path, overrides)
        job.require(verb)
        log.watch(Path(job.config.runs_dir) / job.config.name, starts=verb in kinds.STARTING_VERBS)
        summary.print_config(job.config, verb)
        run, report = kinds.perform(job, verb)
        if as_json:
            _print_json(report, out)
        else:
            summary.print_report(run, report)


def _check(path: Path, overrides: list[str], out: int | None) -> None:
    from adray import kinds, summary
    from adray.checks import Check
    from adray.run import versions

    outcomes: list[Check] = []
    name = path.stem
    try:
        job = kinds.load_job(path, overrides)
        name = job.config.name
        outcomes += kinds.all_checks(job, job.kind.main_verb)
    except ConfigError as error:
        outcomes.append(Check("config", error.problem, error))
    errors = [c.error for c in outcomes if c.error is not None]
    if out is None:
        summary.print_checks(name, outcomes)
    else:
        _print_json(
            {
                "verb": "check",
                "name": name,
                "seconds": {},
                "metrics": {"check/passed": len(outcomes) - len(errors), "check/failed": len(errors)},
                "artifacts": [],
                "tables": [],
                "versions": versions(),
                "checks": [{"name": c.name, "detail": c.detail, "error": str(c.error) if c.error else None} for c in outcomes],
            },
            out,
        )
    if errors:
        raise errors[0]


def _print_json(report: dict[str, Any], out: int) -> None:
    os.write(out, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())


@contextmanager
def _stdout_for_report(as_json: bool) -> Iterator[int]:
    """Yield a file descriptor of stdout; with `--json` everything else that is printed goes to stderr.

    Done to the descriptor as well as to `sys.stdout`, since C++ code and child processes print too.
    """
    sys.stdout.flush()
    out = os.dup(1)
    try:
        if as_json:
            os.dup2(2, 1)
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            yield out
    finally:
        os.dup2(out, 1)
        os.close(out)


class _ErrorLog:
    """Where the traceback of an unexpected error goes: the run's folder, once it is known and there."""

    folder: Path | None = None
    _fresh = False

    def watch(self, folder: Path, *, starts: bool) -> None:
        """Remember the folder of a run that is about to be executed, and whether this command is what fills it."""
        from adray.run import is_taken

        self.folder = folder
        self._fresh = starts and not is_taken(folder)

    def way_on(self, text: str) -> str:
        """How to go on when an error leaves a run of its name behind; nothing if it does not, or `text` says it."""
        from adray.run import is_taken

        if self.folder is None or not self._fresh or not is_taken(self.folder) or "resume=true" in text:
            return ""
        return f"; run {self.folder.name!r} is kept: --set resume=true goes on with it, --set replace=true starts it afresh"

    def write(self) -> Path:
        from adray.files import write_text
        from adray.kinds import ERROR_FILE

        folder = self.folder if self.folder is not None and self.folder.is_dir() else Path(tempfile.mkdtemp(prefix="adray-error-"))
        write_text(folder / ERROR_FILE, traceback.format_exc())
        return folder / ERROR_FILE


@contextmanager
def _errors() -> Iterator[_ErrorLog]:
    """Turn an exception into one line on stderr and an exit code."""
    log = _ErrorLog()
    try:
        yield log
    except KeyboardInterrupt:
        _print_error("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        from adray.kinds import user_error

        known = user_error(error)
        if known is not None:
            _print_error(str(known) + log.way_on(str(known)))
            raise typer.Exit(known.exit_code) from None
        text = " ".join(str(error).split())
        _print_error(f"unexpected {type(error).__name__}: {text[:300]} (traceback: {log.write()})")
        raise typer.Exit(UNEXPECTED) from None


def _print_error(text: str) -> None:
    red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"{red}error: {text}{plain}", file=sys.stderr)


def _show_log() -> None:
    """Print what adray's modules log, from INFO on, as plain lines on stderr; other packages' logs are as they were."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("adray")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def main() -> None:
    """Entry point of the `adray` command and of `launch.py`."""
    from adray.ray_session import stay_on_loopback

    stay_on_loopback()
    _show_log()
    app()
