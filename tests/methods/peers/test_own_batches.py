"""What the loops of others have in common: parameters that are checked, and texts in an order of choice."""

from __future__ import annotations

import pytest
import torch

from calibench.errors import UsageError
from calibench.method import parameters
from calibench.registry import METHODS
from calibench_methods.peers.own_batches import Peer, predictive_of
from tiny_models import plan_of, sentences, tiny_checkpoint

PEERS = [name for name in METHODS.names() if issubclass(METHODS.load(name), Peer)]


def test_the_peers_are_those_that_tokenise_for_themselves() -> None:
    """And no other method is."""
    assert [name for name in METHODS.names() if METHODS.load(name).tokenises] == PEERS
    known = {"hf-pipeline-baal", "baal-wrapper", "baal-trainer", "torch-uncertainty", "laplace-torch"}
    assert set(PEERS) == known


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"passes": 0}, "passes is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"dtype": "float8"}, "'float8' is not a dtype: choose same, "),
    ],
)
def test_a_parameter_out_of_range_is_refused_before_anything_else(
    name: str, params: dict[str, object], message: str
) -> None:
    """Whether the other library is there or not."""
    if not params.keys() <= parameters(METHODS.load(name)).keys():
        pytest.skip(f"{name} has no such parameter")
    with pytest.raises(UsageError, match=message):
        METHODS.load(name)(tiny_checkpoint("distilbert"), **params)


def test_what_is_said_of_a_text_is_put_where_the_plan_has_it() -> None:
    """Means over passes, in plan order, with the samples they are of."""
    plan = plan_of(tiny_checkpoint("distilbert"), [*sentences(3)])
    order = torch.tensor([2, 0, 1]).numpy()
    logits = torch.log(
        torch.tensor([[[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]], [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]])
    )
    found = predictive_of(logits, plan, order, ("a note",))
    assert found.samples is not None
    assert found.probs[:, 0] == pytest.approx([0.3, 0.5, 0.8])
    assert found.samples[:, 2, 0] == pytest.approx([0.7, 0.9])
    assert found.passes.tolist() == [2, 2, 2]
    assert found.notes == ("a note",)
