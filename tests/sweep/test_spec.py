"""Sweep files: the grid they stand for, and one sentence for each thing that they get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from calibench.cli import main
from calibench.sweep.spec import parse_sweep
from sweeps import DATA, HEAD, MODEL, small, text_of

SECOND = '[[model]]\nid = "other"\nname = "embedded"\n[[data]]\nid = "b"\nloader = "embedded"\n'


def test_the_pairs_are_the_grid() -> None:
    """Models first, each with every data set, in folders named for both."""
    found = small("frequentist", "mc-dropout", head="seeds = [0, 1]\n", more=SECOND)
    assert [pair.folder for pair in found.pairs] == [
        "embedded--corpus",
        "embedded--b",
        "other--corpus",
        "other--b",
    ]
    for pair in found.pairs:
        assert [spec.name for spec in pair.suite.method] == ["frequentist", "mc-dropout"]
        assert (pair.suite.name, pair.suite.seeds, pair.suite.passes) == ("small", (0, 1), 2)
        assert pair.suite.data.limit == (24 if pair.data == "corpus" else None)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ('model = "other"', 8),
        ('data = "b"', 8),
        ('method = "mc-dropout"', 8),
        ("seed = 1", 8),
        ('model = "other"\ndata = "b"', 12),
        ('model = "other"\nmethod = "mc-dropout"', 12),
        ('model = "other"\ndata = "b"\nseed = 1', 14),
    ],
)
def test_an_exclude_leaves_out_what_fits_all_its_keys(exclude: str, left: int) -> None:
    """Of 2 models x 2 data sets x 2 methods x 2 seeds."""
    more = f"{SECOND}[[exclude]]\n{exclude}\n"
    found = small("frequentist", "mc-dropout", head="seeds = [0, 1]\n", more=more)
    assert sum(len(pair.suite.method) * len(pair.suite.seeds) for pair in found.pairs) == left


def test_a_data_set_says_which_models_it_is_for() -> None:
    """By their ids; all of them where it says nothing."""
    found = small(more=SECOND + 'models = ["other"]\n')
    assert [pair.folder for pair in found.pairs] == ["embedded--corpus", "other--corpus", "other--b"]


def test_settings_are_of_one_pair() -> None:
    """Split, columns, limit and label map stand above what the data set says, for one model alone."""
    pair = (
        '[[pair]]\nmodel = "other"\ndata = "corpus"\nlimit = 8\nsplit = "validation"\ntext = ["t"]\n'
        'passes = 5\nlabel_map = { "a,b=c" = "LABEL_1", x = 0 }\ncalibration_split = "held out"\n'
    )
    found = {pair.folder: pair.suite for pair in small(more=SECOND + pair).pairs}
    suite = found["other--corpus"]
    assert (suite.data.limit, suite.data.split, suite.data.text) == (8, "validation", ("t",))
    assert suite.data.label_map == {"a,b=c": "LABEL_1", "x": 0}
    assert (suite.passes, suite.calibration.split) == (5, "held out")
    assert found["embedded--corpus"] == small(more=SECOND).pairs[0].suite


def test_a_data_set_brings_its_own_shifts() -> None:
    """They stand in the place of the sweep's."""
    text = HEAD + '[shift]\ncorruptions = ["typos"]\n' + MODEL + DATA
    text += (
        '[[data]]\nid = "b"\nloader = "embedded"\nshift = { also = ["FOLDER"] }\n[[method]]\nname = "knn"\n'
    )
    first, second = parse_sweep(text, "s").pairs
    assert first.suite.shift.corruptions == ("typos",)
    assert (second.suite.shift.corruptions, second.suite.shift.also) == ((), ("FOLDER",))


def test_names_come_from_hub_ids_and_paths() -> None:
    """The last part of either, without what a folder's name should not hold."""
    text = (
        HEAD
        + '[[model]]\nname = "org/some model"\n[[data]]\nname = "/data/my set"\n[[method]]\nname = "knn"\n'
    )
    assert [pair.folder for pair in parse_sweep(text, "s").pairs] == ["some-model--my-set"]


