"""The generated sections of the pages, and what the pages name: commands, files, modules. `make docs` writes the sections.

A section stands between `<!-- name -->` and `<!-- /name -->`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from evokd_data.cli import COMMANDS, cli
from evokd_data.recipe import FAMILIES
from evokd_data.registry import resolve
from tests.support import ROOT
from tests.support.import_graph import wings_picture
from tests.support.settings_tables import settings_tables

PAGES = [
    path
    for path in (
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").glob("*.md")),
    )
    if "results" not in path.parts
]


def commands() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(f"    evokd-data {name:<{width}}  {description}" for name, description in COMMANDS.items())


def plugs() -> str:
    lines = ["| section | name | what it is |", "|---|---|---|"]
    for section, family in FAMILIES.items():
        for name in sorted(family.table):
            module = __import__(resolve(family.table, name).__module__, fromlist=["_"])
            description = (module.__doc__ or "").strip().splitlines()[0].rstrip(".")
            lines.append(f"| `{section}.{family.key}` | `{name}` | {description} |")
    return "\n".join(lines)


SECTIONS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"commands": commands, "plugs": plugs},
    "docs/architecture.md": {"wings": wings_picture},
    "docs/settings.md": {"settings": settings_tables},
}


def with_sections(text: str, sections: dict[str, Callable[[], str]]) -> str:
    """The page with every section written anew."""
    for name, make in sections.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda match, make=make: f"{match[1]}\n{make()}\n\n{match[2]}", text, flags=re.S)
        assert count == 1, f"the page has no section {name!r}"
    return text


def links(page: Path) -> Iterator[str]:
    """Files that the page links to, relative to it, without anchors."""
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if path := target.partition("#")[0]:
            yield path


def leaf_commands(
    group: click.Group = cli, before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """(words, command) of every command that does something: ("hub", "token", "add"), not "hub"."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaf_commands(command, (*before, name))
        else:
            yield (*before, name), command


def help_examples(command: click.Command) -> list[list[str]]:
    """The words behind `evokd-data` of each example in a command's help, up to a redirection."""
    _, _, text = (command.help or "").partition("Example:")
    lines = re.findall(r"^ *evokd-data (.*)$", text, flags=re.M)
    return [shlex.split(line.partition(" > ")[0]) for line in lines]


def parse(words: list[str]) -> click.Command:
    """The command that the words call, its options and arguments read and checked by click. Raises click.UsageError."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, words = (words or [""])[0], words[1:]
        inner = command.get_command(click.Context(command), name)
        if inner is None:
            raise click.UsageError(f"no command {name!r}")
        command = inner
    with command.make_context(command.name, list(words)):
        return command


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """(language, code) of the page's fenced blocks in these languages, in order. `sh` and `python` of a tutorial are run; what only
    a reader can run is `bash`."""
    fenced = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [(language, code) for language, code in fenced if language in languages]


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of every `evokd-data ...` line in the page's code blocks, indented or fenced, without comments."""
    indented = re.findall(r"^(?: {4}|\$ )(.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    fenced = [line for _, code in blocks(page, "sh", "bash") for line in code.splitlines()]
    for line in dict.fromkeys([*indented, *fenced]):
        if match := re.match(r"(?:\S*/)?evokd-data (.*)$", line):
            yield shlex.split(re.sub(r"\s+#.*$|\s{2,}.*$|\s[>|].*$", "", match[1]))


def named_files(page: Path) -> Iterator[str]:
    """Files of the repository that the page names in code marks: with a known folder first, or a module of the package."""
    yield from re.findall(r"`([A-Za-z_]+/[\w./-]+\.(?:py|md|yaml|j2))(?::[^`]*)?`", page.read_text(encoding="utf-8"))


def main() -> None:
    for page, sections in SECTIONS.items():
        path = ROOT / page
        path.write_text(with_sections(path.read_text(encoding="utf-8"), sections), encoding="utf-8")


if __name__ == "__main__":
    main()
