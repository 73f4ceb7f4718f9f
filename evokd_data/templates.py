"""Prompt templates: one Jinja2 file per stage, each with a `system` and a `user` block.

A folder of templates is what a recipe's `prompts` names; the package ships one folder per task under
`evokd_data/prompts/`. A folder of the user's own may hold only some stages: the rest come from the package's.
The digest of the sources in use goes into the manifest: a changed prompt is a changed round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evokd_data.digest import digest
from evokd_data.errors import RecipeError
from evokd_data.records import Message

PACKAGED = Path(__file__).parent / "prompts"


class Templates:
    """The templates of one task: those of `own` first, the packaged ones of `task_type` for the rest.

    Raises RecipeError when `own` holds no template at all, or one that does not parse.
    """

    def __init__(self, task_type: str, own: Path | None = None) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        folders = [PACKAGED / task_type]
        if own is not None:
            if not any(own.glob("*.j2")):
                raise RecipeError(
                    f"prompts: {str(own)!r} holds no *.j2 file; give a folder of templates, or drop the key"
                )
            folders.insert(0, own)
        self._environment = Environment(
            loader=FileSystemLoader(folders),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            autoescape=False,  # noqa: S701 - prompts are plain text, never HTML
        )

    def render(self, stage: str, variables: Mapping[str, Any]) -> tuple[Message, ...]:
        """The messages of one prompt: the `system` block when it says anything, then the `user` block.

        Raises RecipeError naming the template when it is missing, broken, or uses a variable that does not exist.
        """
        from jinja2 import TemplateError

        try:
            template = self._environment.get_template(f"{stage}.j2")
            messages = []
            for role in ("system", "user"):
                block = template.blocks.get(role)
                text = "".join(block(template.new_context(dict(variables)))).strip() if block else ""
                if text:
                    messages.append(Message(role, text))
        except TemplateError as error:
            raise RecipeError(
                f"prompts: {stage}.j2 cannot be rendered: {type(error).__name__}: {error}; "
                f"the variables are {', '.join(sorted(variables))}"
            ) from error
        if not messages or messages[-1].role != "user":
            raise RecipeError(
                f"prompts: {stage}.j2 has no text in {{% block user %}}; every prompt ends with a user message"
            )
        return tuple(messages)

    def sources(self, stages: Iterable[str]) -> dict[str, str]:
        """File name -> source of each stage's template, sorted by name."""
        loader = self._environment.loader
        assert loader is not None
        names = sorted(f"{stage}.j2" for stage in stages)
        return {name: loader.get_source(self._environment, name)[0] for name in names}

    def digests(self, stages: Iterable[str]) -> dict[str, str]:
        """File name -> digest of the source."""
        return {name: digest(source) for name, source in self.sources(stages).items()}
