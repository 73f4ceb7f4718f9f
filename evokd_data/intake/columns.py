"""Which columns of a user's rows hold the texts and which the labels: by their names, and by what they hold.

The rows are read once, and of each column only counts are kept, so the file may be larger than the memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evokd_data.errors import DataError
from evokd_data.registry import nearest
from evokd_data.tasks import UNANNOTATED, UnknownClass, cell, has
from evokd_data.tasks.iob import is_tag, type_of
from evokd_data.tasks.nouns import in_words
from evokd_data.tasks.span_rows import as_list, is_tag_like, parse

TEXT_NAMES = (
    "text", "sentence", "utterance", "review", "message", "question", "query", "content", "body", "comment", "tweet",
    "post", "document", "headline", "title", "description", "input",
)  # fmt: skip
LABEL_NAMES = (
    "label_text", "label_name", "label", "intent", "category", "class", "sentiment", "topic", "target", "domain", "type",
    "tag", "labels",
)  # fmt: skip
NOUNS = frozenset(TEXT_NAMES) - {"text", "content", "body", "input", "description"} | {
    "ticket",
    "email",
    "mail",
    "request",
}
"""Words that say what one text is, when a column has one for a name."""
TOKEN_NAMES = ("tokens", "words")
TAG_NAMES = ("ner_tags", "tags", "slots", "labels", "label")
SPAN_NAMES = ("spans", "entities", "annotations", "labels", "label")
MAX_VALUES = 2000
"""Different values of a column that are counted; a column with more holds no labels."""
LONGEST_LABEL = 80
WORDS_OF_A_TEXT = 1.5
"""Mean number of words from which a column holds texts, not names; or UNSPACED characters, in scripts without spaces."""
UNSPACED = 8


class Undecided(DataError):
    """Several columns could hold the texts or the labels. `setting`: "text" or "label"; `candidates`: their names."""

    def __init__(self, message: str, setting: str, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.setting = setting
        self.candidates = tuple(candidates)


@dataclass(frozen=True, slots=True)
class Columns:
    """What was recognised. `labels`: labels or span types as the source has them, in alphabetical or numerical order;
    `numbered`: they are numbers. `others`: columns that are not read. `tagged`: the texts are tokens, each with a tag."""

    task: str
    text: str
    label: str
    labels: tuple[str, ...]
    rows: int
    numbered: bool = False
    others: tuple[str, ...] = ()
    tagged: bool = False


@dataclass
class Column:
    """What the rows hold in one column. Lists of spans are `spans`, lists of numbers or tags `tags`, other lists `words`."""

    name: str
    filled: int = 0
    numbers: int = 0
    texts: int = 0
    characters: int = 0
    blanks: int = 0
    beyond_ascii: int = 0
    brackets: int = 0
    spans: int = 0
    tags: int = 0
    words: int = 0
    longest: int = 0
    values: Counter[str] | None = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    unreadable: str = ""

    def add(self, value: Any) -> None:
        """Count one value."""
        if value is None or value is UNANNOTATED or (isinstance(value, str) and not value.strip()):
            return
        self.filled += 1
        value = as_list(value)
        if isinstance(value, list | Mapping):
            self._add_list(value)
            return
        written = label_text(value)
        if is_number(value):
            self.numbers += 1
        else:
            self.texts += 1
            self.characters += len(written)
            self.blanks += len(written.split()) - 1
            self.beyond_ascii += not written.isascii()
            if written.startswith("["):
                self.brackets += 1
                self.unreadable = self.unreadable or written[:60]
        self.longest = max(self.longest, len(written))
        if self.values is not None:
            self.values[written] += 1
            if len(self.values) > MAX_VALUES:
                self.values = None

    def _add_list(self, value: Any) -> None:
        flat = isinstance(value, list) and all(map(is_tag_like, value))
        if not flat:
            self.spans += 1
            try:
                self.types.update(label_text(annotation.type) for annotation in parse(value))
            except ValueError as error:
                self.unreadable = self.unreadable or str(error)[:120]
        elif value and all(not isinstance(item, str) or is_tag(item) for item in value):
            self.tags += 1
            self.types.update(type_of(item) if isinstance(item, str) else label_text(item) for item in value)
        elif value:
            self.words += 1
        else:
            self.filled -= 1  # an empty list says nothing

    @property
    def is_text(self) -> bool:
        """Whether it holds texts of several words."""
        if self.texts < 0.8 * self.filled or not self.texts:
            return False
        words = 1 + self.blanks / self.texts
        unspaced = self.beyond_ascii > 0.5 * self.texts and self.characters / self.texts >= UNSPACED
        return words >= WORDS_OF_A_TEXT or unspaced

    def may_hold_labels(self, named: bool) -> bool:
        """Whether a few short values recur in it. A column with the name of one may also hold each value once."""
        values = self.values
        if not self.filled or values is None or len(values) < 2 or self.longest > LONGEST_LABEL:
            return False
        return named or len(values) <= self.filled / 2


def is_number(value: Any) -> bool:
    """Whether a label is a number, also one that a CSV file writes: such a label says nothing to a teacher."""
    if isinstance(value, int | float | UnknownClass):
        return not isinstance(value, bool)
    return isinstance(value, str) and value.strip().removeprefix("-").replace(".", "", 1).isdecimal()


def label_text(value: Any) -> str:
    """A label as `label_map` names it: whole numbers without a point."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and is_number(value):
        return value.strip().removesuffix(".0")
    return str(value.number) if isinstance(value, UnknownClass) else str(value)


