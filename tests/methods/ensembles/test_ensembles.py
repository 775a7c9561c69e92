"""Deep ensembles, snapshots and SWAG: who is a member, what is averaged, and what a record says of it."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from transformers import AutoModelForSequenceClassification, GPT2Config, PreTrainedTokenizerFast

from calibench.errors import RefusedError, UsageError
from calibench.measure.running import Running
from calibench.models.checkpoint import Checkpoint, Padding
from calibench.models.loading import identify, load_checkpoint
from calibench.models.padding import padded
from calibench.report.sections import sections
from calibench.report.writing.reproduce import command, provenance
from calibench.run import run
from calibench.store.records import load_records
from calibench.suites.cells import Cell, cells_of, identified, left_out
from calibench.suites.loader import load_suite, parse_suite
from calibench.suites.overrides import Overrides, override
from calibench.suites.spec import MethodSpec, TimingSpec
from calibench_methods.ensembles import swag_diag
from calibench_methods.ensembles.deep_ensemble import DeepEnsemble
from calibench_methods.ensembles.snapshot import Snapshot
from calibench_methods.ensembles.swag_diag import SwagDiag
from calibench_methods.ensembles.trajectory import checkpoints_in
from calibench_methods.one_pass.frequentist import Frequentist
from limited_suites import limited
from scenarios import make, save, trajectory
from tiny_models import plan_of, sentences, tiny_checkpoint, tiny_model, tiny_tokenizer

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

import train_trajectory


def members_of(checkpoint: Checkpoint, count: int = 3) -> tuple[str, ...]:
    return tuple(map(str, sorted(trajectory(checkpoint, count).iterdir())))


def as_member(checkpoint: Checkpoint, folder: Path, labels: tuple[str, ...] | None = None) -> str:
    """The checkpoint in a folder, its outputs called `labels`."""
    module = copy.deepcopy(checkpoint.module)
    names = checkpoint.labels if labels is None else labels
    module.config.id2label = dict(enumerate(names))
    module.config.label2id = {label: k for k, label in enumerate(names)}
    return str(save(module, checkpoint.tokenizer, folder))


def alone(name: str, plan: Any) -> Any:
    """float64 [N, C], one checkpoint's own probabilities."""
    return Frequentist(load_checkpoint(name, device="cpu")).predict(plan, seed=0).probs


@pytest.mark.parametrize("method", ["deep-ensemble", "snapshot"])
def test_the_mean_is_that_of_the_members_alone(method: str) -> None:
    """Samples are the members' own softmaxes in order, and the probabilities are their mean."""
    checkpoint = tiny_checkpoint(classes=3)
    plan = plan_of(checkpoint, [*sentences(9)])
    predictive = make(method, checkpoint).predict(plan, seed=0)
    expected = np.stack([alone(name, plan) for name in members_of(checkpoint)])
    assert np.ptp(expected, axis=0).max() > 0.01
    assert predictive.samples is not None
    np.testing.assert_allclose(predictive.samples, expected, atol=1e-6)
    np.testing.assert_allclose(predictive.probs, expected.mean(axis=0), atol=1e-12)
    assert (predictive.passes == 3).all()
    assert (predictive.standard_error is None) == (method == "snapshot")


def test_scores_by_their_definitions() -> None:
    """Mutual information and variation agree with the textbook formulas on the members' probabilities."""
    checkpoint = tiny_checkpoint(classes=3)
    plan = plan_of(checkpoint, [*sentences(9)])
    probs = np.stack([alone(name, plan) for name in members_of(checkpoint)])
    scores = make("deep-ensemble", checkpoint).predict(plan, seed=0).scores
    divergence = (probs * np.log(probs / probs.mean(axis=0))).sum(axis=2).mean(axis=0)
    assert divergence.min() > 1e-6
    np.testing.assert_allclose(scores["mutual_information"], divergence, rtol=1e-9)
    np.testing.assert_allclose(scores["variation"], probs.var(axis=0).sum(axis=1), rtol=1e-9)


