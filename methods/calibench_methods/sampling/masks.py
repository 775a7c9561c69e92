"""Dropout masks keyed by what they are for, and stratified over the copies of one text.

A unit is one number that dropout keeps or drops. Each of its masks is a function of (seed, row, site, draw,
unit, stratum) and of nothing else, so that it does not depend on padding, chunks, batches or the device.

A stratum is a group of T copies. A unit with drop probability p is dropped in K = floor(Tp) or floor(Tp) + 1
of them, with E K = Tp, and *which* K is a uniformly random subset. One copy alone therefore has the law of
ordinary dropout, P(drop) = E K / T = p, units independent; the copies of a stratum are negatively correlated.
Equal counts over strata are those of systematic sampling (Madow, 1949), the subset is simple random sampling.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from calibench.errors import CalibenchError, UsageError

#: Patterns are the bits of an int32, of which the sign is left alone.
MOST_COPIES = 31
#: Patterns of one table: bounds its memory and, at 2**-31 each, the error of the marginal law.
MOST_PATTERNS = 2**16

UNIFORM_BITS = 32
_LOW = 2**UNIFORM_BITS - 1
# Units along an axis, and axes of a unit's number: three axes of 2**20 fit the 64 bits of a counter.
AXIS_BITS = 20
MOST_AXES = 3


def _signed(value: int) -> int:
    """The int64 with the bits of a 64-bit number."""
    return value - 2**64 if value >= 2**63 else value


# Constants of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _mix_(values: Tensor) -> Tensor:
    """The finaliser of splitmix64, in place, of an int64 tensor."""
    shifted = torch.empty_like(values)
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, 1)):
        # int64 shifts carry the sign along: mask it off for the logical shift of the definition.
        torch.bitwise_right_shift(values, shift, out=shifted)
        values ^= shifted.bitwise_and_((1 << (64 - shift)) - 1)
        if factor != 1:
            values *= factor
    return values


class _Law(ABC):
    """In which of T copies a unit is dropped: one of the patterns of a table, by its number, its rank.

    Attributes:
        p: drop probability.
        copies: T.
        table: int32 [n], the patterns; bit t is set where copy t drops the unit.
    """

    p: float
    copies: int
    table: Tensor

    def __init__(self) -> None:
        self._kept: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        # Where each unit is dropped in one copy, the rank is that copy.
        self._one_each = torch.equal(self.table, 1 << torch.arange(len(self.table), dtype=torch.int32))

    @abstractmethod
    def ranks(self, uniform: Tensor) -> Tensor:
        """Which row of `table` each draw stands for.

        Args:
            uniform: int64, any shape, 0 to 2**32 - 1.
        """

    def ranks_of_words(self, words: Tensor) -> Tensor:
        """The ranks of the two halves of each word, the lower half first.

        Args:
            words: int64 [..., n], uniform in all their bits.

        Returns:
            int32 [..., 2 n].
        """
        return self.ranks(words.view(torch.int32).to(torch.int64).bitwise_and_(_LOW)).to(torch.int32)

    def masks(self, ranks: Tensor, dtype: torch.dtype) -> Callable[[int], Tensor]:
        """What a copy keeps, as numbers to multiply with.

        Args:
            ranks: int32, any shape.
            dtype: of the numbers.

        Returns:
            From a copy's number to 0 where it drops the unit and 1 elsewhere, of the shape of `ranks`. Each
            call overwrites what the one before returned.
        """
        if self._one_each:  # up to 31 is exact in every dtype
            numbers = ranks.to(dtype)
            found = torch.empty_like(numbers)
            return lambda copy: torch.ne(numbers, float(copy), out=found)
        kept, index = self._kept_in(ranks.device, dtype), ranks.reshape(-1)
        flat = torch.empty(len(index), dtype=dtype, device=ranks.device)
        return lambda copy: torch.index_select(kept[copy], 0, index, out=flat).view(ranks.shape)

    def _kept_in(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """[T, n]: 0 where a copy drops the unit under a pattern, and 1 elsewhere."""
        if (device, dtype) not in self._kept:
            bits = (self.table >> torch.arange(self.copies, dtype=torch.int32)[:, None]) & 1
            self._kept[device, dtype] = (1 - bits).to(device, dtype)
        return self._kept[device, dtype]


class Stratum(_Law):
    """In which of T copies a unit is dropped, from 32 uniform bits, for one drop probability.

    Only integer arithmetic is used, so that the answer is the same on every device. Each of the n patterns
    in the table has its probability to within 2**-31, and hence each copy its drop probability to n 2**-31.

    Args:
        p: drop probability, 0 to 1.
        copies: T, 1 to 31.

    Raises:
        UsageError: T is out of range, or there are more than `MOST_PATTERNS` patterns.
    """

    def __init__(self, p: float, copies: int) -> None:
        if not 1 <= copies <= MOST_COPIES:
            raise UsageError(f"A stratum has {copies} copies: choose 1 to {MOST_COPIES}.")
        # Rounded, because 0.1 * 3 * 10 must not count as a hair above 3.
        expected = round(p * copies, 9)
        fewer = min(math.floor(expected), copies)
        rest = expected - fewer
        counts = [math.comb(copies, fewer), math.comb(copies, fewer + 1) if rest else 0]
        if sum(counts) > MOST_PATTERNS:
            raise UsageError(
                f"A stratum of {copies} copies has {sum(counts)} patterns at drop probability {p:g}, "
                f"more than {MOST_PATTERNS}: choose a smaller stratum_size."
            )
        self.p = p
        self.copies = copies
        sizes = [fewer, fewer + 1] if rest else [fewer]
        self.table = torch.tensor(
            [
                sum(1 << copy for copy in subset)
                for size in sizes
                for subset in itertools.combinations(range(copies), size)
            ],
            dtype=torch.int32,
        )
        self._few = counts[0]
        # Below the cut, `fewer` copies drop the unit; from it on, one more.
        self._cut = 2**UNIFORM_BITS - round(rest * 2**UNIFORM_BITS)
        self._low = _scaling(self._cut, counts[0])
        self._high = _scaling(2**UNIFORM_BITS - self._cut, counts[1])
        super().__init__()

    def ranks(self, uniform: Tensor) -> Tensor:
        """As in `_Law`."""
        factor, shift = self._low
        low = (uniform * factor) >> shift
        if self._cut == 2**UNIFORM_BITS:
            return low
        factor, shift = self._high
        # Clamped, because what is below the cut would overflow, though `where` discards it.
        high = (((uniform - self._cut).clamp_(min=0) * factor) >> shift) + self._few
        return torch.where(uniform < self._cut, low, high)

    def ranks_of_words(self, words: Tensor) -> Tensor:
        """As in `_Law`."""
        if self._cut < 2**UNIFORM_BITS:
            return super().ranks_of_words(words)
        # (u n) >> 32 of each half u, which `_scaling` amounts to; what is left of the upper half stays there.
        count = self._few
        low = (words & _LOW).mul_(count).bitwise_right_shift_(UNIFORM_BITS)
        high = (words >> UNIFORM_BITS).bitwise_and_(_LOW).mul_(count).bitwise_and_(~_LOW)
        found: Tensor = low.bitwise_or_(high).view(torch.int32)
        return found


class IndependentCopies(_Law):
    """In which of T independent copies a unit is dropped, from 32 uniform bits: one draw for all of them.

    Each of the 2**T patterns has its probability to within 2**-32.

    Args:
        p: drop probability, 0 to 1.
        copies: T, 1 to 16.

    Raises:
        UsageError: T is out of range.
    """

    def __init__(self, p: float, copies: int) -> None:
        most = MOST_PATTERNS.bit_length() - 1
        if not 1 <= copies <= most:
            raise UsageError(f"One draw serves {copies} independent copies: choose 1 to {most}.")
        self.p = p
        self.copies = copies
        self.table = torch.arange(2**copies, dtype=torch.int32)
        drops = [int(pattern).bit_count() for pattern in self.table]
        shares = itertools.accumulate(p**count * (1 - p) ** (copies - count) for count in drops)
        ends = [round(share * 2**UNIFORM_BITS) for share in shares]
        self._ends = torch.tensor(ends[:-1], dtype=torch.int64)
        super().__init__()

    def ranks(self, uniform: Tensor) -> Tensor:
        """As in `_Law`."""
        if self._ends.device != uniform.device:
            self._ends = self._ends.to(uniform.device)
        return torch.bucketize(uniform, self._ends, right=True)


def _scaling(draws: int, patterns: int) -> tuple[int, int]:
    """(a, s) such that (u a) >> s spreads 0 ... draws - 1 evenly over 0 ... patterns - 1, within int64."""
    if draws == 0 or patterns == 0:
        return 0, 0
    shift = 62 - patterns.bit_length()
    return (patterns << shift) // draws, shift


class MaskSource:
    """Drop patterns of the units of any tensor, from keys.

    Args:
        copies: T, how many one draw serves: the size of a stratum, 1 to 31, or 1 to 16 independent ones.
        independent: whether the copies are independent, instead of sharing out what they drop.
    """

    def __init__(self, copies: int, *, independent: bool = False) -> None:
        self.copies = copies
        self._law = IndependentCopies if independent else Stratum
        self._strata: dict[float, Stratum | IndependentCopies] = {}
        self._counters: dict[tuple[torch.device, tuple[int, ...]], Tensor] = {}

    def stratum(self, p: float) -> Stratum | IndependentCopies:
        """The joint law of the copies for one drop probability.

        Raises:
            UsageError: see `Stratum` and `IndependentCopies`.
        """
        if p not in self._strata:
            self._strata[p] = self._law(p, self.copies)
        return self._strata[p]

    def patterns(self, key: int, rows: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
        """In which copies of one stratum each unit is dropped: the patterns that `ranks` numbers.

        Args:
            key, rows, shape, p: as of `ranks`.

        Returns:
            int32 [B, *shape]; bit t is set where copy t drops the unit.

        Raises:
            CalibenchError, UsageError: as of `ranks`.
        """
        ranks = self.ranks(key, rows, shape, p)
        table = self.stratum(p).table.to(rows.device)
        return table.index_select(0, ranks.reshape(-1)).view(ranks.shape)

    def ranks(self, key: int, rows: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
        """Which pattern of `stratum(p)` each unit has.

        Args:
            key: int64, a hash of seed, site, draw and stratum: what tells this draw from others beside row
                and unit.
            rows: int64 [B], data set rows of the examples, on the device where the answer is wanted.
            shape: of one example's units, one to three axes of fewer than 2**20 each; the units of a larger
                shape, as of more padding behind the text, include those of a smaller one.
            p: drop probability.

        Returns:
            int32 [B, *shape], rows of the `table` of `stratum(p)`.

        Raises:
            CalibenchError: the shape has more axes, or longer ones.
            UsageError: see `Stratum`.
        """
        stratum = self.stratum(p)
        base = _mix_(rows * _GOLDEN + key)
        counter = self._counter(shape, rows.device)
        bits = _mix_(counter + base.view(-1, *[1] * len(shape)))
        # One hash serves two neighbours on the last axis; the second of an odd length's last pair is unused.
        return stratum.ranks_of_words(bits)[..., : shape[-1]]

    def _counter(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """splitmix64's counter of each pair of units: a fixed stride per axis, whatever the shape."""
        if (device, shape) in self._counters:
            return self._counters[device, shape]
        if not 1 <= len(shape) <= MOST_AXES or max(shape) >= 2**AXIS_BITS:
            raise CalibenchError(
                f"A mask of shape {shape} per example cannot be keyed: at most {MOST_AXES} axes of "
                f"fewer than {2**AXIS_BITS} units are."
            )
        pairs = (*shape[:-1], (shape[-1] + 1) // 2)
        counter = torch.zeros(pairs, dtype=torch.int64, device=device)
        for axis, length in enumerate(pairs):
            after = len(pairs) - 1 - axis
            steps = torch.arange(length, dtype=torch.int64, device=device) << (AXIS_BITS * after)
            counter += steps.view(-1, *[1] * after)
        counter *= _GOLDEN
        # A forward pass has a few shapes, and the next batch has others.
        if len(self._counters) >= 8:
            self._counters.clear()
        self._counters[device, shape] = counter
        return counter