def find_columns(
    rows: Iterable[Mapping[str, Any]], source: str, text: str | None, label: str | None, task: str | None
) -> Columns:
    """Read all rows and recognise the columns. `text`, `label` and `task` are those that the user named.

    Raises DataError when there are no texts or no labels, Undecided when several columns could be meant.
    """
    columns: dict[str, Column] = {}
    count = 0
    for row in rows:
        count += 1
        for name in row:
            columns.setdefault(name, Column(name)).add(row[name])
        for path in filter(None, (text, label)):  # "a.b" is a field within a column
            if path not in row and has(row, path):
                columns.setdefault(path, Column(path)).add(cell(row, path))
    if not count:
        raise DataError(f"{source}: holds no rows; give a file with texts and their labels")
    for chosen_name in filter(None, (text, label)):
        if chosen_name not in columns:
            raise DataError(f"{source}: no column {chosen_name!r}{nearest(chosen_name, columns)}")
    for column in columns.values():
        if column.brackets > 0.8 * column.filled:
            raise DataError(
                f"{source}: column {column.name!r} holds lists that are not JSON, the first begins with {column.unreadable!r}; "
                f"write it with json.dumps (pandas: frame[{column.name!r}].map(json.dumps)), or save the file as .jsonl or .parquet"
            )
    tagging = None if task == "classification" else _tagging(columns, text, label)
    if tagging is not None:
        task_name, chosen = "ner", tagging
        labels = sorted((columns[chosen[1]].types.keys()) - {""})
        if not labels:
            raise DataError(f"{source}: column {chosen[1]!r} holds no span of any type; give annotated texts")
    elif task == "ner":
        raise DataError(
            f"{source}: no columns of tokens with tags, and none of texts with spans, in {_listed(columns)}; "
            "docs/data.md shows the forms that are read, lists are JSON"
        )
    else:
        task_name, chosen = "classification", _classification(source, columns, text, label)
        labels = sorted(columns[chosen[1]].values or ())
        if chosen[1] in labels:
            raise DataError(
                f"{source}: the first line, {_listed(chosen)}, looks like a row; write names above it, such as text and label"
            )
    numbered = all(map(is_number, labels))
    if numbered:
        labels.sort(key=float)
    others = tuple(name for name in columns if name not in chosen)
    tagged = tagging is not None and columns[chosen[0]].words > 0
    return Columns(task_name, *chosen, tuple(labels), count, numbered, others, tagged)