def test_only_the_listed_are_members() -> None:
    """The run's own checkpoint does not count unless it is listed."""
    checkpoint, other = tiny_checkpoint(), tiny_checkpoint(hidden_dim=48)
    plan = plan_of(checkpoint, [*sentences(5)])
    members = members_of(checkpoint)
    mine = DeepEnsemble(checkpoint, members=members).predict(plan, seed=0)
    same = DeepEnsemble(other, members=members).predict(plan, seed=0)
    assert np.array_equal(mine.probs, same.probs)


def test_the_own_checkpoint_is_shared() -> None:
    """Listed under any path, it is recognised by its weights and not loaded again; the others are loaded."""
    names = members_of(tiny_checkpoint())
    checkpoint = load_checkpoint(names[1], device="cpu")
    modules = DeepEnsemble(checkpoint, members=names).modules
    assert [module is checkpoint.module for module in modules] == [False, True, False]


def test_equal_weights_are_refused(tmp_path: Path) -> None:
    """A copy of a member under another name would count twice."""
    checkpoint = tiny_checkpoint()
    names = members_of(checkpoint)
    shutil.copytree(names[0], tmp_path / "copy")
    with pytest.raises(UsageError, match="checkpoint-1 and copy have the same weights"):
        DeepEnsemble(checkpoint, members=(*names, str(tmp_path / "copy")))


def test_the_first_members_make_a_smaller_ensemble() -> None:
    """`size` takes the first of those listed; more than there are is refused."""
    checkpoint = tiny_checkpoint()
    plan, names = plan_of(checkpoint, [*sentences(5)]), members_of(checkpoint)
    two = DeepEnsemble(checkpoint, members=names, size=2).predict(plan, seed=0)
    assert np.array_equal(two.probs, DeepEnsemble(checkpoint, members=names[:2]).predict(plan, seed=0).probs)
    with pytest.raises(UsageError, match="size is 4, and 3 members are given"):
        DeepEnsemble(checkpoint, members=names, size=4)


@pytest.mark.parametrize("members", [(), ("",), ("one",)])
def test_an_ensemble_has_two_members(members: tuple[str, ...]) -> None:
    """One member is no ensemble: the message says how to count the run's own checkpoint."""
    with pytest.raises(UsageError, match=r"An ensemble of [01] was asked for; list two or more"):
        DeepEnsemble(tiny_checkpoint(), members=members)


def test_labels_are_matched_by_name(tmp_path: Path) -> None:
    """Outputs in another order and another case are put into the run's order."""
    checkpoint = tiny_checkpoint(classes=3)
    plan = plan_of(checkpoint, [*sentences(7)])
    turned = as_member(checkpoint, tmp_path / "turned", ("CLASS 2", "Class 0", "class 1"))
    straight = members_of(checkpoint)[0]
    predictive = DeepEnsemble(checkpoint, members=(straight, turned)).predict(plan, seed=0)
    own = Frequentist(checkpoint).predict(plan, seed=0).probs
    assert predictive.samples is not None
    # Output 1 of the turned member is class 0, 2 is class 1 and 0 is class 2.
    np.testing.assert_allclose(predictive.samples[1], own[:, [1, 2, 0]], atol=1e-6)
    assert predictive.notes == ()


