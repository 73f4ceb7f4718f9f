"""Prompt templates: one Jinja2 file per name, each with a `system` and a `user` block, rendered in a sandbox.

A template can also show demonstrations as turns of the chat. Its blocks `demonstration_user` and `demonstration_assistant` are
rendered for each of them, with the variable `demonstration`, between the system and the user message.

A recipe's `prompts` names a folder of templates; the package ships one folder per task under `evokd_data/prompts/`. A
user's folder may hold only some of the names: the other templates come from the package. The digests of the sources in use,
of included ones too, go into the manifest: a changed prompt is a changed round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.digest import digest
from evokd_data.errors import RecipeError
from evokd_data.records import Message
from evokd_data.registry import nearest

if TYPE_CHECKING:
    from jinja2 import BaseLoader

PACKAGED = Path(__file__).parent / "prompts"

TURN_ROLES = {"demonstration_user": "user", "demonstration_assistant": "assistant"}
ROLES = {"system": "system", **TURN_ROLES, "user": "user"}
"""Block of a template -> role of its message."""


class Templates:
    """The templates of one task: those in the user's `folder`, and the packaged ones in `packaged` for all other names.

    Raises RecipeError when `folder` holds no template at all, one that does not parse, or one that nothing uses. The sandbox
    is for replays: whoever replays a revision renders a stranger's templates on their machine.
    """

    def __init__(self, packaged: str, folder: Path | None = None) -> None:
        from jinja2 import FileSystemLoader

        shipped = PACKAGED / packaged
        if folder is None:
            self._load(FileSystemLoader(shipped))
            return
        if not any(folder.glob("*.j2")):
            raise RecipeError(
                f"prompts: {str(folder)!r} holds no *.j2 file; give a folder of templates, or drop the key"
            )
        self._load(FileSystemLoader([folder, shipped]))
        self._check(folder, {path.name for path in shipped.glob("*.j2")})

    def _load(self, loader: BaseLoader) -> None:
        from jinja2 import StrictUndefined

        from evokd_data.template_limits import BoundedEnvironment

        self._environment = BoundedEnvironment(
            loader=loader,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            autoescape=False,  # prompts are plain text, never HTML
        )
        self._blocks: dict[str, Mapping[str, _Block]] = {}
        self._cached_turns: dict[str, tuple[list[Any], Sequence[Message]]] = {}

    def __getstate__(self) -> dict[str, str]:
        """The sources: the user's folder need not exist where they are rendered."""
        loader = self._environment.loader
        assert loader is not None
        return {name: loader.get_source(self._environment, name)[0] for name in self._environment.list_templates()}

    def __setstate__(self, sources: dict[str, str]) -> None:
        from jinja2 import DictLoader

        self._load(DictLoader(sources))

    def _check(self, folder: Path, packaged: set[str]) -> None:
        names = sorted(path.name for path in folder.glob("*.j2"))
        sources = self.sources(name.removesuffix(".j2") for name in names)
        used = packaged.union(*(self._parse(name)[1] for name in sources))
        for name in names:
            if name not in used:
                raise RecipeError(
                    f"prompts: {str(folder / name)!r} is no template of the task{nearest(name, packaged)}"
                )

    def has_turns(self, name: str) -> bool:
        """Whether the template can show demonstrations as turns of the chat. Raises RecipeError when it cannot be read."""
        return TURN_ROLES.keys() <= self._template_blocks(name).keys()

    def variables(self, name: str) -> frozenset[str]:
        """The variables that the template, and those it includes or extends, may read. Raises RecipeError."""
        from jinja2 import meta

        sources = self.sources([name]).values()
        return frozenset().union(*(meta.find_undeclared_variables(self._environment.parse(text)) for text in sources))

    def render(
        self, name: str, variables: Mapping[str, Any], turns: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[Message, ...]:
        """The messages of one prompt: the `system` block unless it is empty, two messages for each of `turns`, the `user` block.

        Raises RecipeError naming the template when it is missing, broken, or uses a variable that does not exist.
        """
        self._environment.begin()
        try:
            blocks = self._template_blocks(name)
            messages = [blocks["system"].message(variables)] if "system" in blocks else []
            messages += self._turn_messages(name, blocks, variables, turns) if turns else ()
            messages += [blocks["user"].message(variables)] if "user" in blocks else []
        except RecipeError:
            raise
        except Exception as error:  # a template is the user's code: it can raise anything
            raise RecipeError(
                f"prompts: {name}.j2 cannot be rendered: {type(error).__name__}: {error}; "
                f"the variables are {', '.join(sorted(variables))}"
            ) from error
        messages = [message for message in messages if message.content]
        if not messages or messages[-1].role != "user" or "user" not in blocks:
            raise RecipeError(
                f"prompts: {name}.j2 has no text in {{% block user %}}; every prompt ends with a user message"
            )
        return tuple(messages)

    def _turn_messages(
        self, name: str, blocks: Mapping[str, _Block], variables: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]
    ) -> Sequence[Message]:
        """Rendered once for the very same turns and variables: all labelling prompts of a round share them."""
        reads: set[str] = set()
        for block in TURN_ROLES:
            reads.update(blocks[block].reads or ())
        cacheable = all(blocks[block].reads is not None for block in TURN_ROLES)
        values = [turns, *(variables.get(read) for read in sorted(reads - {"demonstration"}))]
        cached = self._cached_turns.get(name)
        if not cacheable or cached is None or not all(map(is_, values, cached[0])):
            messages = [
                blocks[block].message({**variables, "demonstration": turn}) for turn in turns for block in TURN_ROLES
            ]
            cached = self._cached_turns[name] = values, messages
        return cached[1]

    def _template_blocks(self, name: str) -> Mapping[str, _Block]:
        if name not in self._blocks:
            self._parse(f"{name}.j2")  # for its errors
            self._blocks[name] = self._read_blocks(name)
        return self._blocks[name]

    def _read_blocks(self, name: str) -> dict[str, _Block]:
        from jinja2 import meta, nodes

        template = self._environment.get_template(f"{name}.j2")
        assert self._environment.loader is not None
        tree = self._environment.parse(self._environment.loader.get_source(self._environment, f"{name}.j2")[0])
        self_contained = not any(meta.find_referenced_templates(tree))
        bodies = {block.name: block.body for block in tree.find_all(nodes.Block)}
        blocks = {}
        for block, role in ROLES.items():
            if block in template.blocks:
                reads = None
                if self_contained and block in bodies:
                    body = nodes.Template(bodies[block], lineno=1)
                    body.set_environment(self._environment)
                    reads = tuple(sorted(meta.find_undeclared_variables(body)))
                blocks[block] = _Block(role, template.blocks[block], template.new_context(), reads)
        return blocks

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """File name -> source, of each named template and of those it includes or extends, sorted by file name.

        Raises RecipeError for a template that is missing or does not parse.
        """
        sources: dict[str, str] = {}
        waiting = [f"{name}.j2" for name in names]
        while waiting:
            if (file_name := waiting.pop()) not in sources:
                sources[file_name], referenced = self._parse(file_name)
                waiting += referenced
        return dict(sorted(sources.items()))

    def _parse(self, name: str) -> tuple[str, list[str]]:
        """The source of a template, and the names of those it refers to. Raises RecipeError."""
        from jinja2 import TemplateNotFound, TemplateSyntaxError, meta

        loader = self._environment.loader
        assert loader is not None
        try:
            source = loader.get_source(self._environment, name)[0]
            tree = self._environment.parse(source, name)
        except TemplateNotFound as error:
            raise RecipeError(f"prompts: there is no {error.name}; put it beside the other templates") from None
        except TemplateSyntaxError as error:
            raise RecipeError(f"prompts: {name}, line {error.lineno}: {error.message}; mend the template") from None
        except UnicodeDecodeError as error:
            raise RecipeError(
                f"prompts: {name} is not UTF-8 ({error.reason} at byte {error.start}); convert the file"
            ) from None
        referenced = list(meta.find_referenced_templates(tree))
        if None in referenced:
            raise RecipeError(
                f"prompts: {name} includes a template whose name is only known when it is rendered; "
                "write the name: a round's digest covers every template in use"
            )
        return source, [reference for reference in referenced if reference is not None]

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """File name -> digest of the source, for the same files as `sources`."""
        return {name: digest(source) for name, source in self.sources(names).items()}


class _Block:
    """One block of a template. Its message is cached as long as the variables that it reads are the very same objects.

    This is for the long system message of labelling prompts: to render it again for every text would cost more than all
    filters. `reads` names the variables, or is None when they are unknown: the template includes or extends another.
    """

    def __init__(self, role: str, render: Any, context: Any, reads: tuple[str, ...] | None) -> None:
        self._role = role
        self._block = render
        self._context = context  # a new one for each prompt would cost more than rendering a short block
        self.reads = reads
        self._cached: tuple[list[Any], Message] | None = None  # values of the variables, rendered message

    def message(self, variables: Mapping[str, Any]) -> Message:
        if self.reads is None or not all(name in variables for name in self.reads):
            return self._render(variables)
        values = [variables[name] for name in self.reads]
        if self._cached is None or not all(map(is_, values, self._cached[0])):
            self._cached = values, self._render(variables)
        return self._cached[1]

    def _render(self, variables: Mapping[str, Any]) -> Message:
        self._context.vars = dict(variables)
        return Message(self._role, "".join(self._block(self._context)).strip())
