"""The teacher's probability of every label, from single-token requests: a best-first walk over the trie of the labels' tokens.

A label is the tokens of its text. Under the constraint "one of these labels" its probability is the product, over the nodes on its
path where the trie branches, of the probability of its token among the node's children. So one request of a single output token
at a node, with log-probabilities of the children, says how the node's mass divides; tokens where nothing branches cost nothing. The
prompts of all nodes share their beginning, which the engine's prefix cache holds.

`walk` asks for nodes in order of their mass. It is exact when every node was asked. With many labels it stops early: once the best
finished label has at least the mass of every open node, no other label can overtake it, and the rest divides what is left evenly
within each open node. So the most probable label and its probability are always exact.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evokd_data.errors import TeacherError

MAX_NODES = 16
"""Branching nodes that are asked even when the most probable label is known already: up to here all probabilities are exact."""

AskNode = Callable[[Sequence[int], Sequence[int]], Awaitable[Mapping[int, float] | None]]
"""(tokens after the prompt, children) -> log-probability of each child token; None when the engine gave no answer."""


@dataclass(slots=True)
class Node:
    """A prefix of labels' tokens. `labels` are the indices of the labels that begin so."""

    prefix: tuple[int, ...]
    labels: list[int] = field(default_factory=list)
    children: dict[int, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelScores:
    """`logprobs`: natural log-probability of each label, in order; they sum to 1. `requests`: nodes that were asked.

    `exact`: every branching node was asked. The most probable label's value is exact in any case.
    """

    logprobs: tuple[float, ...]
    requests: int
    exact: bool


class LabelTrie:
    """The trie of some labels, each given as its tokens.

    A label whose tokens begin another's ends where the other goes on: `end_token` is the child that stands for the end there.
    Raises TeacherError when two labels have the same tokens, or one has none.
    """

    def __init__(self, labels: Sequence[str], tokens: Sequence[Sequence[int]], end_token: int) -> None:
        paths = [tuple(path) for path in tokens]
        for label, path in zip(labels, paths, strict=True):
            if not path:
                raise TeacherError(f"the label {label!r} has no token in the teacher's vocabulary; rename it")
        for index, path in enumerate(paths):
            if path in paths[:index]:
                other = labels[paths.index(path)]
                raise TeacherError(
                    f"the labels {other!r} and {labels[index]!r} are the same tokens in the teacher's vocabulary; rename one"
                )
        ended = [(*path, end_token) if any(_begins(path, other) for other in paths) else path for path in paths]
        self.count = len(paths)
        self.depth = max(map(len, ended))
        """Tokens that a request may add to the prompt, its own output included."""
        self._root = Node(())
        for index, path in enumerate(ended):
            node = self._root
            node.labels.append(index)
            for depth, token in enumerate(path):
                node = node.children.setdefault(token, Node(path[: depth + 1]))
                node.labels.append(index)

    @property
    def branching_nodes(self) -> int:
        """Requests that an exact answer takes."""
        waiting, count = [self._root], 0
        while waiting:
            node = waiting.pop()
            count += len(node.children) > 1
            waiting.extend(node.children.values())
        return count

    async def walk(self, ask: AskNode, max_nodes: int = MAX_NODES) -> LabelScores | None:
        """Scores of all labels; None when the engine left a node without an answer.

        At most `max_nodes` nodes are asked, unless the most probable label is not known by then.
        """
        logprobs = [-math.inf] * self.count
        best = -math.inf
        # Ties go to the node found first: the walk is the same on every machine.
        waiting: list[tuple[float, int, Node]] = []
        order = requests = 0

        def reach(node: Node, mass: float) -> None:
            nonlocal best, order
            while len(node.children) == 1:
                (node,) = node.children.values()
            if node.children:
                heapq.heappush(waiting, (-mass, order, node))
                order += 1
            else:
                logprobs[node.labels[0]] = mass
                best = max(best, mass)

        reach(self._root, 0.0)
        while waiting and (requests < max_nodes or best < -waiting[0][0]):
            negative_mass, _, node = heapq.heappop(waiting)
            answer = await ask(node.prefix, tuple(node.children))
            requests += 1
            if answer is None:
                return None
            shares = normalised([answer.get(token, -math.inf) for token in node.children])
            if shares is None:
                return None
            for child, share in zip(node.children.values(), shares, strict=True):
                reach(child, share - negative_mass)
        for negative_mass, _, node in waiting:
            for index in node.labels:
                logprobs[index] = -negative_mass - math.log(len(node.labels))
        return LabelScores(tuple(logprobs), requests, exact=not waiting)


def _begins(path: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(path) < len(other) and other[: len(path)] == path


def normalised(logprobs: Sequence[float]) -> list[float] | None:
    """Natural log-probabilities that sum to 1 over these alternatives; None when none of them is finite."""
    largest = max(logprobs)
    if not math.isfinite(largest):
        return None
    total = largest + math.log(sum(math.exp(value - largest) for value in logprobs))
    return [value - total for value in logprobs]
