"""Write the .npz files beside this script: what PyTorch's own RNN and LSTM layers return.

Run ``python -m tests.data.make_torch`` from the root of the repository, with PyTorch 2.13. The
tests read only the files, so that they run without PyTorch.

Every file holds, in float64 and under the names and in the layout of fastrnn (features, batch,
time): the parameters, the inputs, the outputs, and the gradients of two losses,

- ``hidden/d*``: ``sum(a * da)``; in the cell's file ``sum(a_next * da_next + c_next * dc_next)``;
- ``head/d*``: the mean cross-entropy of the predictions and ``labels (m, T)``, which passes
  through the softmax head. The cell's file has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.problems import Array, lstm_problem, normal, rnn_problem

# (n_x, n_a, m, T, n_y): the sizes of the course; one of everything; hidden units that fill no
# whole number of vectors; more inputs than hidden units, a single example, a longer sequence.
SIZES = ((3, 5, 10, 4, 2), (1, 1, 1, 1, 1), (2, 17, 3, 5, 4), (11, 8, 1, 13, 3))

LSTM_GATES = "Wi", "Wf", "Wc", "Wo"  # in the order in which torch stacks them


def leaf(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.copy()).requires_grad_()


def layer_weights(parameters: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """A torch layer's weight_ih, weight_hh, bias_ih, bias_hh, as functions of our parameters."""
    if "Waa" in parameters:
        ba = parameters["ba"][:, 0]
        return [parameters["Wax"], parameters["Waa"], ba, torch.zeros_like(ba)]
    n_a = len(parameters["Wf"])
    W = torch.cat([parameters[key] for key in LSTM_GATES])
    b = torch.cat([parameters[key.replace("W", "b")][:, 0] for key in LSTM_GATES])
    return [W[:, n_a:], W[:, :n_a], b, torch.zeros_like(b)]


def call(layer: nn.Module, parameters: dict[str, torch.Tensor], *inputs: Any) -> Any:
    """The layer on these inputs with our parameters in the place of its own."""
    names = [name for name, _ in layer.named_parameters()]
    weights = dict(zip(names, layer_weights(parameters), strict=True))
    return torch.func.functional_call(layer, weights, inputs)


def gradients(kind: str, loss: torch.Tensor, leaves: dict[str, torch.Tensor]) -> dict[str, Array]:
    found = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
    return {
        f"{kind}/d{key}": gradient.numpy()
        for key, gradient in zip(leaves, found, strict=True)
        if gradient is not None
    }


def sequence(cell: str, n_x: int, n_a: int, m: int, T: int, n_y: int) -> dict[str, Any]:
    problem = (rnn_problem if cell == "rnn" else lstm_problem)(n_x, n_a, m, T, n_y, seed=n_a)
    weights = {key: leaf(array) for key, array in problem.parameters.items()}
    leaves = {"x": leaf(problem.x), "a0": leaf(problem.a0), **weights}
    labels = np.random.default_rng(n_a).integers(n_y, size=(m, T))

    x, a0 = leaves["x"].permute(2, 1, 0), leaves["a0"].T[None]
    if cell == "rnn":
        h, _ = call(nn.RNN(n_x, n_a).double(), weights, x, a0)
    else:
        h, (_, c_last) = call(nn.LSTM(n_x, n_a).double(), weights, x, (a0, torch.zeros_like(a0)))
    a = h.permute(2, 1, 0)
    W = weights["Wya" if cell == "rnn" else "Wy"]
    z = nn.functional.linear(h, W, weights["by"][:, 0]).permute(2, 1, 0)
    y = torch.softmax(z, dim=0)
    cross_entropy = nn.functional.cross_entropy(z.movedim(0, 1), torch.from_numpy(labels))

    arrays = {
        **problem.parameters,
        "x": problem.x,
        "a0": problem.a0,
        "da": problem.da,
        "labels": labels,
        "a": a.detach().numpy(),
        "y": y.detach().numpy(),
        **gradients("hidden", (a * torch.from_numpy(problem.da)).sum(), leaves),
        **gradients("head", cross_entropy, leaves),
    }
    if cell == "lstm":
        arrays["c_last"] = c_last[0].T.detach().numpy()
    return arrays


def lstm_cell(n_x: int, n_a: int, m: int) -> dict[str, Any]:
    problem = lstm_problem(n_x, n_a, m, T=1, seed=n_a)
    inputs = {"xt": problem.x[:, :, 0], "a_prev": problem.a0, "c_prev": normal((n_a, m), seed=1)}
    upstream = {"da_next": problem.da[:, :, 0], "dc_next": normal((n_a, m), seed=2)}
    weights = {key: leaf(array) for key, array in problem.parameters.items()}
    leaves = {**{key: leaf(array) for key, array in inputs.items()}, **weights}

    xt, a_prev, c_prev = (leaves[key].T for key in inputs)
    h, c = call(nn.LSTMCell(n_x, n_a).double(), weights, xt, (a_prev, c_prev))
    da_next, dc_next = (torch.from_numpy(array.copy()).T for array in upstream.values())
    loss = (h * da_next + c * dc_next).sum()
    return {
        **problem.parameters,
        **inputs,
        **upstream,
        "a_next": h.T.detach().numpy(),
        "c_next": c.T.detach().numpy(),
        **gradients("hidden", loss, leaves),
    }


def main() -> None:
    folder = Path(__file__).parent
    for cell in ("rnn", "lstm"):
        for sizes in SIZES:
            name = f"torch_{cell}_" + "_".join(map(str, sizes))
            np.savez_compressed(folder / name, **sequence(cell, *sizes))
    np.savez_compressed(folder / "torch_lstm_cell_2_17_3", **lstm_cell(2, 17, 3))


if __name__ == "__main__":
    main()
