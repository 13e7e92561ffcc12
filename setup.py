"""Name the packages, two of which lie beside plugin/, and make the links of the README absolute."""

import re
import tomllib
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
BESIDE = ("fixtures", "benchmarks")
# A link or a picture of the README that lies in the repository: ](path), but not ](https://…).
_RELATIVE = re.compile(r"(!?)\[([^\[\]]*)\]\((?![a-z]+://|#)([^)\s]+)\)")


def readme() -> str:
    """Return the README with absolute links, because a package index has none of its files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project["urls"]["Source"]
    pictures = source.replace("https://github.com/", "https://raw.githubusercontent.com/")

    def absolute(link: re.Match[str]) -> str:
        picture, text, path = link.groups()
        place = f"{pictures}/main/{path}" if picture else f"{source}/blob/main/{path}"
        return f"{picture}[{text}]({place})"

    return _RELATIVE.sub(absolute, (ROOT / "README.md").read_text(encoding="utf-8"))


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    packages=[
        *find_packages("plugin"),
        *(
            f"convlens.{name}"
            for name in find_packages(include=[*BESIDE, *(f"{b}.*" for b in BESIDE)])
        ),
    ],
)
