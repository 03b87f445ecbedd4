"""From a validated config to running Serve applications, and back to nothing."""

from __future__ import annotations

import logging
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adray.errors import ResourceError, ServingError
from adray.ray_session import use_ray
from adray.serving import exposure
from adray.serving.config import METRICS_INTERVAL_S, DeploymentConfig, ServeRunConfig
from adray.serving.edge import CREATIVES_RANK, USER_SKU_SCORE

if TYPE_CHECKING:
    from ray.serve.api import RunTarget
    from ray.serve.schema import DeploymentDetails

LIGHT = ("CreativeRanker", "adray-creatives")
HEAVY = ("UserSkuRanker", "adray-user-sku")
FRONT = ("AdsFront", "adray-ads")
"""Deployment and application name of each part."""

APPLICATIONS = {"creatives": LIGHT, "user_sku": HEAVY, "ads": FRONT}
"""Field of `DeploymentsConfig` -> deployment and application name."""

# A replica whose artifact passed the checks starts at the first try or, after a hiccup of the machine, at the second;
# Serve's 20 tries would hide a broken artifact for minutes.
_CONSTRUCTOR_TRIES = 2

LOCAL_CPUS = 8
"""Logical CPUs of a Ray started for serving; replicas reserve shares of them."""

_EXAMPLE_DEADLINE_S = 30.0
_HEAVY_SHARE_OF_TIMEOUT = 0.8


@dataclass
class ServeHandle:
    """A running ranker.

    Attributes:
        url: Base URL, e.g. `http://127.0.0.1:8000`.
        port: The port in it.
        config: What it was started with.
        seconds: Wall time of each stage of the start.
    """

    url: str
    port: int
    config: ServeRunConfig
    seconds: dict[str, float] = field(default_factory=dict)
    _owns_serve: bool = True
    _closed: bool = False

    def deployments(self) -> dict[str, DeploymentDetails]:
        """What Serve says of each deployment, by its field in `DeploymentsConfig`: applied options, status, replicas and their pids."""
        applications = _details().applications
        found = {}
        for name in self.config.active_deployments():
            deployment, application = APPLICATIONS[name]
            if application in applications and deployment in applications[application].deployments:
                found[name] = applications[application].deployments[deployment]
        return found

    def example_sku(self) -> str:
        """A SKU that the light artifact knows."""
        from ray import serve

        return str(serve.get_deployment_handle(*LIGHT).example_sku.remote().result(timeout_s=_EXAMPLE_DEADLINE_S))

    def close(self) -> None:
        """Finish the requests in flight, then stop. Closing twice does nothing.

        The front goes first, while the halves still answer it; Serve itself, and with it the proxy that carries the
        answers out, goes last and only if this handle started it.
        """
        from ray import serve

        if self._closed:
            return
        self._closed = True
        names = [APPLICATIONS[name][1] for name in ("ads", "creatives", "user_sku") if name in self.config.active_deployments()]
        for name in names:
            serve.delete(name)
        if self._owns_serve:
            serve.shutdown()

    def __enter__(self) -> ServeHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(config: ServeRunConfig) -> ServeHandle:
    """Start the applications and wait until they answer.

    Args:
        config: What to serve. With `http.port: 0` a free port is taken.

    Returns:
        The handle; close it to drain and stop.

    Raises:
        ConfigError: If the port would be open to other machines without an API key.
        ServingError: If another Serve configuration already runs in this Ray instance, or a replica does not start.
        ResourceError: If the port is taken.
    """
    from ray import serve

    key_hash = exposure.key_hash(config.http)
    # This process only; replicas and proxies keep logging to their files.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    seconds: dict[str, float] = {}
    with _timed(seconds, "ray"):
        use_ray(LOCAL_CPUS)
    with _timed(seconds, "proxy"):
        port, owns_serve = _start_proxy(config)
    handle = ServeHandle(f"http://{_host(config.http.host)}:{port}", port, config, seconds, owns_serve)
    try:
        with _timed(seconds, "replicas"):
            serve.run_many(targets(config, key_hash))
    except RuntimeError as error:
        why = _why_failed(handle) or _last_line(str(error))
        handle.close()
        raise ServingError(f"a deployment did not start: {why}", "run `launch.py check` on this config") from error
    except BaseException:
        handle.close()
        raise
    return handle