def test_numbered_labels_are_matched_by_position_with_a_note(tmp_path: Path) -> None:
    """LABEL_0 and LABEL_1 say nothing: the record tells what was assumed."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(3)])
    numbered = as_member(checkpoint, tmp_path / "numbered", ("LABEL_0", "LABEL_1"))
    method = DeepEnsemble(checkpoint, members=(members_of(checkpoint)[0], numbered))
    (note,) = method.predict(plan, seed=0).notes
    assert note.startswith("numbered: Labels were matched by position")


@pytest.mark.parametrize("labels", [("class 0", "other"), ("class 0", "class 1", "class 2")])
def test_other_labels_are_refused(labels: tuple[str, ...], tmp_path: Path) -> None:
    """A member of another task, or with one more class, would be averaged to nonsense."""
    checkpoint = tiny_checkpoint()
    other = as_member(tiny_checkpoint(classes=len(labels)), tmp_path / "other", labels)
    with pytest.raises(RefusedError, match=r"^other has other labels than tiny-Distil"):
        DeepEnsemble(checkpoint, members=(members_of(checkpoint)[0], other))


@pytest.mark.parametrize("how", ["vocabulary", "case"])
def test_another_tokenizer_is_refused(how: str, tmp_path: Path) -> None:
    """Texts are tokenised once: neither other words nor another treatment of case will do."""
    from tokenizers import normalizers

    checkpoint = tiny_checkpoint()
    tokenizer = tiny_tokenizer()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if how == "vocabulary":
        vocabulary = backend["model"]["vocab"]
        vocabulary["film"], vocabulary["plot"] = vocabulary["plot"], vocabulary["film"]
        tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(backend))
    else:
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace("a", "the")
    module = tiny_model("distilbert", hidden_dim=40)
    module.config.id2label = dict(enumerate(checkpoint.labels))
    other = str(save(module, tokenizer, tmp_path / "other"))
    with pytest.raises(RefusedError, match=r"^other has another tokenizer than tiny-Distil"):
        DeepEnsemble(checkpoint, members=(members_of(checkpoint)[0], other))


def test_architectures_may_differ(tmp_path: Path) -> None:
    """DistilBERT joins a run of BERT, without the token types it does not take, and gives its own answer."""
    checkpoint = tiny_checkpoint("bert")
    plan = plan_of(checkpoint, [*sentences(5)])
    assert "token_type_ids" in plan.batches[0].inputs
    distil = as_member(tiny_checkpoint("distilbert"), tmp_path / "distil")
    method = DeepEnsemble(checkpoint, members=(members_of(checkpoint)[0], distil))
    predictive = method.predict(plan, seed=0)
    own = Frequentist(tiny_checkpoint("distilbert"))
    expected = own.predict(plan_of(tiny_checkpoint("distilbert"), [*sentences(5)]), seed=0).probs
    assert predictive.samples is not None
    np.testing.assert_allclose(predictive.samples[1], expected, atol=1e-6)


def test_pairs_need_the_token_types_a_member_takes(tmp_path: Path) -> None:
    """BERT would read a pair that DistilBERT's plan holds as one text: refused; single texts are fine."""
    checkpoint = tiny_checkpoint("distilbert")
    bert = as_member(tiny_checkpoint("bert"), tmp_path / "bert")
    method = DeepEnsemble(checkpoint, members=(members_of(checkpoint)[0], bert))
    method.predict(plan_of(checkpoint, ["the film"]), seed=0)
    with pytest.raises(RefusedError, match=r"^bert tells the two texts of a pair apart by token types"):
        method.predict(plan_of(checkpoint, [("the film", "a plot")]), seed=0)


def test_texts_too_long_for_a_member_are_refused(tmp_path: Path) -> None:
    """A member with fewer positions than the run's checkpoint says so instead of failing in its embedding."""
    checkpoint = tiny_checkpoint()
    small = as_member(tiny_checkpoint(max_position_embeddings=20), tmp_path / "small")
    method = DeepEnsemble(checkpoint, members=(members_of(checkpoint)[0], small))
    method.predict(plan_of(checkpoint, ["the film " * 9]), seed=0)
    with pytest.raises(RefusedError, match=r"^small takes 20 tokens and a text has 22"):
        method.predict(plan_of(checkpoint, ["the film " * 10]), seed=0)


