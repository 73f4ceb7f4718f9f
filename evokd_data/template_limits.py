"""Jinja2 in a sandbox with limits: a downloaded round brings templates, and rendering one must end, and stay small.

Jinja's own sandbox keeps a template away from Python. It does not keep it from nested loops that never end, nor from texts that
double until the memory is full. Every loop counts its steps here, and every operation that can make a text long is measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import Environment, nodes, pass_environment, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.filters import do_format, do_join, do_replace, make_attrgetter
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_STEPS = 200_000
"""Steps of all loops, and calls, of one prompt. The packaged templates need one for each label and each demonstration."""
MAX_LENGTH = 1_000_000
"""Characters of a prompt, and of any text on the way to it."""
MAX_ITEMS = 10_000
"""Items of a list that an operation may make of others."""
LENGTHENING = frozenset(
    {"ljust", "rjust", "center", "zfill", "expandtabs", "format", "format_map", "replace", "translate", "join"}
)
"""Methods of texts whose arguments decide how long the result is. Filters of the same name are measured."""
UNMEASURED = ("center", "wordwrap", "indent", "xmlattr", "urlize", "pprint", "batch", "slice")
"""Filters that take a width or a number and are not offered."""


class TemplateTooLarge(SecurityError):
    """A template exceeds a limit of this module."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox with limits. Call `begin` before each prompt."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=self._count_output, **options)
        self._steps = self._characters = 0
        for name in UNMEASURED:
            del self.filters[name]
        self.filters |= {
            "bounded_loop": self._bounded_loop,
            "bounded_text": bounded,
            "join": _measured_join,
            "replace": _measured_replace,
            "sum": _measured_sum,
            "format": _format,
        }

    def begin(self) -> None:
        """Begin a prompt: its loops and its characters count from 0."""
        self._steps = self._characters = 0

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
        self._count(len(value) if isinstance(value, str) else 1)
        return value

    def call(self, context: Any, called: Any, *values: Any, **named: Any) -> Any:
        """See jinja2. Counts a step: a macro may call itself."""
        self._step()
        return super().call(context, called, *values, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """See jinja2. Raises TemplateTooLarge before a result that is too large is made."""
        if operator in ("*", "+"):
            _check_size(operator, left, right)
        if operator == "**" and (abs(right) > 64 or abs(left) > 1e6):
            raise TemplateTooLarge(f"it raises {left!r:.20} to a power")
        if operator == "%" and isinstance(left, str):
            return _format(left, *(right if isinstance(right, tuple) else (right,)))
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """See jinja2. Also refuses methods of texts whose result can be of any length."""
        return not (isinstance(obj, str) and attr in LENGTHENING) and super().is_safe_attribute(obj, attr, value)


def bounded(text: Any) -> Any:
    """The text. Raises TemplateTooLarge when it is too long, so that it cannot double again."""
    if len(text) > MAX_LENGTH:
        raise TemplateTooLarge(f"it makes a text longer than {MAX_LENGTH} characters")
    return text


def _measure_concatenations(tree: nodes.Template) -> nodes.Template:
    from jinja2.visitor import NodeTransformer

    class Measuring(NodeTransformer):
        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the name that jinja2 calls
            self.generic_visit(node)
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
    if re.search(r"[0-9]{4}|\*", str(text)):
        raise TemplateTooLarge("it formats to a width of four digits or one that is computed")
    return do_format(text, *values, **named)