def targets(config: ServeRunConfig, key_hash: str | None) -> list[RunTarget]:
    """The Serve applications of a config: one per deployment, so that each is its own ingress.

    Args:
        config: What to serve.
        key_hash: SHA-256 (hex) of the API key; None asks for none.
    """
    from ray.serve.api import RunTarget

    from adray.serving.deployments import AdsFront, CreativeRanker, UserSkuRanker

    parts = config.deployments
    heavy = HEAVY if config.heavy else None
    heavy_deadline_s = config.http.request_timeout_s * _HEAVY_SHARE_OF_TIMEOUT
    found = [
        (
            LIGHT,
            CREATIVES_RANK.path,
            _deployment(CreativeRanker, LIGHT[0], parts.creatives, config).bind(
                config.light, key_hash, parts.creatives.health_check_timeout_s
            ),
        ),
        (FRONT, "/", _deployment(AdsFront, FRONT[0], parts.ads, config).bind(LIGHT, heavy, key_hash, heavy_deadline_s)),
    ]
    if config.heavy:
        application = _deployment(UserSkuRanker, HEAVY[0], parts.user_sku, config).bind(
            config.heavy, key_hash, parts.user_sku.health_check_timeout_s
        )
        found.append((HEAVY, USER_SKU_SCORE.path, application))
    return [RunTarget(target=application, name=names[1], route_prefix=route) for names, route, application in found]


def deployment_options(part: DeploymentConfig) -> dict[str, Any]:
    """What one deployment's config means in Serve's own terms (arguments of `serve.deployment`)."""
    return {
        "autoscaling_config": {
            "min_replicas": part.min_replicas,
            "max_replicas": part.max_replicas,
            "target_ongoing_requests": part.target_ongoing_requests,
            "upscale_delay_s": part.upscale_delay_s,
            "downscale_delay_s": part.downscale_delay_s,
            "look_back_period_s": part.look_back_period_s,
            "aggregation_function": part.aggregation,
            # Deprecated in Ray 2.60 in favour of environment variables that nothing there reads yet: this is what works.
            "metrics_interval_s": METRICS_INTERVAL_S,
        },
        "ray_actor_options": {"num_cpus": part.num_cpus},
        "max_ongoing_requests": part.max_ongoing_requests,
        "max_queued_requests": part.max_queued_requests,
        "backpressure_config": {"status_code": 503, "retry_after_s": part.retry_after_s},
        "max_surge_percent": part.max_surge_percent,
        "health_check_period_s": part.health_check_period_s,
        "health_check_timeout_s": part.health_check_timeout_s,
        "graceful_shutdown_timeout_s": part.graceful_shutdown_timeout_s,
        "graceful_shutdown_wait_loop_s": part.graceful_shutdown_wait_loop_s,
        "max_constructor_retry_count": _CONSTRUCTOR_TRIES,
    }


def free_port(host: str) -> int:
    """A port of the host that nothing listens on now."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free_port(host: str, port: int) -> None:
    """Refuse a port that cannot be had.

    Raises:
        ResourceError: If something listens there, or the address is not this machine's.
    """
    with socket.socket(_family(host)) as probe:
        # As servers do: a port of which only closed connections linger is free. Two Serve proxies, though, would share a
        # port without a word (SO_REUSEPORT); this probe does not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(
                f"http.host {host!r}, http.port {port} cannot be had: {error.strerror or error}",
                "set http.port to another one, or 0 for any free one",
            ) from None


def _start_proxy(config: ServeRunConfig) -> tuple[int, bool]:
    """Start Serve's proxy, or adopt a running one that is configured alike; the port, and whether it was started here."""
    from ray import serve

    http = config.http
    running = _details()
    if running.proxies:
        found = running.http_options
        taken = [name for name in running.applications if name in {application for _, application in APPLICATIONS.values()}]
        if taken:
            raise ServingError(f"{', '.join(taken)} already runs in this Ray instance", "close it first")
        if (
            found is None
            or found.host != http.host
            or (http.port and found.port != http.port)
            or found.request_timeout_s != http.request_timeout_s
        ):
            raise ServingError(
                "Serve already runs in this Ray instance with other HTTP options, and would ignore these",
                "stop it with `serve shutdown` first",
            )
        return found.port, False
    port = http.port or free_port(http.host)
    require_free_port(http.host, port)
    serve.start(
        proxy_location="EveryNode",
        http_options={"host": http.host, "port": port, "request_timeout_s": http.request_timeout_s},
        logging_config=_logging(config),
    )
    return port, True


def _deployment(cls: type, name: str, part: DeploymentConfig, config: ServeRunConfig) -> Any:
    from ray import serve

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*metrics_interval_s.*", category=DeprecationWarning)
        return serve.deployment(name=name, logging_config=_logging(config), **deployment_options(part))(serve.ingress()(cls))


def _logging(config: ServeRunConfig) -> dict[str, Any]:
    return {"encoding": "JSON", "enable_access_log": config.http.access_log}


def _details() -> Any:
    """Everything Serve knows of itself. Its public call for this needs the dashboard, which is off by default."""
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeInstanceDetails

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return ServeInstanceDetails(proxies={}, applications={})
    return ServeInstanceDetails(**client.get_serve_details())


def _host(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _why_failed(handle: ServeHandle) -> str:
    """The error of the first replica that did not start: the last line of the traceback that Serve keeps."""
    messages = (d.message for d in handle.deployments().values() if d.status == "DEPLOY_FAILED")
    return next((_last_line(message) for message in messages), "")


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
