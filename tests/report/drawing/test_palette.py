"""Any two colours of a figure are told apart, with normal sight and without the second kind of cones."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from calibench.report.drawing import style
from calibench.types import FloatArray

#: Linear RGB as a deuteranope sees it: Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model
#: for Simulation of Color Vision Deficiency", table 1, severity 1.0.
DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
#: sRGB to XYZ (IEC 61966-2-1), and its white.
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ.sum(axis=1)
#: Differences below ten or so are hard to see between small marks that do not touch.
APART = 14.0
PALETTES = {"light": (style.COLOURS, "#ffffff"), "dark": (style.DARK_COLOURS, "#0f141a")}


def linear(colour: str) -> FloatArray:
    """Linear RGB of a colour in hexadecimal."""
    coded = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def lab(light: FloatArray) -> FloatArray:
    """CIE 1976 L*a*b*."""
    share = XYZ @ light / WHITE
    root = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def difference(one: str, other: str, *, deuteranopia: bool) -> float:
    """CIE 1976 delta E."""
    seen = [
        lab(np.clip(DEUTERANOPIA @ linear(colour), 0, 1) if deuteranopia else linear(colour))
        for colour in (one, other)
    ]
    return float(np.linalg.norm(seen[0] - seen[1]))


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""
    dark, light = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("deuteranopia", [False, True])
def test_any_two_families_are_told_apart(palette: str, deuteranopia: bool) -> None:
    """The reference's grey among them."""
    colours, _ = PALETTES[palette]
    apart = {pair: difference(*pair, deuteranopia=deuteranopia) for pair in combinations(colours, 2)}
    assert min(apart.values()) > APART, min(apart, key=apart.__getitem__)


@pytest.mark.parametrize("palette", PALETTES)
def test_every_colour_stands_out_from_the_paper(palette: str) -> None:
    """By 3 to 1, which WCAG 2.1 asks of what a figure is read by."""
    colours, paper = PALETTES[palette]
    assert min(contrast(colour, paper) for colour in colours) >= 3.0


def test_the_rule_sees_a_pair_that_is_not() -> None:
    """A grey and a wine red of an earlier palette were one colour to a deuteranope."""
    assert difference("#595959", "#882255", deuteranopia=True) == pytest.approx(3.1, abs=0.1)
    assert difference("#595959", "#882255", deuteranopia=False) > 40
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0, abs=0.01)
