"""Prompt templates: one Jinja2 file per name, each with a `system` and a `user` block, rendered in a sandbox.

A folder of templates is what a recipe's `prompts` names; the package ships one folder per task under
`evokd_data/prompts/`. A folder of the user's own may hold only some names: the rest come from the package's.
The digests of the sources in use, included ones too, go into the manifest: a changed prompt is a changed round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evokd_data.digest import digest
from evokd_data.errors import RecipeError
from evokd_data.records import Message
from evokd_data.registry import nearest

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Template

PACKAGED = Path(__file__).parent / "prompts"


class Templates:
    """The templates of one task: those of `own` first, the packaged ones of `task_type` for the rest.

    Raises RecipeError when `own` holds no template at all, one that does not parse, or one that nothing uses. The sandbox is for replays: a
    template of somebody else's revision is rendered on the machine of whoever replays it.
    """

    def __init__(self, task_type: str, own: Path | None = None) -> None:
        from jinja2 import FileSystemLoader

        folders = [PACKAGED / task_type]
        if own is not None:
            if not any(own.glob("*.j2")):
                raise RecipeError(
                    f"prompts: {str(own)!r} holds no *.j2 file; give a folder of templates, or drop the key"
                )
            folders.insert(0, own)
        self._load(FileSystemLoader(folders))
        if own is not None:
            self._check(own, {path.name for path in folders[-1].glob("*.j2")})

    def _load(self, loader: BaseLoader) -> None:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._environment = ImmutableSandboxedEnvironment(
            loader=loader,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            autoescape=False,  # prompts are plain text, never HTML
        )
        self._blocks: dict[str, list[_Block]] = {}

    def __getstate__(self) -> dict[str, str]:
        """The sources: where they are rendered, the user's folder need not be."""
        loader = self._environment.loader
        assert loader is not None
        return {name: loader.get_source(self._environment, name)[0] for name in self._environment.list_templates()}

    def __setstate__(self, sources: dict[str, str]) -> None:
        from jinja2 import DictLoader

        self._load(DictLoader(sources))

    def _check(self, own: Path, packaged: set[str]) -> None:
        names = sorted(path.name for path in own.glob("*.j2"))
        sources = self.sources(name.removesuffix(".j2") for name in names)
        used = packaged.union(*(self._parse(name)[1] for name in sources))
        for name in names:
            if name not in used:
                raise RecipeError(f"prompts: {str(own / name)!r} is no template of the task{nearest(name, packaged)}")

    def render(self, name: str, variables: Mapping[str, Any]) -> tuple[Message, ...]:
        """The messages of one prompt: the `system` block when it says anything, then the `user` block.

        Raises RecipeError naming the template when it is missing, broken, or uses a variable that does not exist.
        """
        try:
            if name not in self._blocks:
                self._blocks[name] = self._read_blocks(name)
            messages = [message for block in self._blocks[name] if (message := block.message(variables)).content]
        except Exception as error:  # a template is code of the user's: it can raise anything
            raise RecipeError(
                f"prompts: {name}.j2 cannot be rendered: {type(error).__name__}: {error}; "
                f"the variables are {', '.join(sorted(variables))}"
            ) from error
        if not messages or messages[-1].role != "user":
            raise RecipeError(
                f"prompts: {name}.j2 has no text in {{% block user %}}; every prompt ends with a user message"
            )
        return tuple(messages)

    def _read_blocks(self, name: str) -> list[_Block]:
        from jinja2 import meta, nodes

        template = self._environment.get_template(f"{name}.j2")
        assert self._environment.loader is not None
        tree = self._environment.parse(self._environment.loader.get_source(self._environment, f"{name}.j2")[0])
        alone = not any(meta.find_referenced_templates(tree))
        bodies = {block.name: block.body for block in tree.find_all(nodes.Block)}
        found = []
        for role in ("system", "user"):
            if role in template.blocks:
                reads = None
                if alone and role in bodies:
                    body = nodes.Template(bodies[role], lineno=1)
                    body.set_environment(self._environment)
                    reads = tuple(sorted(meta.find_undeclared_variables(body)))
                found.append(_Block(role, template, reads))
        return found

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """File name -> source of each name's template and of those it includes or extends, sorted by name."""
        found: dict[str, str] = {}
        names = [f"{name}.j2" for name in names]
        while names:
            if (name := names.pop()) not in found:
                found[name], referenced = self._parse(name)
                names += referenced
        return dict(sorted(found.items()))

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
            raise RecipeError(f"prompts: {name} is not UTF-8 ({error.reason} at byte {error.start})") from None
        referenced = list(meta.find_referenced_templates(tree))
        if None in referenced:
            raise RecipeError(
                f"prompts: {name} includes a template whose name is only known when it is rendered; "
                "write the name: a round's digest covers every template in use"
            )
        return source, [other for other in referenced if other is not None]

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """File name -> digest of the source."""
        return {name: digest(source) for name, source in self.sources(names).items()}


class _Block:
    """One block of a template. What it says is kept as long as the variables it reads are the very same objects, as those
    of a labelling prompt's long beginning are: to render that again for every text would cost more than all filters.

    `reads` is None when they cannot be told: other templates are included, or extended.
    """

    def __init__(self, role: str, template: Template, reads: tuple[str, ...] | None) -> None:
        self._role = role
        self._block = template.blocks[role]
        self._context = template.new_context()  # to make one for each prompt costs more than to render a short block
        self._reads = reads
        self._last: tuple[list[Any], Message] | None = None

    def message(self, variables: Mapping[str, Any]) -> Message:
        if self._reads is None or not all(name in variables for name in self._reads):
            return self._render(variables)
        seen = [variables[name] for name in self._reads]
        if self._last is None or not all(map(is_, seen, self._last[0])):
            self._last = seen, self._render(variables)
        return self._last[1]

    def _render(self, variables: Mapping[str, Any]) -> Message:
        self._context.vars = dict(variables)
        return Message(self._role, "".join(self._block(self._context)).strip())
