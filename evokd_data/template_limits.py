"""Jinja2 in a sandbox with limits: a downloaded round brings templates, and rendering one must end, and stay small.

Jinja's own sandbox keeps a template away from Python. It does not keep it from nested loops that never end, nor from texts that
double until the memory is full. Every loop counts its steps here. Every filter is measured: what it is given before, what it makes
after, item by item where that comes as a generator. A list of texts is as long as they are together, for that long is its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from functools import wraps
from typing import Any

from jinja2 import Environment, nodes, pass_environment, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.filters import do_format, do_join, do_replace, make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_STEPS = 200_000
"""Steps of all loops, and calls, of one prompt. The packaged templates need one for each label and each demonstration."""
MAX_LENGTH = 1_000_000
"""Characters of a prompt, and of any text on the way to it."""
MAX_MADE = 20_000_000
"""Characters of all texts that are made on the way to a prompt."""
MAX_ITEMS = 10_000
"""Items of a list that an operation may make of others."""
LENGTHENING = frozenset(
    {
        "ljust",
        "rjust",
        "center",
        "zfill",
        "expandtabs",
        "format",
        "format_map",
        "replace",
        "translate",
        "join",
        "encode",
    }
)
"""Methods of texts whose arguments decide how long the result is, and the one that makes bytes, which are not measured."""
FILTERS = frozenset(
    {
        "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "format", "groupby", "int", "items", "join", "last",
        "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select", "selectattr", "sort",
        "string", "sum", "title", "trim", "truncate", "unique", "upper", "wordcount",
    }
)  # fmt: skip
"""Jinja's filters that are offered: none that takes a width, escapes a text or draws at random."""
GLOBALS = frozenset({"cycler", "dict", "joiner", "namespace", "range"})
"""Jinja's functions that are offered. `lipsum` writes texts of any length, at random."""


