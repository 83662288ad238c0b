"""The changes to Lightning's insides that it has no public switch for, all in one place.

`tests/training/test_lightning_compat.py` fails where a version of Lightning no longer has what is changed here.
"""

import lightning as L


def leave_signals_alone(trainer: L.Trainer) -> None:
    """Keep Lightning from handling signals, in `fit` and in the evaluations of this trainer.

    Its handler of SIGTERM sends to the other ranks from inside the signal, which can hang for good. Before each step it
    also asks all ranks whether there was a signal, and on a GPU waits for the answer.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
