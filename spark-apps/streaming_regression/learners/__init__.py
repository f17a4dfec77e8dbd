"""Online learners: each computes the next model from a model and one micro-batch's statistics (numpy only)."""

from streaming_regression.learners.model import LIMIT, DivergedError, Floats, Learner, Model
from streaming_regression.learners.rls import RecursiveLeastSquares
from streaming_regression.learners.sgd import GradientDescent
from streaming_regression.learners.statistics import Statistics

__all__ = [
    "LIMIT",
    "DivergedError",
    "Floats",
    "GradientDescent",
    "Learner",
    "Model",
    "RecursiveLeastSquares",
    "Statistics",
]