def test_a_trajectory_is_sorted_by_step(tmp_path: Path) -> None:
    """By number and not by letter; only subfolders with a config.json count."""
    for name in ("checkpoint-1000", "checkpoint-200", "epoch3-step-90", "runs"):
        (tmp_path / name).mkdir()
        if name != "runs":
            (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    names = [Path(name).name for name in checkpoints_in(str(tmp_path))]
    assert names == ["epoch3-step-90", "checkpoint-200", "checkpoint-1000"]
    assert [Path(name).name for name in checkpoints_in(str(tmp_path), 2)] == names[1:]
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"'best' in .* has no step number"):
        checkpoints_in(str(tmp_path))


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_a_folder_without_checkpoints_is_refused(folder: str, tmp_path: Path) -> None:
    """Neither a name that is no folder nor a folder that holds none makes an ensemble."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"There is no|holds 0 checkpoints"):
        Snapshot(tiny_checkpoint(), folder=str(tmp_path / folder))


def test_the_last_checkpoints_are_taken_without_their_tokenizer(tmp_path: Path) -> None:
    """`last` counts from the end; a trainer may not have saved the tokenizer; too few are said to be so."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(5)])
    shutil.copytree(trajectory(checkpoint), tmp_path / "run")
    for file in (tmp_path / "run").glob("*/tokenizer*"):
        file.unlink()
    two = Snapshot(checkpoint, folder=str(tmp_path / "run"), last=2).predict(plan, seed=0)
    expected = np.mean([alone(name, plan) for name in members_of(checkpoint)[1:]], axis=0)
    np.testing.assert_allclose(two.probs, expected, atol=1e-12)
    assert two.notes == ()
    many = Snapshot(checkpoint, folder=str(tmp_path / "run")).predict(plan, seed=0)
    assert many.notes == ("The folder holds 3 checkpoints, and the last 5 were asked for.",)


def weights_of(method: SwagDiag) -> Any:
    """float64 [S, W]: the weights of each sample that is held."""
    assert method._held is not None
    return np.stack([torch.cat([w.flatten() for w in sample.values()]).numpy() for sample in method._held[1]])


def test_swag_draws_from_the_gaussian_of_the_trajectory() -> None:
    """Drawn weights have the mean and variance of the checkpoints, times the scale, and a normal shape.

    False alarms: a Kolmogorov-Smirnov test at 1e-4, a mean square over 300,000 draws within 1% (3.9 standard
    deviations, 1e-4) and a correlation within 5 standard deviations, about 2e-4 together.
    """
    checkpoint = tiny_checkpoint()
    loaded = [load_checkpoint(name, device="cpu").module for name in members_of(checkpoint)]
    stacked = np.stack(
        [torch.cat([p.detach().flatten() for p in module.parameters()]).double().numpy() for module in loaded]
    )
    mean, variance = stacked.mean(axis=0), (stacked**2).mean(axis=0) - stacked.mean(axis=0) ** 2
    method = SwagDiag(checkpoint, folder=str(trajectory(checkpoint)), passes=100, scale=0.5)
    method.predict(plan_of(checkpoint, ["the film"]), seed=4)
    drawn = weights_of(method)
    standard = (drawn - mean) / np.sqrt(0.5 * variance)
    assert drawn.shape[1] > 3000
    assert abs((standard**2).mean() - 1) < 0.01
    assert stats.kstest(standard.ravel()[::20], "norm").pvalue > 1e-4
    # Neither samples nor weights move together.
    few = standard[:2]
    assert abs((few[0] * few[1]).mean()) < 5 / np.sqrt(drawn.shape[1])


def test_swag_without_variance_is_the_mean_of_the_weights() -> None:
    """With scale 0 each pass is the network whose weights are the average of the checkpoints'."""
    checkpoint = tiny_checkpoint()
    plan = plan_of(checkpoint, [*sentences(5)])
    folder = str(trajectory(checkpoint))
    predictive = SwagDiag(checkpoint, folder=folder, passes=2, scale=0.0).predict(plan, seed=0)
    averaged = checkpoint.twin("float64").float()
    loaded = [load_checkpoint(name, device="cpu").module for name in members_of(checkpoint)]
    with torch.no_grad():
        for name, parameter in averaged.named_parameters():
            parameter.copy_(torch.stack([module.get_parameter(name) for module in loaded]).mean(dim=0))
    expected = Frequentist(dataclasses.replace(checkpoint, module=averaged)).predict(plan, seed=0).probs
    np.testing.assert_allclose(predictive.probs, expected, atol=1e-6)
    np.testing.assert_allclose(predictive.scores["mutual_information"], 0, atol=1e-9)


