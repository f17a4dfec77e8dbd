"""Detects drift: the errors of a topic's predictions have grown. It needs a few sums of each micro-batch.

The errors are prequential: each record is predicted before the model learns from it. Executors turn each error into a
score between 0 and 1, and return sums of scores. The driver keeps a `Baseline` for each topic in the checkpoint, so a
replayed micro-batch gives the same result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streaming_regression.learners import Floats

LEAST_GROWTH = 1.05
"""Smallest factor that can be set: errors that grow by less are not found among the others."""
EVIDENCE = 25.0
"""Logarithm of the odds against a false alarm that the test needs; see `DriftDetector`."""
LEAST_SHIFT = 0.01
"""Smallest change of the mean score that is tested, for scores that hardly depend on the size of the errors."""
LEAST_VARIANCE = 1e-3
UNCERTAINTY = 3.0
"""Standard errors of the baseline's mean that count in its favour."""
BLOCKS_OF_ALL = 8
"""A block of rows is complete when it has this share, 1/8, of the rows before it."""
BLOCKS = 16
"""Number of blocks over which the variance is averaged, the last ones counting most."""
FEW = 5.0
"""With b blocks, the variance counts 1 + FEW / b times, because few of them do not show it."""
CAP = 9.0
"""Limit of a block's contribution to the variance, in variances: drift itself must not hide drift."""
CALIBRATION_ROWS = 200
CALIBRATED = (0.3, 0.7)
"""Mean scores with which a scale fits the errors."""
LOST = 0.1
"""Mean score of a block with which the scale has become so large that changes of the errors hardly change scores."""
STEP = 1e-6
"""Mean scores are kept this far from 0 and 1 when they correct a scale: a factor of 1,000 at once."""
RELATIVE_ROUNDING, ROUNDING = 1e-9, 1e-12
"""Errors up to these shares of the labels' spread and of their size count as rounding."""
SMALLEST = float(np.finfo(np.float64).tiny)
"""Smallest scale: where labels and errors are exactly 0, corrections would make it 0, and scores would be 0 / 0."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels and errors of a topic in one micro-batch: their number, and sums of |error|, y and y²."""

    rows: int
    sum_absolute_error: float
    sum_y: float
    sum_y_squared: float

    @property
    def rounding(self) -> float:
        """The size of errors that may be rounding, in the label's unit."""
        square = self.sum_y_squared / self.rows
        variance = max(square - (self.sum_y / self.rows) ** 2, 0.0)
        return float(max(RELATIVE_ROUNDING * np.sqrt(variance), ROUNDING * np.sqrt(square)))


@dataclass(frozen=True, slots=True)
class Scores:
    """Sums over the scores of `rows` errors; see `scores`.

    Attributes
    ----------
    total, squares : the sums of the scores and of their squares.
    grown : the sum of the scores that the errors would have if they were `growth` times as large.
    """

    rows: int = 0
    total: float = 0.0
    squares: float = 0.0
    grown: float = 0.0

    def __add__(self, other: Scores) -> Scores:
        rows, total = self.rows + other.rows, self.total + other.total
        return Scores(rows, total, self.squares + other.squares, self.grown + other.grown)


def scores(errors: Floats, scale: float, growth: float) -> Scores:
    """Return the sums of the scores u² / (1 + u²), where u = error / scale; `errors` has shape (n,).

    A score is below 1, so no outlier, however large, contributes more than one row. The mean needs no moment of the
    errors' distribution to exist.

    References
    ----------
    The function is Geman and McClure's (Bull. Int. Stat. Inst. 52, 1987). Maronna, Martin, Yohai: Robust Statistics
    (2006), 2.5: with a mean score of 1/2, `scale` is an M-estimate of scale.
    """
    with np.errstate(over="ignore"):  # then the score is 1
        squares = np.square(errors / scale)
        score = 1 - 1 / (1 + squares)
        grown = 1 - 1 / (1 + growth * growth * squares)
    return Scores(len(errors), float(score.sum()), float(score @ score), float(grown.sum()))


