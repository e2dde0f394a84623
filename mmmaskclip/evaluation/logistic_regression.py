"""Logistic regression by L-BFGS, computed by several processes, each with a share of the samples."""

from collections.abc import Callable

import torch
from mmengine.dist import all_reduce, broadcast, get_rank, get_world_size
from torch import Tensor
from torch.nn import functional as F

# Number of rows whose logits are held at once.
_BLOCK = 65536


class LogisticRegression:
    """L2-regularized logistic regression of some samples, as scikit-learn's class of this name defines and solves it.

    The optimum minimizes ``c * sum of the cross entropies + half the squared weights``; the bias is not penalized.
    scikit-learn itself works in one process. On ImageNet's features that takes longer than the other processes may wait
    in a collective. Here every process computes loss and gradient of its share of the samples. Rank 0 alone runs
    scipy's L-BFGS-B, with scikit-learn's settings, and sends every point to the others, because processes that round
    differently could take different numbers of steps.

    Args:
        features: (N, C), the same on every process. Their device computes.
        labels: int64 (N,), numbered from 0 to ``num_classes - 1``.
        num_classes: K, at least 2. Two classes share one row of weights, for the logit of the second over the first.
    """

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int) -> None:
        share = slice(get_rank(), None, get_world_size())
        self.features, self.labels = features[share].double(), labels[share].to(features.device)
        self.num_samples, self.rows = len(features), 1 if num_classes == 2 else num_classes

    def fit(self, c: float, max_iter: int) -> Tensor:
        """Find the optimum. Collective.

        Args:
            c: Inverse of the penalty.
            max_iter: Largest number of steps of L-BFGS.

        Returns:
            float64 (K, C + 1), for two classes (1, C + 1): weights and bias, on every process, on the features' device.
        """
        start = self.features.new_zeros(self.rows, self.features.shape[1] + 1)
        penalty = 1 / (c * self.num_samples)
        found = minimize_on_all(
            lambda head: self._loss_and_gradient(head.view_as(start), penalty), start.flatten(), max_iter
        )
        return found.view_as(start)

    def _loss_and_gradient(self, head: Tensor, penalty: float) -> Tensor:
        """Mean cross entropy with the penalty, and its gradient, over all processes: (1 + head.numel(),)."""
        loss, gradient = head.new_zeros(1), torch.zeros_like(head)
        for features, labels in zip(self.features.split(_BLOCK), self.labels.split(_BLOCK), strict=True):
            logits = F.linear(features, head[:, :-1], head[:, -1])  # (n, K)
            if self.rows == 1:
                loss += (F.softplus(logits[:, 0]) - labels * logits[:, 0]).sum()
                wrong = logits.sigmoid() - labels[:, None]
            else:
                log_probabilities = logits.log_softmax(1)
                loss -= log_probabilities.gather(1, labels[:, None]).sum()
                wrong = log_probabilities.exp()
                wrong[torch.arange(len(wrong), device=wrong.device), labels] -= 1
            gradient[:, :-1] += wrong.T @ features
            gradient[:, -1] += wrong.sum(0)
        result = torch.cat((loss, gradient.flatten()))
        all_reduce(result)
        result /= self.num_samples
        weights = F.pad(head[:, :-1], (0, 1))
        result[0] += penalty / 2 * weights.square().sum()
        result[1:] += penalty * weights.flatten()
        return result


def minimize_on_all(evaluate: Callable[[Tensor], Tensor], start: Tensor, max_iter: int) -> Tensor:
    """Minimize a function that all processes compute together, by L-BFGS on rank 0. Collective.

    Args:
        evaluate: Gives value and gradient (1 + n,) at a point (n,); called on all processes with the same point.
        start: float64 (n,).
        max_iter: Largest number of steps.

    Returns:
        float64 (n,), the same bits on every process.
    """
    # A local import: scipy takes a second, and other runs do not need it.
    from scipy.optimize import minimize

    # Rank 0's message to the others: whether to continue, and the next point.
    message = torch.cat((start.new_ones(1), start))

    def ask(point: object) -> tuple[float, object]:
        message[1:] = torch.as_tensor(point)
        broadcast(message)
        result = evaluate(message[1:]).cpu().numpy()
        return float(result[0]), result[1:]

    if get_rank() == 0:
        # The settings of scikit-learn's solver 'lbfgs'.
        options = dict(maxiter=max_iter, maxls=50, gtol=1e-4, ftol=64 * torch.finfo(torch.float64).eps)
        found = minimize(ask, start.cpu().numpy(), method='L-BFGS-B', jac=True, options=options)
        message[0], message[1:] = 0, torch.as_tensor(found.x)
        broadcast(message)
        return message[1:]
    while True:
        broadcast(message)
        if not message[0]:
            return message[1:]
        evaluate(message[1:])
