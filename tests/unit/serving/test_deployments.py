"""What every replica does around its model: off the event loop, bounded, and healthy only if the model answers."""

import asyncio
import threading

import pytest

from adray.serving.deployments import MODEL_THREADS, ModelReplica

WAIT_S = 10.0


class Replica(ModelReplica):
    """A replica whose tiny forward waits for a gate."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(deadline_s)
        self.gate = threading.Event()

    def probe(self) -> None:
        assert self.gate.wait(WAIT_S)


def test_a_model_that_answers_is_healthy():
    replica = Replica(WAIT_S)
    replica.gate.set()
    asyncio.run(replica.check_health())


def test_a_model_that_is_stuck_is_not_healthy():
    replica = Replica(0.05)
    try:
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(replica.check_health())
    finally:
        replica.gate.set()


def test_an_error_of_the_model_is_not_healthy():
    class Broken(Replica):
        def probe(self) -> None:
            raise RuntimeError("weights are gone")

    with pytest.raises(RuntimeError, match="weights are gone"):
        asyncio.run(Broken(WAIT_S).check_health())


def test_requests_leave_the_event_loop_and_the_health_check_free():
    async def scenario() -> list[str]:
        replica = Replica(WAIT_S / 5)
        release, running = threading.Event(), threading.Semaphore(0)

        def model() -> str:
            running.release()
            assert release.wait(WAIT_S)
            return threading.current_thread().name

        # More requests than threads, all stuck: the loop still runs the health check, in a thread of its own.
        requests = [asyncio.ensure_future(replica.run_model(model)) for _ in range(2 * MODEL_THREADS)]
        for _ in range(MODEL_THREADS):
            assert await asyncio.to_thread(running.acquire, timeout=WAIT_S)
        replica.gate.set()
        await replica.check_health()
        assert not any(request.done() for request in requests)
        release.set()
        return await asyncio.gather(*requests)

    names = asyncio.run(asyncio.wait_for(scenario(), 2 * WAIT_S))
    assert {name.split("_")[0] for name in names} == {"model"}
    assert 1 <= len(set(names)) <= MODEL_THREADS


def test_torch_leaves_the_cores_to_other_replicas():
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        Replica(WAIT_S)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