class TemplateTooLarge(SecurityError):
    """A template exceeds a limit of this module."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox with limits. Call `begin` before each prompt."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=self._count_output, **options)
        self.begin()
        for offered, names in ((self.filters, FILTERS), (self.globals, GLOBALS)):
            for name in offered.keys() - names:
                del offered[name]
        self.filters |= {"join": _measured_join, "replace": _measured_replace, "sum": _measured_sum, "format": _format}
        self.filters = {name: self._guarded(function) for name, function in self.filters.items()}
        self.filters |= {"bounded_loop": self._bounded_loop, "bounded_text": self._measured}

    def begin(self) -> None:
        """Begin a prompt: its loops and its characters count from 0."""
        self._steps = self._characters = self._made = 0

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            written = sum(len(data.data) for data in loop.find_all(nodes.TemplateData))
            loop.iter = nodes.Filter(loop.iter, "bounded_loop", [nodes.Const(written)], [], None, None)
        return _measure_concatenations(tree)

    def _bounded_loop(self, items: Iterable[Any], written: int) -> Iterator[Any]:
        """The items. `written`: characters of the template's own text in the loop's body."""
        for item in items:
            self._step()
            self._count(written)
            yield item

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TemplateTooLarge(f"its loops and calls take more than {MAX_STEPS} steps")

    def _count(self, characters: int) -> None:
        self._characters += characters
        if self._characters > MAX_LENGTH:
            raise TemplateTooLarge(f"it writes more than {MAX_LENGTH} characters")

    def _count_output(self, value: Any) -> Any:
        self._count(text_size(value))
        return value

    def _measured(self, value: Any) -> Any:
        """The value, counted; a generator counts its items as it gives them."""
        if isinstance(value, Iterator):
            return self._counted(value)
        self._made += text_size(value)
        if self._made > MAX_MADE:
            raise TemplateTooLarge(f"it makes texts of more than {MAX_MADE} characters on the way")
        return value

    def _counted(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self._step()
            yield self._measured(item)

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that is measured. What jinja2 passes to it besides, such as the context, is left as it is."""
        passed = hasattr(function, "jinja_pass_arg")

        @wraps(function)
        def guarded(*values: Any, **named: Any) -> Any:
            given = map(self._measured, values[passed:])
            keywords = {key: self._measured(value) for key, value in named.items()}
            return self._measured(function(*values[:passed], *given, **keywords))

        return guarded

    def call(self, context: Any, called: Any, *values: Any, **named: Any) -> Any:
        """See jinja2. Counts a step: a macro may call itself."""
        self._step()
        return self._measured(super().call(context, called, *values, **named))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """See jinja2. Raises TemplateTooLarge before a result that is too large is made."""
        if operator in ("*", "+"):
            _check_size(operator, left, right)
        if operator == "**" and (abs(right) > 64 or abs(left) > 1e6):
            raise TemplateTooLarge(f"it raises {left!r:.20} to a power")
        if operator == "%" and isinstance(left, str):
            return self._measured(_format(left, *(right if isinstance(right, tuple) else (right,))))
        return self._measured(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """See jinja2. Also refuses methods whose result can be of any length, and all of numbers."""
        lengthens = isinstance(obj, int | float) or (isinstance(obj, str) and attr in LENGTHENING) or attr == "fromkeys"
        return not lengthens and super().is_safe_attribute(obj, attr, value)


def text_size(value: Any) -> int:
    """About how many characters the text of a value has: of lists and tables those of all their items. Raises TemplateTooLarge."""
    size, pending = 0, [value]
    while pending:
        item = pending.pop()
        size += len(item) if isinstance(item, str | range) else 1
        if size > MAX_LENGTH:
            raise TemplateTooLarge(f"it makes a text longer than {MAX_LENGTH} characters")
        if isinstance(item, Namespace):
            item = item._Namespace__attrs
        if isinstance(item, dict):
            pending += (*item.keys(), *item.values())
        elif isinstance(item, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
            pending += item
    return size


def _measure_concatenations(tree: nodes.Template) -> nodes.Template:
    from jinja2.visitor import NodeTransformer

    class Measuring(NodeTransformer):
        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the name that jinja2 calls
            self.generic_visit(node)
            node.nodes = [nodes.Filter(part, "bounded_text", [], [], None, None) for part in node.nodes]
            return nodes.Filter(node, "bounded_text", [], [], None, None)

        def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802 - as above
            self.generic_visit(node)
            if node.filter is None:  # {% set x %}{{ x }}{{ x }}{% endset %} doubles, too
                node.filter = nodes.Filter(None, "bounded_text", [], [], None, None)
            return node

    return Measuring().visit(tree)


def _check_size(operator: str, left: Any, right: Any) -> None:
    """Raises TemplateTooLarge when left * right, or left + right, would be too large."""
    sized, other = (left, right) if hasattr(left, "__len__") else (right, left)
    if not hasattr(sized, "__len__"):
        return
    size = (
        len(sized) + len(other) if hasattr(other, "__len__") else len(sized) * (other if isinstance(other, int) else 1)
    )
    if size > (MAX_LENGTH if isinstance(sized, str) else MAX_ITEMS):
        raise TemplateTooLarge(f"'{operator}' makes a text or list of {size}")


@pass_eval_context
def _measured_replace(eval_context: Any, text: str, old: str, new: str, count: int | None = None) -> str:
    times = str(text).count(str(old)) if count is None else min(count, str(text).count(str(old)))
    if len(str(text)) + times * len(str(new)) > MAX_LENGTH:
        raise TemplateTooLarge(f"'replace' makes a text longer than {MAX_LENGTH} characters")
    return do_replace(eval_context, text, old, new, count)


@pass_eval_context
def _measured_join(eval_context: Any, items: Iterable[Any], between: str = "", attribute: Any = None) -> str:
    items = list(items)
    if sum(len(item) if isinstance(item, str) else 1 for item in items) + len(items) * len(between) > MAX_LENGTH:
        raise TemplateTooLarge(f"'join' makes a text longer than {MAX_LENGTH} characters")
    return do_join(eval_context, items, between, attribute)


@pass_environment
def _measured_sum(
    environment: Environment, items: Iterable[Any], attribute: str | int | None = None, start: Any = 0
) -> Any:
    total = start
    for item in items if attribute is None else map(make_attrgetter(environment, attribute), items):
        _check_size("+", total, item)
        total += item
    return total


def _format(text: str, *values: Any, **named: Any) -> str:
    longest = max(map(text_size, (*values, *named.values())), default=0)
    if len(text) + text.count("%") * longest > MAX_LENGTH:
        raise TemplateTooLarge(f"it formats to a text longer than {MAX_LENGTH} characters")
    if re.search(r"[0-9]{4}|\*", str(text)):
        raise TemplateTooLarge("it formats to a width of four digits or one that is computed")
    return do_format(text, *values, **named)