def _tagging(columns: Mapping[str, Column], text: str | None, label: str | None) -> tuple[str, str] | None:
    """(tokens, tags) or (text, spans); None when the rows hold neither."""
    tokens = [column for column in columns.values() if column.words and text in (None, column.name)]
    tags = [column for column in columns.values() if column.tags > column.filled / 2 and label in (None, column.name)]
    texts = [column for column in columns.values() if column.texts and text in (None, column.name)]
    spans = [column for column in columns.values() if column.spans and column.types and label in (None, column.name)]
    if tokens and tags:
        return _first(tokens, TOKEN_NAMES).name, _first(tags, TAG_NAMES).name
    if texts and spans:
        return _first(sorted(texts, key=lambda c: -c.characters), TEXT_NAMES).name, _first(spans, SPAN_NAMES).name
    return None


def _classification(source: str, columns: Mapping[str, Column], text: str | None, label: str | None) -> tuple[str, str]:
    chosen_text = text or _text_column(source, [c for c in columns.values() if c.name != label])
    candidates = [column for column in columns.values() if column.name != chosen_text]
    return chosen_text, _label_column(source, candidates, label)


def _text_column(source: str, columns: Sequence[Column]) -> str:
    candidates = [column for column in columns if column.is_text and (column.values is None or len(column.values) > 1)]
    if not candidates:  # texts of one word each, such as names
        candidates = [column for column in columns if column.texts and not column.may_hold_labels(False)]
    if not candidates:
        raise DataError(f"{source}: no column holds texts; --text COLUMN says which one does")
    named = [column for column in candidates if column.name.lower() in TEXT_NAMES]
    if not named and len(candidates) > 1:
        lengths = sorted((column.characters / column.texts for column in candidates), reverse=True)
        if lengths[0] < 2 * lengths[1]:
            names = [column.name for column in candidates]
            raise Undecided(
                f"{source}: {_listed(names)} all hold texts; --text COLUMN says which is meant", "text", names
            )
    return _first(named or sorted(candidates, key=lambda c: -c.characters / c.texts), TEXT_NAMES).name


def _label_column(source: str, columns: Sequence[Column], label: str | None) -> str:
    if label is not None:
        column = next(column for column in columns if column.name == label)
        if column.values is None or len(column.values) < 2:
            many = "one value" if column.values is not None else f"more than {MAX_VALUES} different values"
            raise DataError(f"{source}: column {label!r} holds {many}; labels are a few words that recur")
        return label
    named = [column for column in columns if column.name.lower() in LABEL_NAMES and column.may_hold_labels(True)]
    worded = [column for column in named if not column.numbers]
    if named:
        return _first(worded or named, LABEL_NAMES).name
    candidates = [column for column in columns if column.may_hold_labels(False) and not column.numbers]
    candidates = candidates or [column for column in columns if column.may_hold_labels(False)]
    if len(candidates) == 1:
        return candidates[0].name
    names = [column.name for column in candidates]
    if names:
        raise Undecided(f"{source}: {_listed(names)} could all be labels; --label COLUMN says which is", "label", names)
    lists = next((column.name for column in columns if column.words or column.spans), None)
    several = f"; {lists!r} holds lists, and a text has one label in a classification" if lists else ""
    raise DataError(
        f"{source}: no column holds labels, a few values that recur; --label COLUMN says which does{several}"
    )


def _first(columns: Sequence[Column], names: Sequence[str]) -> Column:
    """The column whose name comes first among `names`; the first column when none is there."""
    return min(columns, key=lambda c: names.index(c.name.lower()) if c.name.lower() in names else len(names))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def noun_of(column: str) -> str:
    """What one text is, by the name of its column: "question", "customer message" of `customer_message`, "review" of `review_text`;
    "" for a name that says nothing, such as `text`."""
    words = in_words(column).replace("_", " ").replace("-", " ").lower().split()
    if len(words) > 1 and words[-1] in ("text", "body", "content"):
        words.pop()
    return " ".join(words) if words and words[-1] in NOUNS else ""