@dataclass(frozen=True, slots=True)
class Baseline:
    """The scores since the last reset, and the test's state; all numbers are part of the checkpoint.

    Attributes
    ----------
    scale : size of a typical error, in the label's unit; fixed until the next reset.
    growth : the setting with which `seen.grown` was computed.
    seen : sums over the scores since the reset.
    block, last : sums over the scores of the current block and of the one before.
    blocks : number of complete blocks, except the first.
    between : their variance, as that of one row; see `variance`.
    calibrated : whether the scale fits. Before, it is corrected, and nothing is tested.
    rise, fall : Page's sums for errors that grow and that shrink.
    """

    scale: float
    growth: float
    seen: Scores = Scores()
    block: Scores = Scores()
    last: Scores = Scores()
    blocks: int = 0
    between: float = 0.0
    calibrated: bool = False
    rise: float = 0.0
    fall: float = 0.0

    @property
    def mean(self) -> float:
        """The mean score."""
        return self.seen.total / self.seen.rows

    @property
    def typical(self) -> float:
        """The size of a typical error, in the label's unit: with it as scale the mean score would be about 1/2."""
        mean = min(max(self.mean, STEP), 1 - STEP)
        return float(self.scale * np.sqrt(mean / (1 - mean)))

    @property
    def shift(self) -> float:
        """Half the change of the mean score if all errors grew by the factor `growth`."""
        return max((self.seen.grown - self.seen.total) / self.seen.rows / 2, LEAST_SHIFT)

    @property
    def variance(self) -> float:
        """The variance of a score, so that the mean of n scores has the variance `variance` / n.

        Scores of neighbouring records may depend on one another: flights of one day are late together. Then the means
        of blocks of rows differ more than those of independent scores, and the variance is estimated from the
        differences of successive blocks. Blocks grow with the number of rows, so they become longer than any
        dependence.

        References
        ----------
        Law, Simulation Modeling and Analysis (5th ed.), 9.5.3: the method of batch means.
        """
        within = max(self.seen.squares / self.seen.rows - self.mean**2, LEAST_VARIANCE)
        blocks = min(self.blocks, BLOCKS)
        between = (blocks * self.between + 2 * within) / (blocks + 2)
        return max(within, between) * (1 + FEW / max(blocks, 1))

    def plus(self, found: Scores) -> Baseline:
        """Return the baseline with the scores of a micro-batch added."""
        seen, block, last = self.seen + found, self.block + found, self.last
        if block.rows < (seen.rows - block.rows) / BLOCKS_OF_ALL:
            return replace(self, seen=seen, block=block)
        if not last.rows:
            return replace(self, seen=seen, last=block)
        distance = block.total / block.rows - last.total / last.rows
        square = min(distance**2 / (1 / block.rows + 1 / last.rows), CAP * self.variance)
        blocks = self.blocks + 1
        between = self.between + (square - self.between) / min(blocks, BLOCKS)
        return replace(self, seen=seen, block=Scores(), last=block, blocks=blocks, between=between)


@dataclass(frozen=True, slots=True)
class DriftDetector:
    """Tests whether the errors of a topic have grown since the last reset, by Page's sums of scores.

    After a micro-batch with n scores of mean m, the sum is max(0, sum + n·(m - mean - shift)), where mean is that of
    the scores before. For `shift` half the change that matters, this is the sequential test that needs the fewest rows.
    A sum above EVIDENCE · (variance / (2 · shift) + (1 - mean) / 3) is drift. Without drift, a sum of independent
    scores reaches this limit about once in exp(EVIDENCE) rows, also if few scores are far above the others: 1 - mean is
    the largest distance of a score from the mean. If errors have shrunk, because the model has learned, the baseline is
    reset without an alarm: errors are compared with those of the better model.

    Attributes
    ----------
    growth : the factor > 1 by which all errors must grow so that the test is as fast as it can be.

    References
    ----------
    Page, Continuous Inspection Schemes, Biometrika 41 (1954). Hinkley, Inference about the Change-Point from Cumulative
    Sum Tests, Biometrika 58 (1971). For prequential errors: Gama, Sebastião, Rodrigues, On Evaluating Stream Learning
    Algorithms, Machine Learning 90 (2013). Limit: Siegmund, Sequential Analysis (1985), 2.6,
    with the exponent of Bernstein's inequality: Boucheron, Lugosi, Massart, Concentration Inequalities (2013), 2.8.
    """

    growth: float

    def after(self, baseline: Baseline | None, found: Scores, labels: Labels) -> tuple[Baseline | None, bool]:
        """Return the baseline after a micro-batch, and whether it shows drift.

        Parameters
        ----------
        baseline
            The baseline before, None for a topic that had no label so far.
        found
            The scores with the scale of `baseline`; no rows if there was none.
        labels
            The labels of the same micro-batch.
        """
        if not labels.rows:
            return baseline, False
        if baseline is None or baseline.growth != self.growth or not found.rows:
            scale = max(labels.sum_absolute_error / labels.rows, labels.rounding)
            return (Baseline(scale, self.growth) if scale else None), False
        rounding = max(labels.rounding, SMALLEST)
        if not baseline.calibrated:
            return _calibrated(baseline.plus(found), rounding), False
        mean, shift, variance = baseline.mean, baseline.shift, baseline.variance
        difference = found.total / found.rows - mean
        least = shift + UNCERTAINTY * np.sqrt(variance / baseline.seen.rows)
        rise = max(0.0, baseline.rise + found.rows * (difference - least))
        fall = max(0.0, baseline.fall + found.rows * (-difference - least))
        limit = EVIDENCE * (variance / (2 * shift) + (1 - mean) / 3)
        if rise > limit or fall > EVIDENCE * (variance / (2 * shift) + mean / 3):
            return _rescaled(baseline, found, rounding), bool(rise > limit)
        after = replace(baseline.plus(found), rise=float(rise), fall=float(fall))
        if after.last != baseline.last and after.last.total < LOST * after.last.rows and after.scale > 2 * rounding:
            return _rescaled(after, after.last, rounding), False
        return after, False


def _calibrated(baseline: Baseline, rounding: float) -> Baseline:
    """Return the baseline if its scale fits or there are too few rows; otherwise a new one with a better scale."""
    if baseline.seen.rows < CALIBRATION_ROWS:
        return baseline
    least, most = CALIBRATED
    if least <= baseline.mean <= most or (baseline.mean < least and baseline.scale <= 2 * rounding):
        return replace(baseline, calibrated=True)
    return _rescaled(baseline, baseline.seen, rounding)


def _rescaled(baseline: Baseline, found: Scores, rounding: float) -> Baseline:
    """Return a new baseline whose scale gives errors like those in `found` a mean score of about 1/2."""
    typical = replace(baseline, seen=found).typical
    return Baseline(max(typical, rounding), baseline.growth)
