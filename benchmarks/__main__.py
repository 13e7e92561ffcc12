"""Ratios from one run, the contestants taking turns: ``python -m convlens.benchmarks``.

Machines are noisy; what is compared is timed in turn, A B C A B C …, and each round gives a ratio
of its own. The peer, being slow, takes part in the first two rounds.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convlens import Network, maximize
from convlens.benchmarks.peers import bare_passes, tf_keras_vis
from convlens.fixtures.mnist_cnn import load_mnist_cnn

LAYER, STEPS, PEER_ROUNDS = "conv2d_3", 300, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the ascent of 64 filters against its limit and a peer, and print the ratios."""
    parser = argparse.ArgumentParser(prog="python -m convlens.benchmarks")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    rounds = parser.parse_args(arguments).rounds
    import keras
    import tensorflow as tf

    model = load_mnist_cnn()
    start = maximize(model, LAYER, steps=1).start
    network = Network(model)
    contestants: dict[str, Callable[[], Any]] = {
        "bare passes": bare_passes(model, LAYER, start, STEPS),
        "convlens": lambda: maximize(network, LAYER, steps=STEPS),
        "convlens, tracing included": lambda: maximize(model, LAYER, steps=STEPS),
    }
    for warm in contestants.values():
        warm()
    try:
        contestants["tf-keras-vis"] = tf_keras_vis(model, LAYER, start, STEPS)
    except ImportError:
        print("tf-keras-vis is not installed: pip install 'pytest-convlens[peers]'")
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, run in contestants.items():
            if name != "tf-keras-vis" or turn < PEER_ROUNDS:
                begin = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - begin)
    print(f"{len(start)} filters of {LAYER}, {STEPS} steps, one batch of {start.shape[1:]} images")
    print(
        f"{platform.machine()}, {tf.config.threading.get_intra_op_parallelism_threads() or 'all'} "
        f"threads, TensorFlow {tf.__version__}, Keras {keras.__version__}"
    )
    for name, taken in times.items():
        line = f"{name:28}{np.median(taken):8.2f} s ({min(taken):.2f} to {max(taken):.2f})"
        for other in ("bare passes", "tf-keras-vis"):
            if other in times and other != name:
                pairs = [a / b for a, b in zip(taken, times[other], strict=False)]
                line += f"   {np.median(pairs):.3g} of {other}"
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
