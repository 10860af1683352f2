"""What a prompted model prefers whatever the text is, taken off its answers.

Log-probabilities are (..., templates, labels); offsets (templates, labels) are subtracted from them.
"""

import numpy


def log_probabilities(scores: numpy.ndarray, offsets: numpy.ndarray | float = 0.0) -> numpy.ndarray:
    """ln p of each label among all of them: log-softmax of the scores less the offsets, over the last axis."""
    from scipy.special import log_softmax

    return log_softmax(numpy.asarray(scores, numpy.float64) - offsets, axis=-1)


def contextual(of_free: numpy.ndarray) -> numpy.ndarray:
    """Offsets by which texts without content are answered with each label alike: p'(label) = p(label) / p_cf(label),
    made to sum to one, with p_cf the mean over such texts.

    Args:
        of_free: Their log-probabilities, (texts, templates, labels).

    Source: Zhao et al. 2021, "Calibrate Before Use: Improving Few-Shot Performance of Language Models", section 4.
    """
    from scipy.special import logsumexp

    return logsumexp(of_free, axis=0) - numpy.log(len(of_free))


def train_median(of_train: numpy.ndarray) -> numpy.ndarray:
    """Offsets by which half of these texts are answered with each of two labels: the threshold is the median of their
    log-odds, ln p(label 1) - ln p(label 0). It takes the two to be equally frequent.

    Args:
        of_train: Log-probabilities of training texts, (texts, templates, 2); their labels are not looked at.
    """
    medians = numpy.median(of_train[..., 1] - of_train[..., 0], axis=0)
    return numpy.stack([numpy.zeros_like(medians), medians], -1)