TWICE = "Two entries of the axis model are called 'embedded'; give one of them another id"
BAD = [
    (text_of(head="sedes = [0]\n"), "Unknown key 'sedes' in the sweep 's'; did you mean 'seeds'?"),
    (text_of("mc-dropuot"), "Unknown method 'mc-dropuot'; did you mean 'mc-dropout'?"),
    (text_of(head='reference = "x"\n'), "Unknown method 'x'"),
    (HEAD + DATA + '[[method]]\nname = "knn"\n', "The sweep 's' has no model; add a [[model]] table"),
    (HEAD + MODEL + '[[method]]\nname = "knn"\n', "The sweep 's' has no data; add a [[data]] table"),
    (HEAD + MODEL + DATA, "The sweep 's' has no method; add a [[method]] table"),
    (text_of(head="seeds = []\n"), "seeds is empty in the sweep 's'"),
    (text_of(head="seeds = [1, 1]\n"), "seeds holds 1 twice"),
    (text_of(head="seeds = [-1]\n"), "One of seeds is -1"),
    (text_of(head="passes = 0\n").replace("passes = 2", "", 1), "passes is 0 in the suite 's'"),
    (text_of(more=MODEL), TWICE),
    (text_of(more='[[model]]\nid = "a/b"\nname = "x"\n'), "The model 'a/b' needs an id of letters"),
    (text_of(more="[[model]]\nrevision = 'x'\n"), "The model '' needs an id of letters"),
    (text_of(more='[[model]]\nid = "Embedded"\nname = "x"\n'), "Two pairs would share the folder"),
    (
        text_of(more='[[model]]\nid = "a--b"\nname = "x"\n[[model]]\nid = "a"\nname = "x"\n')
        + '[[data]]\nid = "c"\nloader = "embedded"\n[[data]]\nid = "b--c"\nloader = "embedded"\n',
        "Two pairs would share the folder 'a--b--c'",
    ),
    (text_of(more="[[exclude]]\n"), "An [[exclude]] table is empty"),
    (
        text_of(more='[[exclude]]\nmodel = "embeded"\n'),
        "names the model 'embeded', which is in no cell; did you",
    ),
    (text_of(more="[[exclude]]\nseed = 7\n"), "names the seed 7, which is in no cell"),
    (text_of(more='[[exclude]]\nmethod = "knn"\n'), "names the method 'knn', which is in no cell"),
    (text_of(more='[[exclude]]\nmethod = "frequentist"\n'), "leaves out 'frequentist', the reference"),
    (
        text_of("knn", more='[[exclude]]\nmethod = "knn"\nseed = 0\n'),
        "names both a method and a seed",
    ),
    (text_of(more='[[exclude]]\nmodel = "embedded"\n'), "The sweep 's' excludes every cell"),
    (text_of(more='[[pair]]\nmodel = "embedded"\n'), "A [[pair]] table names no data"),
    (
        text_of(more='[[pair]]\nmodel = "embedded"\ndata = "corpse"\nlabel_map = { a = "b" }\n'),
        "names the data 'corpse', which is not there; did you mean 'corpus'?",
    ),
    (
        text_of(more='[[pair]]\nmodel = "embedded"\ndata = "corpus"\n' * 2),
        "Two [[pair]] tables are about embedded on corpus",
    ),
    (
        text_of(more=SECOND + '[[pair]]\nmodel = "other"\ndata = "b"\n[[exclude]]\nmodel = "other"\n'),
        "A [[pair]] is about other on b, which is excluded",
    ),
    (
        text_of(more=SECOND + 'models = ["othr"]\n'),
        "The data set 'b' names the model 'othr', which is not there; did you mean 'other'?",
    ),
    (
        text_of(more=SECOND + 'models = ["other"]\n[[pair]]\nmodel = "embedded"\ndata = "b"\n'),
        "A [[pair]] is about embedded on b, whose models do not include it",
    ),
    (
        text_of(more="[[pair]]\nlimt = 3\n"),
        "Unknown key 'limt' in pair in the sweep 's'; did you mean 'limit'?",
    ),
    ("x = [", "The sweep 's' is not valid TOML"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_a_bad_file_is_one_sentence(text: str, says: str, tmp_path: Path) -> None:
    """Each exits with 2, and nothing is written."""
    file = tmp_path / "s.toml"
    file.write_text(text)
    result = CliRunner().invoke(main, ["sweep", str(file), "-o", str(tmp_path / "out")])
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.output.split())
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """So is one that is no text."""
    assert CliRunner().invoke(main, ["sweep", str(tmp_path / "no.toml")]).exit_code == 2
    (tmp_path / "s.toml").write_bytes(b"\xff")
    result = CliRunner().invoke(main, ["sweep", str(tmp_path / "s.toml")])
    assert "it is not UTF-8 text" in result.output
    assert result.exit_code == 2
