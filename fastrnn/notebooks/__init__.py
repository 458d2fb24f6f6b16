"""Five teaching notebooks, function by function, on the compiled functions of fastrnn.

Each module offers the functions of one notebook with its names, argument names and order, return
order, cache layout, dictionary keys, shapes and values:

====================  ==============================================================
`full_rnn`            the RNN in the names that `fastrnn` itself uses
`step_by_step`        the RNN with the keys ``W_ax``, ``W_aa``, ``W_ya``, ``b_a``, ``b_y``
`from_scratch`        the RNN, and the LSTM forward
`compact`             the RNN whose cell returns ``(yt_pred, cache)``
`exercise`            the RNN of a course exercise, with its own tanh and softmax
====================  ==============================================================

Where a notebook is mistaken, its module returns the mistaken values and says so with a
`NotebookErratumWarning`, once in a process for each mistake, at the moment when the mistake
shows in a result; the warning names the function of `fastrnn` that is right.

Values agree with the notebooks' within rounding. Three things are those of `fastrnn`: an argument
that does not fit raises an error that names it; float32 arrays give float32 results also where
the notebook puts them into float64 arrays; and the per-step caches of a sequence are views, made
when asked for, that a notebook's own code reads like its list. The backward functions take such
caches as well as lists of tuples.
"""

from . import compact, exercise, from_scratch, full_rnn, step_by_step
from ._shared import NotebookErratumWarning

__all__ = [
    "NotebookErratumWarning",
    "compact",
    "exercise",
    "from_scratch",
    "full_rnn",
    "step_by_step",
]
