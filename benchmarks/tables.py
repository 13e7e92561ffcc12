"""Format the figures as tables for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convlens.benchmarks.measure import Info

HEAD = ("case", "seconds", "steps/s", "images/s", "GFLOP/s", "of peak", "tracing s", "MiB", "ratio")


def rows(figures: Iterable[Info]) -> list[tuple[str, ...]]:
    """Return one row per case with the columns of `HEAD`: medians, and ratios with quartiles."""
    return [
        (
            info["case"],
            number(info["seconds"][info["ours"]]["median"]),
            number(info.get("steps_per_second")),
            number(info["images_per_second"]),
            number(info.get("gflop_per_second")),
            percent(info.get("peak_fraction")),
            number(info.get("tracing_seconds")),
            _memory(info),
            ", ".join(comparisons(info)),
        )
        for info in figures
    ]


def comparisons(info: Info) -> list[str]:
    """Return our time relative to each reference, such as '1.06 (1.04–1.09) of bare passes'."""
    if "series" in info:
        return [f"slope {info['series']['slope']:.2f} over {info['series']['label']}"]
    against = [
        f"{r['median']:.3g} ({r['q1']:.3g}–{r['q3']:.3g}) of {other}"
        for other, r in info["ratios"][info["ours"]].items()
    ]
    return [*against, *(f"{other} gave no valid result" for other in info.get("left", {}))]


def terminal_table(figures: Sequence[Info]) -> list[str]:
    """Return the lines of a table whose columns fit their contents."""
    cells = [HEAD, *rows(figures)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEAD) - 1)]
    return [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:], strict=True)),
                line[-1],
            ]
        )
        for line in cells
    ]


def markdown(figures: Sequence[Info]) -> str:
    """Return the table in Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *rows(figures)]
    return "".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines
    )


def _memory(info: Info) -> str:
    """Return the peak memory of the process and, if known, of the accelerator."""
    if "host_MiB" not in info:
        return number(None)
    device = info["device_MiB"]
    return f"{info['host_MiB']:.0f}" + ("" if device is None else f" + {device:.0f}")


def number(value: float | None) -> str:
    """Return a number with three significant digits, or – for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time with its unit."""
    return f"{number(seconds * 1000)} ms" if seconds < 0.1 else f"{number(seconds)} s"


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage, or – for None."""
    return "–" if fraction is None else f"{100 * fraction:.0f} %"
