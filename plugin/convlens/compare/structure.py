"""The graph of a model: which tensors are computed from which, up to those that have a partner.

A layer and its counterpart are computed from the same things. So the tensors that stand for the
layer's inputs are also those that its counterpart is computed from, with no other one between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

# Name of a tensor → names of those that its operation takes, of numbers that depend on the images.
Sources = Mapping[str, tuple[str, ...]]


class Structure:
    """The tensors of a graph, of which copies count as one."""

    def __init__(self, sources: Sources, is_copy: Callable[[str, str], bool]) -> None:
        """Note the graph.

        Args:
            sources: the graph.
            is_copy: returns whether a tensor has the values of its only source, in another
                shape or step.
        """
        self._sources: dict[str, tuple[str, ...]] = {}
        self._original: dict[str, str] = {}
        for name, inputs in sources.items():
            # A loop of a graph leads back to a later tensor.
            own = tuple(x for x in inputs if x in self._sources or x not in sources)
            self._sources[name] = own
            if len(own) == 1 and is_copy(name, own[0]):
                self._original[name] = self.original(own[0])

    def original(self, name: str) -> str:
        """Return the tensor that one is a copy of, or itself."""
        return self._original.get(name, name)

    def view(self, known: Collection[str]) -> View:
        """Return what tensors are computed from, up to known ones."""
        return View(self._sources, self._original, {self.original(name) for name in known})


class View:
    """Origins of the tensors of a graph, up to known tensors."""

    def __init__(
        self, sources: Sources, original: Mapping[str, str], known: Collection[str]
    ) -> None:
        self._sources, self._original, self._known = sources, original, known
        self._found: dict[str, frozenset[str]] = {}

    def origins(self, name: str) -> frozenset[str]:
        """Return the known tensors that one is computed from, without another one between."""
        ahead = [name]
        while ahead:
            current = ahead[-1]
            own = self._original.get(current, current)
            inputs = self._sources.get(current, ())
            if own in self._known:
                self._found[current] = frozenset((own,))
            elif all(each in self._found for each in inputs):
                self._found[current] = frozenset().union(*(self._found[x] for x in inputs))
            else:
                ahead += [each for each in inputs if each not in self._found]
                continue
            ahead.pop()
        return self._found[name]

    def between(self, name: str) -> set[str]:
        """Return the tensors that one is computed from, up to known ones, without these."""
        found: set[str] = set()
        ahead = [*self._sources.get(name, ())]
        while ahead:
            current = ahead.pop()
            if current in found or self._original.get(current, current) in self._known:
                continue
            found.add(current)
            ahead += self._sources.get(current, ())
        return found
