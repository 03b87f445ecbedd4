"""What a `kind: serve` file holds.

Ray Serve ignores keys it does not know and takes unbounded queues, no time-out and slow autoscaling as its defaults.
Every setting here is validated, and the defaults are the ones a ranker wants.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from adray.config import Config, PathStr, RunConfig
from adray.errors import ConfigError

METRICS_INTERVAL_S = 1.0
"""How often callers report their queues to the autoscaler. Serve's default of 10 s would hold every answer to a burst back
by as much, whatever `upscale_delay_s` says."""

_LOCAL_NAMES = {"localhost"}
_ENVIRONMENT_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class HttpConfig(Config):
    """The HTTP edge: one proxy a node, shared by all deployments."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything beyond this machine needs `api_key_env`."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    request_timeout_s: Seconds = 5.0
    """A request not answered by then ends with 408, wherever it is: queued, running, or in another deployment."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the API key; never the key itself. Null: no key is asked for."""
    access_log: bool = False
    """Log one line a request. Costs about half of the throughput on small machines."""

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not _ENVIRONMENT_NAME.match(value):
            # Not a ValueError, whose report repeats the value: a key pasted here by mistake would end in a log.
            raise ConfigError(
                "field 'http.api_key_env' is not the name of an environment variable", "export the key and give its variable's name"
            )
        return value

    def is_local(self) -> bool:
        """Whether only this machine can reach `host`."""
        if self.host in _LOCAL_NAMES:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class DeploymentConfig(Config):
    """One deployment's replicas, queue and autoscaling."""

    min_replicas: int = Field(default=1, ge=1, le=1000)
    """Replicas that always run. Never 0: a start takes seconds, which no ad request can wait."""
    max_replicas: int = Field(default=4, ge=1, le=1000)
    """Replicas at most."""
    num_cpus: float = Field(default=0.5, gt=0, le=64, allow_inf_nan=False)
    """Logical CPUs one replica reserves; fractions are fine."""
    target_ongoing_requests: float = Field(default=4.0, gt=0, le=10_000, allow_inf_nan=False)
    """Requests per replica, running and queued, that autoscaling steers towards."""
    max_ongoing_requests: int = Field(default=16, ge=1, le=10_000)
    """Requests a replica works on at once; more wait at the caller."""
    max_queued_requests: int = Field(default=64, ge=0, le=100_000)
    """Requests that may wait at each caller; one more is refused at once with 503 and `Retry-After`."""
    retry_after_s: Seconds = 1.0
    """What `Retry-After` tells the refused client."""
    upscale_delay_s: float = Field(default=3.0, ge=0, le=3600, allow_inf_nan=False)
    """How long the load must ask for more replicas before they are started."""
    downscale_delay_s: float = Field(default=120.0, ge=0, le=86_400, allow_inf_nan=False)
    """How long the load must ask for fewer replicas before some are drained."""
    look_back_period_s: float = Field(default=5.0, gt=METRICS_INTERVAL_S, le=3600, allow_inf_nan=False)
    """Window of load that autoscaling looks at."""
    aggregation: Literal["max", "mean", "min"] = "max"
    """How the load in the window becomes one number."""
    max_surge_percent: int = Field(default=100, ge=1, le=100)
    """Extra replicas during an update, in percent, rounded up. Never 0: one replica without surge is down at every update."""
    health_check_period_s: Seconds = 10.0
    """Time between two health checks; three failures in a row replace the replica."""
    health_check_timeout_s: Seconds = 5.0
    """A health check runs a tiny forward; slower than this is a failure."""
    graceful_shutdown_timeout_s: Seconds = 20.0
    """Time a stopping replica has to finish what it works on."""
    graceful_shutdown_wait_loop_s: Seconds = 0.5
    """How often a stopping replica looks whether it has finished."""

    @model_validator(mode="after")
    def _consistent(self) -> DeploymentConfig:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) is below min_replicas ({self.min_replicas})")
        if self.target_ongoing_requests > self.max_ongoing_requests:
            raise ValueError(
                f"target_ongoing_requests ({self.target_ongoing_requests:g}) is above max_ongoing_requests ({self.max_ongoing_requests}),"
                " so the deployment would never scale up"
            )
        return self


class CreativesDeployment(DeploymentConfig):
    """The light half: orders the creatives of SKUs."""


class UserSkuDeployment(DeploymentConfig):
    """The heavy half: scores ads."""

    num_cpus: float = Field(default=1.0, gt=0, le=64, allow_inf_nan=False)
    target_ongoing_requests: float = Field(default=2.0, gt=0, le=10_000, allow_inf_nan=False)
    max_ongoing_requests: int = Field(default=8, ge=1, le=10_000)


class AdsDeployment(DeploymentConfig):
    """The front of both: holds no model, calls the halves concurrently; also answers `/healthz` and `/docs`."""

    num_cpus: float = Field(default=0.1, gt=0, le=64, allow_inf_nan=False)
    max_replicas: int = Field(default=2, ge=1, le=1000)
    target_ongoing_requests: float = Field(default=16.0, gt=0, le=10_000, allow_inf_nan=False)
    max_ongoing_requests: int = Field(default=64, ge=1, le=10_000)


# A class each, not a default object each: a file that sets one field must not lose the presets of the others.
class DeploymentsConfig(Config):
    """The three deployments."""

    creatives: CreativesDeployment = CreativesDeployment()
    """The light half."""
    user_sku: UserSkuDeployment = UserSkuDeployment()
    """The heavy half."""
    ads: AdsDeployment = AdsDeployment()
    """The front of both."""


class ServeSection(Config):
    """How long the `serve` verb runs."""

    duration_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds to serve, then drain and end; null: until interrupted."""


class ServeRunConfig(RunConfig):
    """A run that serves a ranker's artifacts."""

    kind: Literal["serve"] = "serve"
    light: PathStr
    """The light artifact (`ranker.light`): orders creatives. Loads without the heavy one."""
    heavy: PathStr | None = None
    """The heavy artifact (`ranker.heavy`): scores ads. Null: `ads:rank` keeps the request's ad order and says so."""
    http: HttpConfig = HttpConfig()
    """The HTTP edge."""
    deployments: DeploymentsConfig = DeploymentsConfig()
    """Replicas, queues and autoscaling."""
    serve: ServeSection = ServeSection()
    """The verb itself."""

    @model_validator(mode="after")
    def _drain_outlasts_requests(self) -> ServeRunConfig:
        for name, deployment in self.active_deployments().items():
            if deployment.graceful_shutdown_timeout_s <= self.http.request_timeout_s:
                raise ValueError(
                    f"deployments.{name}.graceful_shutdown_timeout_s ({deployment.graceful_shutdown_timeout_s:g}) must exceed"
                    f" http.request_timeout_s ({self.http.request_timeout_s:g}), or a stopping replica cuts requests off"
                )
        return self

    def active_deployments(self) -> dict[str, DeploymentConfig]:
        """Field name -> config of each deployment that will run; without a heavy artifact there is no `user_sku`."""
        parts = {"creatives": self.deployments.creatives, "user_sku": self.deployments.user_sku, "ads": self.deployments.ads}
        return {name: part for name, part in parts.items() if name != "user_sku" or self.heavy is not None}
