"""The rounds of an ascent: all objectives once, then again those that did not rise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.engine.ascent.climb import Chunk, Climb
from convlens.engine.ascent.starts import common_starts, tiled_starts
from convlens.engine.model.footprint import bytes_an_image
from convlens.engine.runtime import backend
from convlens.engine.runtime.memory import Part, parts_within

# A rise of this share of the activation, or less, is no rise.
_RISE = 1e-3


@dataclass(frozen=True)
class Climbed:
    """The climbed images and their traces.

    Attributes:
        images: (n, h, w, c) the images to return.
        start: (n, h, w, c) the images at the start.
        trace: (k, n) the objectives' values.
        trace_steps: (k,) number of steps taken before each row of `trace`.
        steps_taken: (n,) number of steps of each image.
        path_length: (n,) sum of the L2 lengths of the steps.
    """

    images: NDArray[np.float32]
    start: NDArray[np.float32]
    trace: NDArray[np.float32]
    trace_steps: NDArray[np.int64]
    steps_taken: NDArray[np.int64]
    path_length: NDArray[np.float32]

    @property
    def not_risen(self) -> NDArray[np.int64]:
        """The numbers of the images that excite their units no more than the start did."""
        first, last = self.trace[0], self.trace[-1]
        size = np.maximum(np.abs(first), np.abs(last))
        return np.flatnonzero(last - first <= _RISE * size)

    def with_members(self, index: NDArray[np.int64], others: Climbed) -> Climbed:
        """Return a copy in which some images, (m,), are those of a second ascent.

        One that had not risen before gets the second ascent's start and trace. One that had risen
        keeps its start, and the first row of its trace, from which it rose; its path is that of
        both ascents.
        """
        first = ~np.isin(index, self.not_risen)
        start, trace = others.start.copy(), others.trace.copy()
        start[first], trace[0, first] = self.start[index[first]], self.trace[0, index[first]]
        path_length = others.path_length + np.where(first, self.path_length[index], 0)
        steps_taken = others.steps_taken + np.where(first, self.steps_taken[index], 0)
        changed: dict[str, NDArray[Any]] = {
            "images": others.images,
            "start": start,
            "steps_taken": steps_taken,
            "path_length": path_length,
        }
        for name, values in changed.items():
            whole = getattr(self, name).copy()
            whole[index] = values
            changed[name] = whole
        whole_trace = self.trace.copy()
        whole_trace[:, index] = trace
        trace_steps = np.maximum(self.trace_steps, others.trace_steps)
        return replace(self, trace=whole_trace, trace_steps=trace_steps, **changed)

    def members(self, index: NDArray[np.bool_]) -> Climbed:
        """Return some of the images with their traces."""
        return replace(
            self,
            images=self.images[index],
            start=self.start[index],
            trace=self.trace[:, index],
            steps_taken=self.steps_taken[index],
            path_length=self.path_length[index],
        )


class Rounds:
    """An ascent of all objectives, in parts that fit the memory.

    Attributes:
        climbed: the finished images; None before the first round has ended.
    """

    def __init__(
        self, climb: Climb, copies: int, groups: NDArray[np.int32] | None, budget: int
    ) -> None:
        """Prepare an ascent.

        Args:
            climb: the objectives and options.
            copies: number of consecutive objectives that must stay together.
            groups: (n,) group numbers of the objectives, whose images are kept different; or None.
            budget: limit in bytes for a part.
        """
        self.climb = climb
        self.copies = copies
        self.groups = groups
        self.budget = budget
        self.climbed: Climbed | None = None
        self._parts: list[Part] = []
        self._chunks: list[Chunk] = []
        self._start = np.zeros(0, np.float32)
        self._done = 0

    def first(self, z: NDArray[np.float32], report: Callable[[int, int], None]) -> Climbed:
        """Climb all objectives from the parameters z (n, h, w, c), and return the result."""
        self.climbed = self._climb(z, np.arange(len(z)), self.copies, report)
        return self.climbed

    def again(
        self,
        climbed: Climbed,
        further: NDArray[np.float32],
        everyone: bool,
        report: Callable[[int, int], None],
    ) -> Climbed:
        """Climb the objectives that did not rise, or began silent, from images made to excite them.

        Each starts at the image, of `common_starts`, the further ones and its own
        `tiled_starts`, on which its value is the highest, or, where it is silent on all, its
        pre-activation. One that did not rise starts only if that is more than its own image
        reached. Each keeps the better one of its two results. One that ends at 0 or below counts
        as silent too, if its activation falls silent there.

        Args:
            climbed: the result of the first round.
            further: (m, h, w, c) images of the model's own kind.
            everyone: True to climb all objectives a second time.
            report: callback, called with (steps done, total steps).

        Returns:
            The first round's result with the images that ended higher in the second.
        """
        scores, options = self.climb.scores, self.climb.options
        silent = (climbed.trace[0] == 0) | (climbed.trace[-1] <= 0)
        silent &= scores.may_wake.any(axis=1) & (options.waking > 0)
        risen = np.ones(len(silent), bool)
        risen[climbed.not_risen] = False
        weak = np.flatnonzero(silent | ~risen | everyone)
        if not len(weak):
            return climbed
        space, seed = self.climb.space, self.climb.seed
        shape = climbed.images.shape[1:]
        low_high = space.value_range
        common = [*common_starts(shape, low_high, seed), further]
        tiles = self._tiles(climbed.start[weak], weak, common)
        each = np.concatenate([tiles, climbed.images[weak, None]], axis=1)
        # For each objective the common images, its tiles, and what it has reached.
        reached = self._excitement(common, each, weak)
        order = np.argsort(-reached[:, :-1], axis=1, kind="stable")
        rows = np.arange(len(weak))
        best = order[rows, weak % self.copies]  # the copies of a unit start at different images
        own = np.where(risen[weak], -np.inf, reached[:, -1])
        better = reached[rows, best] > own + _RISE * np.abs(reached[:, -1])
        if not better.any():
            return climbed
        index = weak[better]
        seen = np.concatenate(common)
        start = np.stack(
            [
                seen[i] if i < len(seen) else each[row, i - len(seen)]
                for row, i in zip(rows[better], best[better], strict=True)
            ]
        )
        found = self._climb(space.encode(start), index, 1, report, across=True)
        higher = found.trace[-1] > climbed.trace[-1, index]
        self.climbed = climbed.with_members(index[higher], found.members(higher))
        return self.climbed

    def gently(self, climbed: Climbed, report: Callable[[int, int], None]) -> Climbed:
        """Climb the objectives that have still not risen by small steps on the image itself.

        Large steps lose what is highest where much of the network is silent. Each starts at the
        image, of all that were found, on which its value is the highest.

        Args:
            climbed: the result of the rounds before.
            report: callback, called with (steps done, total steps).
        """
        weak = climbed.not_risen
        if not len(weak) or self.copies > 1 or self.climb.options.kept != "measured":
            return climbed
        values = self.climb.scores.table([climbed.images], common=False)[weak]
        values[np.arange(len(weak)), weak] = climbed.trace[-1, weak]
        start = climbed.images[np.nan_to_num(values, nan=-np.inf).argmax(axis=1)]
        found = self._climb(self.climb.space.encode(start), weak, 1, report, gentle=True)
        higher = found.trace[-1] > climbed.trace[-1, weak]
        self.climbed = climbed.with_members(weak[higher], found.members(higher))
        return self.climbed

    def _tiles(
        self,
        images: NDArray[np.float32],
        index: NDArray[np.int64],
        common: Sequence[NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """Return the `tiled_starts` of some objectives.

        Args:
            images: (n, h, w, c) where each objective is linearized.
            index: (n,) numbers of the objectives.
            common: parts of further images. An objective without a gradient at its own is
                linearized at the one of them on which its value differs most from that on its own.
        """
        scores, space = self.climb.scores, self.climb.space
        gradient = self._gradients(images, index)
        flat = np.flatnonzero(~gradient.reshape(len(gradient), -1).any(axis=1))
        if len(flat):
            values = scores.excitement(common, index[flat], common=True)
            own = scores.excitement([images[flat]], index[flat]).diagonal()
            far = np.abs(values - own[:, None]).argmax(axis=1)
            gradient[flat] = self._gradients(np.concatenate(common)[far], index[flat])
        return tiled_starts(gradient, space.value_range)

    def _gradients(
        self, images: NDArray[np.float32], index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the gradient of each objective at one position, on an image of each."""
        parts = []
        for part in self._within_budget(len(index), images.shape[1:], devices=1):
            numbers = part.index[: part.count]
            parts.append(self.climb.scores.filters(images[numbers], index[numbers]))
        return np.concatenate(parts)

    def _excitement(
        self,
        common: Sequence[NDArray[np.float32]],
        each: NDArray[np.float32],
        index: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return how near images are to exciting some objectives, see `Scores.excitement`.

        Args:
            common: parts, of m images in all, for all objectives.
            each: (n, k, h, w, c) images for each objective.
            index: (n,) numbers of the objectives.

        Returns:
            (n, m + k).
        """
        n, k = each.shape[:2]
        scores = self.climb.scores
        found = scores.excitement(common, index, common=True)
        own = scores.excitement([each.reshape(-1, *each.shape[2:])], index)
        own = own.reshape(n, n, k)[np.arange(n), np.arange(n)]
        return np.concatenate([found, own], axis=1)

    def finished(self) -> Climbed | None:
        """Return what was finished when an interruption came; None if nothing was.

        That is the first round once it has ended, else its finished parts, else its first part
        after the steps taken so far.
        """
        if self.climbed is not None:
            return self.climbed
        chunks = self._chunks
        if len(chunks) > 1 and not chunks[-1].ended:
            chunks = chunks[:-1]
        if not chunks or not chunks[0].trace:
            return None
        if not chunks[0].ended:
            self.climb.finish(chunks[0], self._parts[0].index)
        return self._join(chunks)

    def _climb(
        self,
        z: NDArray[np.float32],
        index: NDArray[np.int64],
        together: int,
        report: Callable[[int, int], None],
        gentle: bool = False,
        across: bool = False,
    ) -> Climbed:
        """Climb some objectives from the parameters z; see `Climb.run`."""
        climb = self.climb
        self._parts = self._within_budget(len(z), z.shape[1:], together)
        self._chunks, self._start = [], z
        before, steps = self._done, climb.options.steps
        total = before + steps * len(self._parts)
        for part in self._parts:
            chunk = climb.begin(z[part.index])
            self._chunks.append(chunk)
            climb.run(
                chunk,
                index[part.index],
                self._groups_of(part, index),
                lambda taken: report(self._done + taken, total),
                gentle,
                across,
            )
            self._done += steps
        return self._join(self._chunks)

    def _within_budget(
        self, count: int, shape: tuple[int, ...], together: int = 1, devices: int | None = None
    ) -> list[Part]:
        """Return parts of `count` images of a shape (h, w, c) that fit the memory.

        They fit on all devices of the network's distribution, or on so many.
        """
        network = self.climb.network
        return parts_within(
            self.budget,
            count,
            bytes_an_image(network, self.climb.scores.layers, shape),
            together=together,
            devices=devices or backend.distribution_size(network.distribution),
        )

    def _groups_of(self, part: Part, index: NDArray[np.int64]) -> NDArray[np.int32] | None:
        """Return a part's group numbers; each padding member gets a group of its own."""
        if self.groups is None:
            return None
        own = self.groups[index[part.index]]
        own[part.count :] = -1 - np.arange(len(own) - part.count)
        return own

    def _join(self, chunks: list[Chunk]) -> Climbed:
        """Return the state of the first parts as one."""
        pairs = [(c, part.count) for c, part in zip(chunks, self._parts, strict=False)]
        z = self._start[: sum(count for _, count in pairs)]
        space = self.climb.space
        return Climbed(
            images=np.concatenate([self.climb.images(c)[:count] for c, count in pairs]),
            start=z if space.is_plain else np.asarray(space.decode(z)),
            trace=np.concatenate([np.stack(c.trace)[:, :count] for c, count in pairs], axis=1),
            trace_steps=np.max([c.trace_steps for c, _ in pairs], axis=0),
            steps_taken=np.repeat([c.taken for c, _ in pairs], [count for _, count in pairs]),
            path_length=np.concatenate([np.asarray(c.carry[1])[:count] for c, count in pairs]),
        )
