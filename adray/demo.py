"""The demo: simulate a marketplace, train on its log, serve what was learned, ask it, and hold the answers against the truth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from adray.checks import Check
from adray.config import Config, RunConfig
from adray.data.config import DataConfig
from adray.demo_traffic import ask
from adray.ranking import verbs as ranker
from adray.ranking.config import RankerModelConfig
from adray.ranking.run_config import EvaluationConfig, RankerRunConfig
from adray.ray_session import use_ray
from adray.run import Run
from adray.serving.app import start
from adray.serving.checks import serving_checks
from adray.serving.config import DeploymentsConfig, HttpConfig, ServeRunConfig
from adray.simulation import verbs as simulation
from adray.simulation.config import WorldConfig, WorldRunConfig
from adray.training.checks import training_checks
from adray.training.config import TrainingConfig
from adray.training.loop import EXPORT


class LiveConfig(Config):
    """The requests that are sent to the live endpoints."""

    requests: int = Field(default=2000, ge=1)
    """Decisions of the world asked of `creatives:rank`, one SKU each."""
    ads: int = Field(default=200, ge=0)
    """Pages asked of `ads:rank`, ten SKUs each."""
    in_flight: int = Field(default=8, ge=1, le=256)
    """Requests under way at once."""


class DemoConfig(RunConfig):
    """Everything from a simulated marketplace to answered requests."""

    kind: Literal["demo"]
    world: WorldConfig = WorldConfig()
    """The marketplace."""
    holdout: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of the latest impressions kept for evaluation."""
    model: RankerModelConfig = RankerModelConfig()
    """The ranker."""
    training: TrainingConfig = TrainingConfig()
    """The trainer."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Held-out metrics."""
    http: HttpConfig = HttpConfig(port=0)
    """The HTTP edge; port 0 takes a free one."""
    deployments: DeploymentsConfig = DeploymentsConfig()
    """The deployments."""
    live: LiveConfig = LiveConfig()
    """The requests sent to them."""

    def world_run(self) -> WorldRunConfig:
        """The part that simulates."""
        return WorldRunConfig(kind="world", world=self.world, **self._identity())

    def ranker_run(self) -> RankerRunConfig:
        """The part that trains on the simulated log; of one run folder with it."""
        data = DataConfig(path=str(Path(self.runs_dir) / self.name / simulation.WORLD_FOLDER), holdout=self.holdout)
        return RankerRunConfig(
            kind="ranker", data=data, model=self.model, training=self.training, evaluation=self.evaluation, **self._identity()
        )

    def serve_run(self) -> ServeRunConfig:
        """The part that serves what was trained."""
        export = Path(self.runs_dir) / self.name / EXPORT
        heavy = str(export / "heavy") if self.model.heavy else None
        return ServeRunConfig(
            kind="serve", light=str(export / "light"), heavy=heavy, http=self.http, deployments=self.deployments, **self._identity()
        )

    def _identity(self) -> dict[str, object]:
        return self.model_dump(include={"name", "runs_dir", "seed", "resume"})


CONFIG = DemoConfig


def demo(config: DemoConfig, run: Run) -> None:
    """Run the whole story in one run folder.

    Raises:
        AdrayError: Whatever stops one of its parts.
    """
    # One Ray for all parts, with room for trainers, readers and replicas.
    use_ray()
    run.headlines += ["serve/oracle_uplift_share", "serve/creatives_rank_p50_ms"]
    with run.stage("simulate"):
        simulation.simulate(config.world_run(), run)
    ranker.train(config.ranker_run(), run)
    with run.stage("serve/start"):
        handle = start(config.serve_run())
    with handle:
        print(f"serving at {handle.url}; the OpenAPI page is {handle.url}/docs", flush=True)
        with run.stage("serve/ask"):
            ask(handle.url, run.folder / simulation.WORLD_FOLDER, run, config.live, config.seed)


def checks(config: DemoConfig, verb: str) -> Iterable[Check]:
    """What each part would check before it starts, but for files that earlier parts will write."""
    yield from simulation.checks(config.world_run(), "simulate")
    yield from training_checks(config.training, lanes=DataConfig(path=".").lanes, run_folder=Path(config.runs_dir) / config.name)
    artifacts = {"light artifact", "heavy artifact"}
    yield from (check for check in serving_checks(config.serve_run()) if check.name not in artifacts)