def test_swag_samples_serve_every_text() -> None:
    """Sample s is one set of weights: the same for any batches, for a text alone, and whatever S is."""
    checkpoint = tiny_checkpoint()
    folder, texts = str(trajectory(checkpoint)), [*sentences(8)]
    method = SwagDiag(checkpoint, folder=folder, passes=4)
    whole = method.predict(plan_of(checkpoint, texts, token_budget=1000), seed=3).samples
    ones = method.predict(plan_of(checkpoint, texts, token_budget=1), seed=3).samples
    single = SwagDiag(checkpoint, folder=folder, passes=2).predict(plan_of(checkpoint, texts[:1]), seed=3)
    other = method.predict(plan_of(checkpoint, texts), seed=4).samples
    assert whole is not None
    assert ones is not None
    assert other is not None
    assert single.samples is not None
    np.testing.assert_allclose(whole, ones, atol=1e-5)
    np.testing.assert_allclose(single.samples[:, 0], whole[:2, 0], atol=1e-5)
    assert np.abs(other - whole).max() > 1e-3


def test_swag_draws_once_for_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later predictions with a seed use what the first one drew, and another seed replaces it."""
    checkpoint = tiny_checkpoint()
    method = SwagDiag(checkpoint, folder=str(trajectory(checkpoint)), passes=3)
    drawn: list[tuple[int, int]] = []
    sample = method._sample
    monkeypatch.setattr(method, "_sample", lambda *key: (drawn.append(key), sample(*key))[1])
    for seed in (1, 1, 2):
        method.predict(plan_of(checkpoint, ["the film"]), seed=seed)
    assert drawn == [(seed, number) for seed in (1, 2) for number in range(3)]


def test_swag_says_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that would take more than half of what is free are refused with the number that would not."""
    checkpoint = tiny_checkpoint()
    size = sum(value.nbytes for value in checkpoint.module.parameters())
    monkeypatch.setattr(swag_diag, "free_bytes", lambda _device: 15 * size)
    folder = str(trajectory(checkpoint))
    with pytest.raises(UsageError, match="lower passes to 7"):
        SwagDiag(checkpoint, folder=folder, passes=8)
    SwagDiag(checkpoint, folder=folder, passes=7)


def test_swag_refuses_batch_normalisation() -> None:
    """Its running statistics belong to no drawn weights."""
    checkpoint = tiny_checkpoint()
    network = swag_diag.load_network(members_of(checkpoint)[0], checkpoint)
    network.module.norm = nn.BatchNorm1d(3)
    with pytest.raises(RefusedError, match=r"checkpoint-1 has batch normalisation \(norm\)"):
        swag_diag._refuse_batch_norm(network)


def test_swag_refuses_unlike_checkpoints(tmp_path: Path) -> None:
    """The moments of two architectures are none."""
    checkpoint = tiny_checkpoint()
    shutil.copytree(trajectory(checkpoint), tmp_path / "run")
    as_member(tiny_checkpoint(hidden_dim=48), tmp_path / "run" / "checkpoint-9")
    with pytest.raises(RefusedError, match="checkpoint-9 is another model"):
        SwagDiag(checkpoint, folder=str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        (Snapshot, {"last": 1}, "last is 1, but must be at least 2"),
        (SwagDiag, {"last": 1}, "last is 1, but must be at least 2"),
        (SwagDiag, {"passes": 0}, "passes is 0, but must be at least 1"),
        (SwagDiag, {"scale": -1.0}, r"scale is -1\.0, but must be a number of at least 0"),
        (SwagDiag, {"scale": float("nan")}, "scale is nan"),
    ],
)
def test_parameters_out_of_range_are_refused(method: Any, params: dict[str, Any], message: str) -> None:
    """Each is named with its value and what was expected."""
    checkpoint = tiny_checkpoint()
    with pytest.raises(UsageError, match=message):
        method(checkpoint, folder=str(trajectory(checkpoint)), **params)


def ensemble_cell(*members: str) -> Cell:
    params = {"members": members, "size": 0}
    (cell,) = identified([Cell("deep-ensemble", DeepEnsemble, params, 0, False)])
    return cell


