"""The colours of Kibana's dashboard and of the live page: each has one meaning, on light and on dark backgrounds.

They can be told apart with any colour vision (Okabe and Ito, Color Universal Design, 2008). The luminance of each is
between 0.14 and 0.30, so the contrast is at least 3:1 both with white and with the dark background of Kibana (#1d1e24).

References
----------
https://jfly.uni-koeln.de/color/ for the colours; WCAG 2.1, success criterion 1.4.11, for the contrast of 3:1.
"""

from __future__ import annotations

TRAIN = "#0072b2"
TEST = "#d55e00"
OBSERVED = "#009e73"
PREDICTED = "#cc79a7"
REFERENCE = "#7b8290"
"""Lines to compare with: the error of always predicting the mean, the diagonal of perfect predictions."""
SERIES = ("#7a6fc4", "#8a7a00", "#2c8c99", "#a8577e", "#6b8e23", "#9c6b4a")
"""Other series, such as the weights, in their order; they repeat if there are more."""
DRIFT, LOST, RESTART = "#c1446a", "#b8860b", REFERENCE
