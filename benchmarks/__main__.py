"""Show a stored run as a table or page: ``python -m convlens.benchmarks RUN.json``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from convlens.benchmarks.page import write_page
from convlens.benchmarks.tables import markdown, terminal_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a stored run's table, or write its page."""
    parser = argparse.ArgumentParser(
        prog="python -m convlens.benchmarks",
        description="Show a stored run. To run the benchmarks: pytest --pyargs convlens.benchmarks",
    )
    parser.add_argument(
        "run", type=Path, help="JSON file from --benchmark-json or --benchmark-autosave"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--page", type=Path, help="write an HTML page")
    given = parser.parse_args(arguments)
    try:
        run = json.loads(given.run.read_text(encoding="utf-8"))
        figures = [b["extra_info"] for b in run["benchmarks"] if "case" in b["extra_info"]]
        machine, when = run["machine_info"]["convlens"], datetime.fromisoformat(run["datetime"])
    except OSError as error:
        parser.error(f"{given.run} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        parser.error(f"{given.run} is not a run of the suite: make one with --benchmark-json FILE")
    if given.page:
        write_page(given.page, figures, machine, when)
    print(markdown(figures) if given.markdown else "\n".join(terminal_table(figures)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