def test_a_key_follows_the_weights_and_not_the_place(tmp_path: Path) -> None:
    """Moved folders leave the key of a cell as it was; other weights under the same names change it."""
    names = members_of(tiny_checkpoint())
    first = ensemble_cell(*names).key({})
    for name in names:
        shutil.copytree(name, tmp_path / Path(name).name)
    moved = [str(tmp_path / Path(name).name) for name in names]
    assert ensemble_cell(*moved).key({}) == first
    shutil.copy(Path(names[0]) / "model.safetensors", Path(moved[1]) / "model.safetensors")
    assert ensemble_cell(*moved).key({}) != first


def test_identity_is_that_of_the_loaded_checkpoint() -> None:
    """`identify` tells name and weights without making a model."""
    (name, *_) = members_of(tiny_checkpoint())
    loaded, member = load_checkpoint(name, device="cpu"), identify(name)
    assert (member.name, member.revision, member.sha256) == (loaded.name, None, loaded.sha256)


OPTIONAL = "[[method]]\nname = 'frequentist'\n[[method]]\nname = 'deep-ensemble'\noptional = true\n"


def test_an_optional_method_is_left_out_with_a_sentence() -> None:
    """Without what it needs it is not run, and is said to be; asked for by name, it is a usage error."""
    suite = parse_suite(OPTIONAL, "x")
    assert [cell.name for cell in cells_of(suite)] == ["frequentist"]
    assert left_out(suite) == [
        "deep-ensemble is left out: it needs members; pass -a deep-ensemble.members=VALUE."
    ]
    given = override(suite, Overrides(method_args=["deep-ensemble.members=a,b"]))
    assert [cell.name for cell in cells_of(given)] == ["frequentist", "deep-ensemble"]
    assert cells_of(given)[1].params == {"members": ("a", "b"), "size": 0}
    assert left_out(given) == []
    with pytest.raises(UsageError, match=r"needs 'members'; pass -a deep-ensemble.members=VALUE"):
        cells_of(override(suite, Overrides(methods=["deep-ensemble"])))
    with pytest.raises(UsageError, match="needs 'members'"):
        cells_of(parse_suite(OPTIONAL.replace("optional = true", ""), "x"))


