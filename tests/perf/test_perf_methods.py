"""What each method costs per batch beyond the model: on a model so small that overhead dominates."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from calibench.models.checkpoint import example_inputs
from calibench.registry import METHODS
from calibench_methods.sampling.sites import find_sites
from scenarios import EVERY, make, needs
from tiny_models import plan_of, sentences, tiny_checkpoint

TEXTS = 32


@EVERY
def test_method_on_one_batch(benchmark: BenchmarkFixture, name: str) -> None:
    """One batch of 32 short sentences, with the method's own number of passes."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(TEXTS)], token_budget=10_000)
    assert len(plan.batches) == 1
    method = make(name, checkpoint)
    predictive = benchmark(method.predict, plan, seed=1)
    assert len(predictive.probs) == TEXTS


@EVERY
def test_making_a_method(benchmark: BenchmarkFixture, name: str) -> None:
    """The twin, the probes and the patch, paid once per method."""
    checkpoint = tiny_checkpoint()
    method = benchmark(METHODS.load(name), checkpoint, **needs(name, checkpoint))
    assert method.passes >= 1


def test_finding_the_sites(benchmark: BenchmarkFixture) -> None:
    """One probe of a twelve-layer BERT."""
    checkpoint = tiny_checkpoint("bert", num_hidden_layers=12)
    sites = benchmark(find_sites, checkpoint.module, example_inputs(checkpoint))
    assert len(sites) == 38
