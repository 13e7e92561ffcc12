"""Time the whole zero-code run on real networks: ``python -m convlens.benchmarks.battery``.

Each network is tested in a process of its own, as ``pytest MODEL`` with default options. The
result is the Markdown of two tables: what each run took, and the seconds of each check. With
``--chains`` chains of 2 to 64 convolutions show how the time grows with depth.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from convlens.benchmarks.measure import slope
from convlens.benchmarks.tables import number
from convlens.pictures.synthetic import synthetic_images

SHIPPED = "mnist_cnn"
NETWORKS = ("EfficientNetB0", "ResNet50", "VGG19", "DenseNet121")
CHAINS = (8, 16, 32, 64)
# What a process takes whatever it tests is that of a chain of so many convolutions.
_BASE = 2
# Every third synthetic image sets the statistics, so that each kind takes part.
_SIDE, _EVERY = 224, 3


@dataclass(frozen=True)
class BatteryRun:
    """A process that tested one network.

    Attributes:
        name: name of the network.
        seconds: time from its start to its end.
        cpu_seconds: time of all its threads, and of the system for it.
        peak_mib: the most resident memory that it had.
        outcomes: outcome → number of items, such as 'passed'.
        checks: check → seconds of all its items.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    outcomes: Mapping[str, int]
    checks: Mapping[str, float]


def run_battery(name: str, target: Sequence[str], options: Sequence[str] = ()) -> BatteryRun:
    """Run pytest on a model in a process of its own, and return what it took.

    Args:
        name: name of the network.
        target: arguments that name the model, such as a path.
        options: further options of pytest.

    Raises:
        RuntimeError: pytest could not run the items; failed items are counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        # An empty folder has neither baselines nor a user's configuration.
        results, log = Path(folder) / "results.xml", Path(folder) / "log.txt"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [f"--junitxml={results}", *target, *options]
        with open(log, "wb") as out:
            begin = time.perf_counter()
            process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            raise RuntimeError(
                f"{name}: pytest ended with {process.returncode}:\n{log.read_text()}"
            )
        outcomes, checks = _outcomes(ElementTree.parse(results).iter("testcase"))
    # The kernel of macOS counts bytes, that of Linux KiB.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    cpu = used.ru_utime + used.ru_stime
    return BatteryRun(name, seconds, cpu, used.ru_maxrss / unit, outcomes, checks)


def _outcomes(cases: Iterable[Any]) -> tuple[dict[str, int], dict[str, float]]:
    """Return the number of items of each outcome, and the seconds of each check."""
    outcomes: dict[str, int] = {}
    checks: dict[str, float] = {}
    for case in cases:
        tags = {child.tag for child in case}
        failed = tags & {"failure", "error"}
        outcome = "failed" if failed else "skipped" if "skipped" in tags else "passed"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        check = case.get("name", "").split("[")[0]
        checks[check] = checks.get(check, 0.0) + float(case.get("time", 0))
    return outcomes, checks


def application(name: str) -> Any:
    """Return a network of keras.applications at 224×224 with random weights.

    The statistics of its batch normalizations are those of synthetic images, as after training.
    """
    import keras

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None)
    draw = synthetic_images((_SIDE, _SIDE, 3))[::_EVERY]
    norms = [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(draw, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def chain(length: int) -> Any:
    """Return a network of `length` convolutions, one after another, with random weights."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            *(
                layers.Conv2D(
                    16, 3, padding="same", activation="relu", kernel_initializer="he_normal"
                )
                for _ in range(length)
            ),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ],
        name=f"chain_{length}",
    )


def depth_slope(runs: Mapping[int, BatteryRun]) -> float:
    """Return the slope of log(seconds) over log(convolutions), both less those of the shortest.

    It is 1 if each convolution costs as much as any other.

    Args:
        runs: number of convolutions → run.
    """
    base, *sizes = sorted(runs)
    taken = [max(1e-3, runs[size].seconds - runs[base].seconds) for size in sizes]
    return slope([size - base for size in sizes], taken)


def totals(runs: Sequence[BatteryRun]) -> str:
    """Return the table of what the runs took, in Markdown."""
    head = ("network, default options", "seconds", "CPU seconds", "peak MiB", "items")
    lines = [
        (
            run.name,
            number(run.seconds),
            number(run.cpu_seconds),
            f"{run.peak_mib:.0f}",
            ", ".join(f"{count} {outcome}" for outcome, count in sorted(run.outcomes.items())),
        )
        for run in runs
    ]
    return _table(head, lines)


def breakdown(runs: Sequence[BatteryRun]) -> str:
    """Return the table of the seconds of each check, in Markdown.

    What several checks share, such as the survey, counts for the first of them.
    """
    names = list(dict.fromkeys(check for run in runs for check in run.checks))
    lines = [
        (name, *(number(run.checks.get(name)) for run in runs))
        for name in names
        if any(run.checks.get(name, 0) >= 0.05 for run in runs)
    ]
    rest = [run.seconds - sum(run.checks.values()) for run in runs]
    lines.append(("import, loading, collection", *map(number, rest)))
    return _table(("seconds of", *(run.name for run in runs)), lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the battery on the networks that were named, and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m convlens.benchmarks.battery", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "networks",
        nargs="*",
        metavar="NETWORK",
        help=f"{SHIPPED}, networks of keras.applications, and paths of models; "
        f"{', '.join([SHIPPED, *NETWORKS])} unless any is named",
    )
    parser.add_argument("--chains", action="store_true", help="also run chains of convolutions")
    parser.add_argument(
        "-k", metavar="EXPRESSION", help="run only items that match, as pytest's -k does"
    )
    given = parser.parse_args(arguments)
    options = [] if given.k is None else ["-k", given.k]
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for name in given.networks or ([] if given.chains else [SHIPPED, *NETWORKS]):
            print(f"{name} …", file=sys.stderr, flush=True)
            runs.append(run_battery(Path(name).stem, _target(name, Path(folder)), options))
        if runs:
            print(totals(runs), breakdown(runs), sep="\n")
        if given.chains:
            print(_chains(Path(folder), options))
    return 0


def _target(name: str, folder: Path) -> list[str]:
    """Return the arguments that name a model; a network of keras.applications is written first."""
    if name == SHIPPED:
        return ["--convlens", SHIPPED]
    if Path(name).suffix:
        return [str(Path(name).resolve())]
    return [_saved(application(name), folder / f"{name}.keras")]


def _saved(model: Any, path: Path) -> str:
    model.save(path)
    return str(path)


def _chains(folder: Path, options: Sequence[str]) -> str:
    runs = {}
    for length in (_BASE, *CHAINS):
        name = f"chain of {length}"
        print(f"{name} …", file=sys.stderr, flush=True)
        target = _saved(chain(length), folder / f"chain_{length}.keras")
        runs[length] = run_battery(name, [target], options)
    found = totals(list(runs.values()))
    return f"{found}\nSlope over depth, less the chain of {_BASE}: {depth_slope(runs):.2f}\n"


if __name__ == "__main__":
    raise SystemExit(main())