@pytest.mark.parametrize("able", [True, False])
def test_bfloat16_is_optional_where_the_cpu_lacks_it(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional setting in bfloat16 runs where the CPU has instructions for it, and nowhere else."""
    monkeypatch.setattr("calibench.models.devices.has_bfloat16_instructions", lambda: able)
    text = "[[method]]\nname = 'frequentist'\nparams = { dtype = 'bfloat16' }\noptional = true\n"
    suite = parse_suite(text + "[[method]]\nname = 'frequentist'\n", "x")
    assert len(cells_of(suite, "cpu")) == 1 + able
    assert [sentence.partition(":")[0] for sentence in left_out(suite, "cpu")] == [
        "frequentist in bfloat16 is left out"
    ] * (not able)


def embedded_members(folder: Path) -> list[str]:
    """Three checkpoints around the one that ships with the package, with its labels."""
    checkpoint = load_checkpoint("embedded", device="cpu")
    generator = torch.Generator().manual_seed(3)
    names = []
    for number in range(3):
        moved = copy.deepcopy(checkpoint.module)
        with torch.no_grad():
            for value in moved.parameters():
                value += 0.01 * value.std(correction=0) * torch.randn(value.shape, generator=generator)
        names.append(str(save(moved, checkpoint.tokenizer, folder / f"checkpoint-{number + 1}")))
    return names


def test_a_run_records_members_without_paths(tmp_path: Path) -> None:
    """Names and weights reach record, label and provenance; the folder's place reaches nothing in the run.

    The two ensembles are told apart by their number of members.
    """
    a, b, c = embedded_members(tmp_path / "place" / "trajectory")
    specs = (
        MethodSpec("frequentist"),
        MethodSpec("deep-ensemble", {"members": [a, b]}),
        MethodSpec("deep-ensemble", {"members": [a, b, c]}),
        MethodSpec("swag-diag", {"folder": str(Path(a).parent)}),
        MethodSpec("snapshot", {}, optional=True),
    )
    timing = TimingSpec(blocks=2, warmup=0, latency=1, memory=False)
    suite = dataclasses.replace(
        limited("embedded", 20), method=specs, passes=2, timing=timing, metrics=("accuracy",)
    )
    told = Told()
    records = run(suite, tmp_path / "run", device="cpu", progress=told)
    assert told.said == ["snapshot is left out: it needs folder; pass -a snapshot.folder=VALUE."]
    assert [record["status"] for record in records] == ["ok"] * 4
    two, three, swag = records[1:]
    assert two["method"]["params"] == {"members": ["checkpoint-1", "checkpoint-2"], "size": 0}
    assert [member["name"] for member in swag["method"]["members"]] == [Path(x).name for x in (a, b, c)]
    assert three["method"]["members"][2]["sha256"] == identify(c).sha256
    assert two["passes"] == 2
    (section,) = sections(load_records(tmp_path / "run"))
    labels = [entry.label for entry in section.entries]
    assert labels == ["frequentist", "deep-ensemble (2 members)", "deep-ensemble (3 members)", "swag-diag"]
    assert identify(c).sha256 in " ".join(provenance(section))
    alone = sections(record for record in records if record["method"]["name"] != "deep-ensemble")
    assert "-a swag-diag.folder=PATH/TO/trajectory" in command(alone[0])
    everything = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in everything


def test_a_missing_member_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    """A mistyped path is a usage error and no failed row."""
    members = [*members_of(tiny_checkpoint()), str(tmp_path / "none")]
    suite = override(load_suite("embedded"), Overrides(methods=["deep-ensemble"]))
    spec = MethodSpec("deep-ensemble", {"members": members})
    with pytest.raises(UsageError, match="There is no model at"):
        run(dataclasses.replace(suite, method=(spec,)), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_method_that_draws_once_gets_one_seed() -> None:
    """All its predictions draw alike, but for later replicates; other methods never draw alike."""
    once = Running(Cell("swag-diag", SwagDiag, {}, 7, False), "key")
    often = Running(Cell("frequentist", Frequentist, {}, 7, False), "key")
    asked = [("block", 0), ("block", 5), ("sentence", 3), ("calibration",), ("aside",)]
    assert len({once.seed(*purpose) for purpose in asked}) == 1
    assert len({often.seed(*purpose) for purpose in asked}) == len(asked)
    assert once.seed("block", 0, 1) == once.seed("block", 5, 1)
    assert once.seed("block", 0, 1) != once.seed("block", 0, 2)


class Told:
    """A `Progress` that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, steps: int) -> None:
        """Ignored."""

    def step(self, detail: str) -> None:
        """Ignored."""

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def trained(tmp_path: Path, name: str, *options: str) -> Path:
    """A trajectory of four steps on the tiny model, kept after every second one."""
    checkpoint = tiny_checkpoint()
    start = save(checkpoint.module, checkpoint.tokenizer, tmp_path / "start")
    rows = [f"{text},class {len(text) % 2}" for text in sentences(30)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]))
    given = ["--model", str(start), "--dataset", str(tmp_path / "data.csv"), "--learning-rate", "0.1"]
    sizes = ["--steps", "4", "--save-every", "2", "--batch-size", "8", "-o", str(tmp_path / name)]
    train_trajectory.main([*given, *sizes, *options])
    return tmp_path / name


def test_a_trajectory_is_trained_and_found_again(tmp_path: Path) -> None:
    """The script leaves what the methods read, the same under one seed and another under another."""
    first, again = trained(tmp_path, "first"), trained(tmp_path, "again")
    other = trained(tmp_path, "other", "--seed", "1", "--dtype", "float16")
    assert [Path(name).name for name in checkpoints_in(str(first))] == ["checkpoint-2", "checkpoint-4"]
    hashes = [[identify(name).sha256 for name in checkpoints_in(str(run))] for run in (first, again, other)]
    assert hashes[0] == hashes[1]
    assert len({*hashes[0], *hashes[2], identify(str(tmp_path / "start")).sha256}) == 5
    checkpoint = load_checkpoint(str(tmp_path / "start"), device="cpu")
    for method in (Snapshot, SwagDiag):
        method(checkpoint, folder=str(other)).predict(plan_of(checkpoint, ["the film"]), seed=0)


