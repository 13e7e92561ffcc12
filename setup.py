"""Name the packages, so that none falls out of the wheel: two of them lie beside plugin/."""

from setuptools import find_packages, setup

BESIDE = ("fixtures", "benchmarks")

setup(
    packages=[
        *find_packages("plugin"),
        *(
            f"convlens.{name}"
            for name in find_packages(include=[*BESIDE, *(f"{b}.*" for b in BESIDE)])
        ),
    ]
)