def test_the_cyclic_rate_falls_along_a_cosine() -> None:
    """From the given rate at the start of each cycle, through half of it, towards zero."""
    options = argparse.Namespace(schedule="cyclic", learning_rate=0.4, save_every=4)
    rates = [train_trajectory._rate(step, options) for step in range(1, 9)]
    expected = [0.2 * (np.cos(np.pi * done / 4) + 1) for done in (0, 1, 2, 3)]
    np.testing.assert_allclose(rates, expected * 2)


@pytest.mark.shared
def test_three_real_members(shared: Path) -> None:
    """On 200 sentences of SST-2, the mean is at least as likely as its members are on average."""
    import datasets

    from calibench.models.plan import Planner

    names = tuple(str(shared / "models" / f"sst2-minilm{end}") for end in ("", "-seed1", "-seed2"))
    checkpoint = load_checkpoint(names[0], device="cpu")
    data = datasets.load_dataset(str(shared / "data" / "sst2"), split="validation[:200]")
    plan = Planner.of(checkpoint).plan(data["sentence"], np.arange(200, dtype=np.int64))
    method = DeepEnsemble(checkpoint, members=names)
    assert method.modules[0] is checkpoint.module
    predictive = method.predict(plan, seed=0)
    labels = np.array(data["label"])
    assert predictive.samples is not None
    likelihood = -np.log(predictive.samples[:, np.arange(200), labels]).mean(axis=1)
    assert -np.log(predictive.probs[np.arange(200), labels]).mean() <= likelihood.mean()


def decoder(folder: Path, seed: int, side: str, pad_id: int | None) -> str:
    """A GPT-2 in a folder, whose config calls `pad_id` the padding."""
    config = GPT2Config(
        vocab_size=21, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.4, num_labels=2,
        id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1}, pad_token_id=pad_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = AutoModelForSequenceClassification.from_config(config)
        nn.init.normal_(module.score.weight)
    backend = tiny_tokenizer().backend_tokenizer
    backend.post_processor = None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", padding_side=side, model_max_length=60
    )
    return str(save(module, tokenizer, folder))


@pytest.mark.parametrize("pad_id", [0, None, 3])
def test_members_answer_as_alone_in_the_batches_of_the_run(tmp_path: Path, pad_id: int | None) -> None:
    """Whatever a member's own config calls the padding, with a note where that is changed."""
    names = (decoder(tmp_path / "a", 1, "right", 0), decoder(tmp_path / "b", 2, "left", pad_id))
    checkpoint = load_checkpoint(names[0])
    plan = plan_of(checkpoint, list(sentences(20, seed=2)))
    one_by_one = plan_of(checkpoint, list(sentences(20, seed=2)), token_budget=1)
    predictive = DeepEnsemble(checkpoint, members=names).predict(plan, seed=0)
    truth = [Frequentist(load_checkpoint(name)).predict(one_by_one, seed=0).probs for name in names]
    np.testing.assert_allclose(predictive.probs, np.mean(truth, axis=0), atol=1e-5)
    assert any("pad_token_id" in note for note in predictive.notes) == (pad_id != 0)


def test_a_member_that_sees_the_padding_of_the_run_is_refused(tmp_path: Path) -> None:
    """Learnt positions shift where a run pads on the left, as a Llama may."""
    run_s, member = decoder(tmp_path / "a", 1, "right", 0), decoder(tmp_path / "b", 2, "right", 0)
    checkpoint = load_checkpoint(run_s)
    checkpoint = padded(checkpoint, Padding("left", 0))
    with pytest.raises(RefusedError, match="b gives texts other answers where they are padded on the left"):
        DeepEnsemble(checkpoint, members=(run_s, member))
    assert checkpoint.tokenizer.padding_side == "left"
    apart = padded(checkpoint, Padding("none", 0))
    assert DeepEnsemble(apart, members=(run_s, member)).passes == 2
