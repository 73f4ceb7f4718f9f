"""Writes the input files of this folder: small files as people bring them, each with what is right beside it.

    python tests/inputs/make.py        writes every file anew; expectations are written below, by hand

Beside csv/quoted.csv lies csv/quoted.csv.expected.json:

    {"task": "classification", "source": {...}, "rows": [["a text", "card"]]}          or "error": the one line that is printed
    {"task": "ner", "source": {"offsets": "utf-16"}, "rows": [["EU rejects", [[0, 2, "ORG"]]]], "unannotated": 1, "format": "doccano"}

`source` are the settings of the recipe's section besides `path`. In an error, PATH stands for the file's path.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

HERE = Path(__file__).parent
SUFFIX = ".expected.json"
Content = str | bytes | Callable[[Path], Any]
NAMES: set[str] = set()


def add(name: str, content: Content, right: Any, task: str = "classification", more: Any = None, **source: Any) -> None:
    """One file. `right`: its rows, or the error as a string; `more`: further keys of the expectation."""
    assert name not in NAMES, name
    NAMES.add(name)
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    outcome = {"error": right} if isinstance(right, str) else {"rows": right}
    expected = {"task": task, "source": source, **outcome, **(more or {})}
    path.with_name(path.name + SUFFIX).write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n", "utf-8")


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def row(number: int) -> str:
    """Where the task found fault with a row."""
    return f"test: PATH, row {number}: "


TWO = [["my card is gone", "card"], ["no signal here", "outage"]]
TWO_ROWS = [{"text": text, "label": label} for text, label in TWO]


def csv_files() -> None:
    add("csv/plain.csv", "text,label\nmy card is gone,card\nno signal here,outage\n", TWO)
    add("csv/crlf.csv", "text,label\r\nmy card is gone,card\r\nno signal here,outage\r\n", TWO)
    add("csv/old-mac.csv", "text,label\rmy card is gone,card\rno signal here,outage\r", TWO)
    add("csv/no-newline-at-end.csv", "text,label\nmy card is gone,card\nno signal here,outage", TWO)
    add("csv/bom.csv", "\ufefftext,label\nmy card is gone,card\nno signal here,outage\n", TWO)
    add("csv/blank-lines.csv", "text,label\n\nmy card is gone,card\n\nno signal here,outage\n\n", TWO)
    add("csv/other-order.csv", "id,label,text\n1,card,my card is gone\n2,outage,no signal here\n", TWO)
    add("csv/pandas-index.csv", ",text,label\n0,my card is gone,card\n1,no signal here,outage\n", TWO)
    add("csv/upper-case.CSV", "text,label\nmy card is gone,card\nno signal here,outage\n", TWO)
    add("csv/all-quoted.csv", '"text","label"\n"my card is gone","card"\n"no signal here","outage"\n', TWO)
    add("csv/comma-in-quotes.csv", 'text,label\n"gone, my card",card\n', [["gone, my card", "card"]])
    add("csv/quote-in-quotes.csv", 'text,label\n"he said ""no""",card\n', [['he said "no"', "card"]])
    add("csv/line-in-quotes.csv", 'text,label\n"Hi, I need help\nthanks",card\n', [["Hi, I need help\nthanks", "card"]])
    add("csv/crlf-in-quotes.csv", 'text,label\r\n"a\r\nb",card\r\n', [["a\r\nb", "card"]])
    add("csv/inch-mark.csv", 'text,label\nsize 5" pipe,outage\n', [['size 5" pipe', "outage"]])
    add("csv/excel-trailing-columns.csv", "text,label,,\nmy card is gone,card,,\nno signal here,outage,,\n", TWO)
    add("csv/long-text.csv", "text,label\n" + "x" * 140_000 + ",card\n", [["x" * 140_000, "card"]])
    add("csv/nul-character.csv", "text,label\na\0b,card\n", [["a\0b", "card"]])
    add("csv/na-is-a-text.csv", "text,label\nNA,card\nnull,outage\n", [["NA", "card"], ["null", "outage"]])
    add(
        "csv/header-only.csv",
        "text,label\n",
        "test: PATH is empty; without a test set no round can be compared with another",
    )
    add("csv/empty.csv", "", "test: PATH is empty; without a test set no round can be compared with another")
    add(
        "csv/quote-never-closed.csv",
        'text,label\n"the line is dead,outage\nmy card,card\n',
        "PATH:2: a quote opens here and never closes; close it, or write a quote of the text twice in quotes",
    )
    add(
        "csv/quote-swallows-rows.csv",
        'text,label\n"the line is dead,outage\nmy card,card\nsize 5",card\n',
        "PATH:2: a text in quotes goes on over 3 lines, and the first of them is a row of its own; close the quote, or write a "
        "quote that belongs to the text twice; if the text is right, write the file as .jsonl",
    )
    add(
        "csv/quote-swallows-rows-label-first.csv",
        'label,text\noutage,"the line is dead\ncard,my card\ncard,size 5"\n',
        "PATH:2: a text in quotes goes on over 3 lines, and the first of them is a row of its own; close the quote, or write a "
        "quote that belongs to the text twice; if the text is right, write the file as .jsonl",
    )
    add(
        "csv/text-after-quote.csv",
        'text,label\nmy card,card\n"Pay now" is all I read,card\n',
        "PATH:3: a text goes on after its closing quote; put the whole text in quotes and write each quote within it twice",
    )
    add(
        "csv/comma-without-quotes.csv",
        "text,label\ngone, my card,card\n",
        "PATH:2: has 3 fields, the header 2; ',' separates fields: put texts that hold one in quotes",
    )
    add(
        "csv/label-missing.csv",
        "text,label\nmy card is gone\n",
        row(1) + "column 'label' holds None; labels are names, written as strings",
    )
    add(
        "csv/duplicate-column.csv",
        "text,label,label\na,card,outage\n",
        "PATH:1: the header names 'label' twice; give each column another name",
    )
    add(
        "csv/semicolons.csv",
        "text;label\nmy card;card\n",
        "PATH:1: the header 'text;label' has no ',', which separates the columns of a .csv file; save the file with ',' in "
        "place of ';'",
    )
    add(
        "csv/tabs.csv",
        "text\tlabel\nmy card\tcard\n",
        "PATH:1: the header 'text\\tlabel' has no ',', which separates the columns of a .csv file; save the file with ',' in "
        "place of '\\t'",
    )
    add(
        "csv/no-such-column.csv",
        "Text,label\nmy card,card\n",
        row(1)
        + "no column 'text'; did you mean 'Text'?; set task.text_column, label_column, or text and label where the file "
        "is named",
    )
    add(
        "csv/named-columns.csv",
        "utterance,intent\nmy card is gone,card\nno signal here,outage\n",
        TWO,
        text="utterance",
        label="intent",
    )
    add("csv/blank-text.csv", "text,label\n ,card\n", row(1) + "column 'text' holds ' '; every row needs a text")
    add(
        "csv/latin-1.csv",
        "text,label\nmy café card,card\n".encode("latin-1"),
        "PATH: not UTF-8 (invalid continuation byte at byte 17, line 2); convert the file",
    )
    add(
        "csv/utf-16.csv",
        "text,label\nmy card,card\n".encode("utf-16"),
        "PATH: not UTF-8 (invalid start byte at byte 0, line 1); convert the file",
    )
    add(
        "csv/spans.csv",
        'text,spans\nEU rejects,"[{""start"": 0, ""end"": 2, ""type"": ""ORG""}]"\nnobody,\nno one,[]\n',
        [["EU rejects", [[0, 2, "ORG"]]], ["nobody", []], ["no one", []]],
        "ner",
    )
    add(
        "csv/spans-repr.csv",
        "text,spans\nEU,\"[{'start': 0, 'end': 2, 'type': 'ORG'}]\"\n",
        row(1) + "column 'spans' holds \"[{'start': 0, 'end': 2, 'type': 'ORG'}]\": not JSON (Expecting property name "
        "enclosed in double quotes: line 1 column 3 (char 2)); write a list of spans",
        "ner",
    )
    add(
        "csv/spans-key-twice.csv",
        'text,spans\nEU,"[{""start"": 0, ""start"": 1, ""end"": 2, ""type"": ""ORG""}]"\n',
        row(1) + 'column \'spans\' holds \'[{"start": 0, "start": 1, "end": 2, "type": "ORG"}]\': the key '
        "'start' is there twice; keep one",
        "ner",
    )
    add(
        "csv/tokens.csv",
        'tokens,ner_tags\n"[""EU"", ""rejects""]","[""B-ORG"", ""O""]"\n',
        [["EU rejects", [[0, 2, "ORG"]]]],
        "ner",
    )


def tsv_files() -> None:
    add("tsv/plain.tsv", "text\tlabel\nmy card is gone\tcard\nno signal here\toutage\n", TWO)
    add("tsv/crlf.tsv", "text\tlabel\r\nmy card is gone\tcard\r\nno signal here\toutage\r\n", TWO)
    add("tsv/old-mac.tsv", "text\tlabel\rmy card is gone\tcard\rno signal here\toutage\r", TWO)
    add("tsv/bom.tsv", "\ufefftext\tlabel\nmy card is gone\tcard\nno signal here\toutage", TWO)
    add(
        "tsv/open-quote.tsv",
        'text\tlabel\nfirst\tcard\n"the line is dead\toutage\nmy card\tcard\nsaid "no" to me\tcard\n',
        [["first", "card"], ['"the line is dead', "outage"], ["my card", "card"], ['said "no" to me', "card"]],
    )
    add(
        "tsv/open-quote-alone.tsv",
        'text\tlabel\n"the line is dead\toutage\nmy card\tcard\n',
        [['"the line is dead', "outage"], ["my card", "card"]],
    )
    add(
        "tsv/quote-then-text.tsv", 'text\tlabel\n"Pay now" is all I read\tcard\n', [['"Pay now" is all I read', "card"]]
    )
    add(
        "tsv/whole-text-in-quotes.tsv",
        'text\tlabel\n"Pay now"\tcard\nmy card\tcard\n',
        [['"Pay now"', "card"], ["my card", "card"]],
    )
    add("tsv/all-quoted.tsv", '"text"\t"label"\n"my card is gone"\t"card"\n"no signal here"\t"outage"\n', TWO)
    add(
        "tsv/pandas-minimal.tsv",
        'text\tlabel\n"he said ""no"""\tcard\n"a\tb"\tcard\n"c\nd"\toutage\nplain\tcard\n',
        [['he said "no"', "card"], ["a\tb", "card"], ["c\nd", "outage"], ["plain", "card"]],
    )
    add(
        "tsv/two-meanings.tsv",
        'text\tlabel\n"the line is dead\toutage\nmy size 5"\tcard\n',
        "PATH:2: a quote opens here and closes on another line, yet each line is a row of its own; remove the quote, or write "
        "the file as .jsonl, where quotes have one meaning",
    )
    add(
        "tsv/two-quotes-on-two-lines.tsv",
        'text\tlabel\n"a\toutage\nb\tcard\n"c\toutage\nd"\tcard\n',
        [['"a', "outage"], ["b", "card"], ['"c', "outage"], ['d"', "card"]],
    )
    add(
        "tsv/tab-in-text.tsv",
        "text\tlabel\na\tb\tcard\n",
        "PATH:2: has 3 fields, the header 2; '\\t' separates fields: a text cannot hold one",
    )
    add(
        "tsv/label-missing.tsv",
        "text\tlabel\nmy card\n",
        row(1) + "column 'label' holds None; labels are names, written as strings",
    )
    add(
        "tsv/duplicate-column.tsv",
        "text\ttext\tlabel\na\tb\tcard\n",
        "PATH:1: the header names 'text' twice; give each column another name",
    )
    add(
        "tsv/commas.tsv",
        "text,label\nmy card,card\n",
        "PATH:1: the header 'text,label' has no '\\t', which separates the columns of a .tsv file; save the file with '\\t' in "
        "place of ','",
    )
    add("tsv/empty.tsv", "\n", "test: PATH is empty; without a test set no round can be compared with another")
    add(
        "tsv/spans.tsv",
        'text\tspans\nEU\t[{"start": 0, "end": 2, "type": "ORG"}]\nnobody\t\n',
        [["EU", [[0, 2, "ORG"]]], ["nobody", []]],
        "ner",
    )


def json_files() -> None:
    add("jsonl/plain.jsonl", lines(*TWO_ROWS), TWO)
    add("jsonl/plain.ndjson", lines(*TWO_ROWS), TWO)
    add("jsonl/bom-and-blank-lines.jsonl", "\ufeff\n" + "\n\n".join(map(json.dumps, TWO_ROWS)) + "\n \n", TWO)
    add("jsonl/crlf.jsonl", lines(*TWO_ROWS).replace("\n", "\r\n"), TWO)
    add(
        "jsonl/escapes.jsonl",
        '{"text": "caf\\u00e9 \\ud83d\\ude00\\n\\r\\t", "label": "card"}\n',
        [["café 😀\n\r\t", "card"]],
    )
    add(
        "jsonl/line-separators.jsonl",
        lines({"text": "a\u2028b\u0085c", "label": "card"}),
        [["a\u2028b\u0085c", "card"]],
    )
    add(
        "jsonl/other-keys.jsonl",
        lines({"text": "a", "label": "card", "score": None, "meta": {"label": "x"}}),
        [["a", "card"]],
    )
    add(
        "jsonl/key-twice.jsonl",
        lines(TWO_ROWS[0]) + '{"text": "a", "label": "card", "label": "outage"}\n',
        "PATH:2: the key 'label' is there twice; keep one",
    )
    add(
        "jsonl/key-twice-within.jsonl",
        '{"text": "a", "label": "card", "meta": {"x": 1, "x": 2}}\n',
        "PATH:1: the key 'x' is there twice; keep one",
    )
    add(
        "jsonl/nested-deep.jsonl",
        '{"text": "a", "label": "card", "x": ' + "[" * 20_000 + "]" * 20_000 + "}\n",
        "PATH:1: nested too deep; flatten it",
    )
    add(
        "jsonl/not-json.jsonl",
        lines(TWO_ROWS[0]) + "{'text': 'a', 'label': 'card'}\n",
        "PATH:2: not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); one object a line",
    )
    add(
        "jsonl/cut.jsonl",
        lines(TWO_ROWS[0]) + '{"text": "a", "la',
        "PATH:2: not JSON (Unterminated string starting at: line 1 column 15 (char 14)); one object a line",
    )
    add(
        "jsonl/two-on-a-line.jsonl",
        json.dumps(TWO_ROWS[0]) * 2,
        "PATH:1: not JSON (Extra data: line 1 column 45 (char 44)); one object a line",
    )
    add(
        "jsonl/array.jsonl",
        json.dumps(TWO_ROWS),
        'PATH:1: \'[{"text": "my card is gone", "label": "card"}, {"text": "no signal here", "label\' is not an '
        "object; one object a line",
    )
    add("jsonl/string.jsonl", '"my card"\n', "PATH:1: '\"my card\"' is not an object; one object a line")
    add(
        "jsonl/unknown-label.jsonl",
        lines({"text": "a", "label": "crad"}),
        row(1) + "column 'label' holds 'crad'; did you mean 'card'?",
    )
    add(
        "jsonl/null-label.jsonl",
        lines({"text": "a", "label": None}),
        row(1) + "column 'label' holds None; labels are names, written as strings",
    )
    add(
        "jsonl/true-label.jsonl",
        lines({"text": "a", "label": True}),
        row(1) + "column 'label' holds True; labels are names, written as strings",
    )
    add(
        "jsonl/list-label.jsonl",
        lines({"text": "a", "label": []}),
        row(1) + "column 'label' holds []; labels are names, written as strings",
    )
    add(
        "jsonl/null-text.jsonl",
        lines({"text": None, "label": "card"}),
        row(1) + "column 'text' holds None; every row needs a text",
    )
    add(
        "jsonl/number-text.jsonl",
        lines({"text": 12, "label": "card"}),
        row(1) + "column 'text' holds 12; every row needs a text",
    )
    add(
        "jsonl/no-label.jsonl",
        lines({"text": "a", "lable": "card"}),
        row(1)
        + "no column 'label'; did you mean 'lable'?; set task.text_column, label_column, or text and label where the "
        "file is named",
    )
    add(
        "jsonl/half-a-surrogate.jsonl",
        '{"text": "\\ud800 a", "label": "card"}\n',
        row(1) + "'\\ud800 a' holds half a surrogate pair; mend the text",
    )
    add(
        "jsonl/latin-1.jsonl",
        b'{"text": "a", "label": "card"}\n{"text": "caf\xe9", "label": "card"}\n',
        "PATH: not UTF-8 (invalid continuation byte at byte 44, line 2); convert the file",
    )
    add(
        "jsonl/utf-16.jsonl",
        lines(*TWO_ROWS).encode("utf-16"),
        "PATH: not UTF-8 (invalid start byte at byte 0, line 1); convert the file",
    )
    add("jsonl/empty.jsonl", "", "test: PATH is empty; without a test set no round can be compared with another")
    add(
        "jsonl/nested-columns.jsonl",
        lines({"document": {"text": "a"}, "answer": {"kind": {"name": "card"}}}),
        [["a", "card"]],
        text="document.text",
        label="answer.kind.name",
    )
    add(
        "jsonl/dots-in-a-name.jsonl", lines({"a.b": "x", "a": {"b": "y"}, "label": "card"}), [["x", "card"]], text="a.b"
    )
    add(
        "jsonl/text.txt",
        "my card is gone\n",
        "PATH: unknown format '.txt'; use one of .jsonl, .ndjson, .json, .csv, .tsv, .xlsx, .parquet, .arrow, .feather, or one of these "
        "with .gz, .bz2, .xz, .zst behind it",
    )
    add("json/array.json", json.dumps(TWO_ROWS), TWO)
    add("json/array-indented.json", json.dumps(TWO_ROWS, indent=2), TWO)
    add("json/array-bom.json", "\ufeff" + json.dumps(TWO_ROWS), TWO)
    add("json/lines.json", lines(*TWO_ROWS), TWO)
    add("json/one-line.json", json.dumps(TWO_ROWS[0]), [TWO[0]])
    add(
        "json/empty-array.json",
        " [ ]\n",
        "test: PATH is empty; without a test set no round can be compared with another",
    )
    add("json/empty.json", "", "test: PATH is empty; without a test set no round can be compared with another")
    add(
        "json/key-twice.json",
        '[{"text": "a", "label": "card"}, {"text": "a", "text": "b", "label": "card"}]',
        "PATH: element 2: the key 'text' is there twice; keep one",
    )
    add(
        "json/nested-deep.json",
        '[{"text": "a", "label": "card", "x": ' + "[" * 20_000 + "]" * 20_000 + "}]",
        "PATH: element 1: nested too deep; flatten it",
    )
    add(
        "json/comma-missing.json",
        '[{"text": "a", "label": "card"}\n {"text": "b", "label": "card"}]',
        "PATH: element 2: not JSON (Expecting ',' or ']': line 2 column 2 (char 33)); write an array of objects",
    )
    add(
        "json/comma-too-many.json",
        '[{"text": "a", "label": "card"},]',
        "PATH: element 2: not JSON (Expecting ',' or ']': line 1 column 33 (char 32)); write an array of objects",
    )
    add(
        "json/cut.json",
        '[{"text": "a", "label": "card"}, {"text": "b"',
        "PATH: element 2: not JSON (Expecting ',' delimiter: line 1 column 46 (char 45)); write an array of objects",
    )
    add(
        "json/more-after.json",
        '[{"text": "a", "label": "card"}] x',
        "PATH: not JSON (more text after the array: 'x'); write an array of objects",
    )
    add("json/array-of-strings.json", '["a", "b"]', "PATH: element 1, 'a', is not an object; write an array of objects")
    add(
        "json/indented-object.json",
        json.dumps({"data": TWO_ROWS}, indent=1),
        "PATH: holds one object, not a list of rows; write an array of objects, or one object a line",
    )
    add(
        "json/columns.json",
        json.dumps({"text": {"0": "a"}, "label": {"0": "card"}}),
        row(1) + "column 'text' holds {'0': 'a'}; every row needs a text",
    )


def classes(table: pa.Table, features: dict[str, Any]) -> pa.Table:
    """The table as `datasets` writes it: with its features in the metadata."""
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def label_of(*names: str) -> dict[str, Any]:
    return {"names": list(names), "_type": "ClassLabel"}


def value(dtype: str = "string") -> dict[str, Any]:
    return {"dtype": dtype, "_type": "Value"}


def parquet(table: pa.Table) -> Callable[[Path], Any]:
    return lambda path: pq.write_table(table, path)


def arrow(table: pa.Table, writer: Callable[..., pa.ipc.RecordBatchWriter]) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as file:
            file.write_table(table)

    return write


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def arrow_files() -> None:
    plain = pa.Table.from_pylist(TWO_ROWS)
    add("arrow/plain.parquet", parquet(plain), TWO)
    add("arrow/upper-case.PARQUET", parquet(plain), TWO)
    add("arrow/file.arrow", arrow(plain, pa.ipc.new_file), TWO)
    add("arrow/stream.arrow", arrow(plain, pa.ipc.new_stream), TWO)
    add("arrow/upper-case.ARROW", arrow(plain, pa.ipc.new_file), TWO)
    add("arrow/pandas.feather", lambda path: feather.write_feather(plain, path), TWO)
    add("arrow/large-and-dictionary.parquet", parquet(table(
        text=pa.array([text for text, _ in TWO], pa.large_string()),
        label=pa.array([label for _, label in TWO]).dictionary_encode())), TWO)  # fmt: skip
    add(
        "arrow/cut.parquet",
        b"PAR1",
        "PATH: cannot be read (Parquet file size is 4 bytes, smaller than the minimum file footer (8 bytes)); is it a whole "
        "parquet file?",
    )
    add("arrow/not-arrow.arrow", b"ARROW1", "PATH: cannot be read (File is too small: 6); is it a whole arrow file?")
    add(
        "arrow/empty.parquet",
        parquet(plain.slice(0, 0)),
        "test: PATH is empty; without a test set no round can be compared with another",
    )
    twice = pa.Table.from_arrays(
        [pa.array(["a"]), pa.array(["card"]), pa.array(["outage"])], ["text", "label", "label"]
    )
    add(
        "arrow/column-twice.parquet",
        parquet(twice),
        "PATH: has two columns called 'label'; give each column another name",
    )
    add(
        "arrow/column-twice.arrow",
        arrow(twice, pa.ipc.new_file),
        "PATH: has two columns called 'label'; give each column another name",
    )
    numbers = table(text=["my card is gone", "no signal here"], label=pa.array([1, 0], pa.int64()))
    features = {"text": value(), "label": label_of("outage", "card")}
    add("arrow/class-label.parquet", parquet(classes(numbers, features)), TWO)
    add("arrow/class-label.arrow", arrow(classes(numbers, features), pa.ipc.new_stream), TWO)
    hidden = table(text=["my card is gone", "no signal here"], label=pa.array([1, -1], pa.int64()))
    add(
        "arrow/class-label-hidden.parquet",
        parquet(classes(hidden, features)),
        row(2)
        + "column 'label' holds -1, which marks hidden labels: no class of the column (0: outage, 1: card); name a "
        "split that has labels",
    )
    beyond = table(text=["a"], label=pa.array([2], pa.int64()))
    add(
        "arrow/class-label-beyond.parquet",
        parquet(classes(beyond, features)),
        row(1) + "column 'label' holds 2: no class of the column (0: outage, 1: card); name a split that has labels",
    )
    null = table(text=["a"], label=pa.array([None], pa.int64()))
    add(
        "arrow/class-label-null.parquet",
        parquet(classes(null, features)),
        row(1) + "column 'label' holds None; labels are names, written as strings",
    )
    add(
        "arrow/numbers-without-names.parquet",
        parquet(numbers),
        row(1)
        + "column 'label' holds 1; labels are names: say which each number is with label_map, e.g. {1: outage}, where "
        "the file is named",
    )
    add("arrow/numbers-with-a-map.parquet", parquet(numbers), TWO, label_map={"0": "outage", "1": "card"})
    inside = table(text=["a"], answer=pa.array([{"label": 1, "by": "x"}]))
    add(
        "arrow/class-label-in-a-struct.parquet",
        parquet(classes(inside, {"text": value(), "answer": {"label": label_of("outage", "card"), "by": value()}})),
        [["a", "card"]],
        label="answer.label",
    )
    tags = ("O", "B-ORG", "I-ORG")
    words = table(tokens=[["EU", "rejects"], ["the", "big", "EU"]], ner_tags=pa.array([[1, 0], [0, -100, 1]]))
    for kind in ("List", "Sequence", "LargeList"):
        add(f"arrow/tags-in-a-{kind.lower()}.parquet",
            parquet(classes(words, {"tokens": {"feature": value(), "_type": kind},
                                    "ner_tags": {"feature": label_of(*tags), "_type": kind}})),
            [["EU rejects", [[0, 2, "ORG"]]], ["the big EU", [[8, 10, "ORG"]]]], "ner")  # fmt: skip
    add(
        "arrow/tags-in-brackets.parquet",
        parquet(classes(words, {"tokens": [value()], "ner_tags": [label_of(*tags)]})),
        [["EU rejects", [[0, 2, "ORG"]]], ["the big EU", [[8, 10, "ORG"]]]],
        "ner",
    )
    add("arrow/tags-hidden.parquet",
        parquet(classes(table(tokens=[["EU", "rejects"]], ner_tags=pa.array([[-1, -1]])),
                        {"tokens": [value()], "ner_tags": [label_of(*tags)]})),
        row(1) + "column 'ner_tags' holds -1, which marks hidden labels: no class of the column (0: O, 1: B-ORG, 2: I-ORG) at "
        "place 1 of 2; name a split that has labels", "ner")  # fmt: skip
    add("arrow/tags-ignored-without-o.parquet",
        parquet(classes(table(tokens=[["EU"]], ner_tags=pa.array([[-100]])),
                        {"tokens": [value()], "ner_tags": [label_of("B-ORG", "I-ORG")]})),
        row(1) + "column 'ner_tags' holds [-100: no class of the column (0: B-ORG, 1: I-ORG)]; name a split that has labels",
        "ner")  # fmt: skip
    add(
        "arrow/tags-as-numbers.parquet",
        parquet(words.slice(0, 1)),
        row(1)
        + "column 'ner_tags' holds 1 at place 1 of 2; tokens, and tags by name, are lists of strings; say which tag each "
        "number is with label_map, e.g. {1: O}, where the file is named",
        "ner",
    )
    add(
        "arrow/tags-as-numbers-with-a-map.parquet",
        parquet(words),
        [["EU rejects", [[0, 2, "ORG"]]], ["the big EU", [[8, 10, "ORG"]]]],
        "ner",
        label_map={"0": "O", "1": "B-ORG", "2": "I-ORG", "-100": "O"},
    )
    spans = [[{"start": 0, "end": 2, "type": 1}]]
    add("arrow/spans-with-class-labels.parquet",
        parquet(classes(table(text=["EU rejects"], spans=spans),
                        {"text": value(), "spans": [{"start": value("int32"), "end": value("int32"),
                                                     "type": label_of("PER", "ORG")}]})),
        [["EU rejects", [[0, 2, "ORG"]]]], "ner")  # fmt: skip
    columns = table(text=["EU rejects"], spans=pa.array([{"start": [0], "end": [2], "type": [1]}]))
    add("arrow/spans-as-struct-of-lists.parquet",
        parquet(classes(columns, {"text": value(), "spans": {
            "feature": {"start": value("int32"), "end": value("int32"), "type": label_of("PER", "ORG")}, "_type": "Sequence"}})),
        [["EU rejects", [[0, 2, "ORG"]]]], "ner")  # fmt: skip


def packed_files() -> None:
    jsonl, csv = lines(*TWO_ROWS).encode(), b"text,label\nmy card is gone,card\nno signal here,outage\n"
    packers = {".gz": lambda data: gzip.compress(data, mtime=0), ".bz2": bz2.compress, ".xz": lzma.compress,
               ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True)}  # fmt: skip
    for end, pack in packers.items():
        add(f"packed/rows.jsonl{end}", pack(jsonl), TWO)
        add(f"packed/rows.csv{end}", pack(csv), TWO)
    add("packed/rows.JSONL.GZ", packers[".gz"](jsonl), TWO)
    add(
        "packed/two-members.jsonl.gz",
        packers[".gz"](lines(TWO_ROWS[0]).encode()) + packers[".gz"](lines(TWO_ROWS[1]).encode()),
        TWO,
    )
    add(
        "packed/two-frames.jsonl.zst",
        packers[".zst"](lines(TWO_ROWS[0]).encode()) + packers[".zst"](lines(TWO_ROWS[1]).encode()),
        TWO,
    )
    add("packed/rows.json.gz", packers[".gz"](json.dumps(TWO_ROWS).encode()), TWO)
    add("packed/rows.tsv.zst", packers[".zst"](csv.replace(b",", b"\t")), TWO)
    add("packed/rows.conll.gz", packers[".gz"](b"EU B-ORG\nrejects O\n"), [["EU rejects", [[0, 2, "ORG"]]]], "ner")

    def packed_parquet(path: Path) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(TWO_ROWS), sink)
        path.write_bytes(packers[".gz"](sink.getvalue().to_pybytes()))

    add("packed/rows.parquet.gz", packed_parquet, TWO)
    for end, message in {
        ".gz": "Compressed file ended before the end-of-stream marker was reached",
        ".bz2": "Compressed file ended before the end-of-stream marker was reached",
        ".xz": "Compressed file ended before the end-of-stream marker was reached",
        ".zst": "Truncated compressed stream",
    }.items():
        add(
            f"packed/cut.jsonl{end}",
            packers[end](jsonl)[:-10],
            f"PATH: cannot be decompressed ({message}); is it a whole {end} file?",
        )
    add(
        "packed/not-packed.jsonl.gz",
        jsonl,
        "PATH: cannot be decompressed (Not a gzipped file (b'{\"')); is it a whole .gz file?",
    )
    add(
        "packed/not-packed.jsonl.zst",
        jsonl,
        "PATH: cannot be decompressed (ZSTD decompress failed: Unknown frame descriptor); is it a whole .zst file?",
    )
    add(
        "packed/latin-1.jsonl.gz",
        packers[".gz"](b'{"text": "caf\xe9", "label": "card"}\n'),
        "PATH: not UTF-8 (invalid continuation byte at byte 13, line 1); convert the file",
    )
    add(
        "packed/rows.zip",
        b"PK\x03\x04",
        "PATH: unknown format '.zip'; use one of .jsonl, .ndjson, .json, .csv, .tsv, .xlsx, .parquet, .arrow, .feather, or one of these "
        "with .gz, .bz2, .xz, .zst behind it",
    )


def conll_files() -> None:
    eu = [["EU rejects", [[0, 2, "ORG"]]]]
    add("conll/plain.conll", "EU B-ORG\nrejects O\n", eu, "ner")
    add("conll/conll-2003.txt", "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n", eu, "ner")
    add("conll/crlf.bio", "EU\tB-ORG\r\nrejects\tO\r\n", eu, "ner")
    add("conll/bom.iob", "\ufeffEU B-ORG\nrejects O\n", eu, "ner")
    add(
        "conll/bioes.conll",
        "Bank B-ORG\nof I-ORG\nPeru E-ORG\nin O\nLima S-LOC\n",
        [["Bank of Peru in Lima", [[0, 12, "ORG"], [16, 20, "LOC"]]]],
        "ner",
    )
    add(
        "conll/iob1.conll",
        "Bank I-ORG\nof I-ORG\nPeru I-ORG\nLima B-ORG\n",
        [["Bank of Peru Lima", [[0, 12, "ORG"], [13, 17, "ORG"]]]],
        "ner",
    )
    add("conll/comments.conll", "# sent_id = 1\nEU B-ORG\n# O\n", [["EU #", [[0, 2, "ORG"]]]], "ner")
    add(
        "conll/numbered.conll",
        "1\tEU\t_\tB-ORG\n2\trejects\t_\tO\n\n1\tRome\t_\tB-LOC\n",
        [*eu, ["Rome", [[0, 4, "LOC"]]]],
        "ner",
    )
    add("conll/numbers.conll", "1 O\n2 O\n", [["1 2", []]], "ner")
    add("conll/chinese.conll", "东 B-LOC\n京 I-LOC\n很 O\n大 O\n", [["东京很大", [[0, 2, "LOC"]]]], "ner")
    add("conll/rows-of-any-name.data", "EU B-ORG\nrejects O\n", eu, "ner", format="conll")
    add("conll/renamed-types.conll", "EU B-organisation\nrejects O\n", eu, "ner", label_map={"organisation": "ORG"})
    add("conll/renamed-tags.conll", "EU B-organisation\nrejects O\n", eu, "ner", label_map={"B-organisation": "B-ORG"})
    add(
        "conll/no-tag.conll",
        "EU B-ORG\n\nrejects\n",
        "PATH:3: 'rejects' does not end in a tag (O, B-type or I-type); lines are: token, other columns if any, tag",
        "ner",
    )
    add(
        "conll/unknown-type.conll",
        "EU B-ORGA\n",
        row(1) + "'ORGA' is no type of the task; did you mean 'ORG'?; to drop spans of other types set "
        "task.ignore_other_types: true, to rename them label_map where the file is named",
        "ner",
    )
    add(
        "conll/latin-1.conll",
        "Köln B-LOC\n".encode("latin-1"),
        "PATH: not UTF-8 (invalid start byte at byte 1, line 1); convert the file",
        "ner",
    )
    add(
        "conll/empty.conll",
        "\n\n",
        "test: PATH is empty; without a test set no round can be compared with another",
        "ner",
    )
    add(
        "conll/unknown.xml",
        "<a/>",
        "PATH: unknown format '.xml'; use one of .jsonl, .ndjson, .json, .csv, .tsv, .xlsx, .parquet, .arrow, .feather, .conll, .bio, "
        ".iob, .txt, or one of these with .gz, .bz2, .xz, .zst behind it",
        "ner",
    )


def label_files() -> None:
    add(
        "labels/numbers-with-a-gap.csv",
        "text,label\nmy card is gone,1.0\nno signal here,0.0\n",
        TWO,
        label_map={"0": "outage", "1": "card"},
    )
    add(
        "labels/numbers-without-names.csv",
        "text,label\nmy card is gone,1\n",
        row(1)
        + "column 'label' holds '1'; valid: card, outage; say which label each number is with label_map, e.g. {1: outage}, "
        "where the file is named",
    )
    add(
        "labels/numbers.jsonl",
        lines({"text": "a", "label": 3}),
        row(1)
        + "column 'label' holds 3; labels are names: say which each number is with label_map, e.g. {3: outage}, where the "
        "file is named",
    )
    add(
        "labels/numbers-with-a-map.jsonl",
        lines({"text": "a", "label": 3}, {"text": "b", "label": "3"}, {"text": "c", "label": 3.0}),
        [["a", "card"], ["b", "card"], ["c", "card"]],
        label_map={"3": "card"},
    )
    add(
        "labels/numbers-with-a-map.csv",
        "text,label\na,3\nb,0\n",
        [["a", "card"], ["b", "outage"]],
        label_map={"0": "outage", "3": "card"},
    )
    add(
        "labels/codes-with-a-map.jsonl",
        lines({"text": "a", "label": "CRD"}, {"text": "b", "label": "card"}),
        [["a", "card"], ["b", "card"]],
        label_map={"CRD": "card"},
    )
    add(
        "labels/true-and-false.jsonl",
        lines({"text": "a", "label": True}, {"text": "b", "label": False}),
        [["a", "card"], ["b", "outage"]],
        label_map={"true": "card", "false": "outage"},
    )
    add(
        "labels/number-not-in-the-map.jsonl",
        lines({"text": "a", "label": 4}),
        row(1)
        + "column 'label' holds 4; labels are names: say which each number is with label_map, e.g. {4: outage}, where the "
        "file is named",
        label_map={"3": "card"},
    )
    add(
        "labels/text-and-spans-named.jsonl",
        lines({"sentence": "EU rejects", "entities": [{"start": 0, "end": 2, "label": "ORG"}]}),
        [["EU rejects", [[0, 2, "ORG"]]]],
        "ner",
        text="sentence",
        label="entities",
    )
    add(
        "labels/words-and-tags-named.jsonl",
        lines({"words": ["EU", "rejects"], "labels": ["B-ORG", "O"]}),
        [["EU rejects", [[0, 2, "ORG"]]]],
        "ner",
        text="words",
        label="labels",
    )
    add(
        "labels/words-and-numbers-named.jsonl",
        lines({"words": ["EU", "rejects"], "labels": [1, 0]}),
        [["EU rejects", [[0, 2, "ORG"]]]],
        "ner",
        text="words",
        label="labels",
        label_map={"0": "O", "1": "B-ORG"},
    )
    add(
        "labels/no-columns.jsonl",
        lines({"sentence": "EU rejects"}),
        row(1) + "columns sentence; a row needs 'text' and 'spans', or 'tokens' and 'ner_tags': set task.text_column, "
        "spans_column, tokens_column, tags_column, or text and label where the file is named",
        "ner",
    )
    add(
        "labels/lengths-differ.jsonl",
        lines({"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG"]}),
        row(1) + "2 tokens in 'tokens', 1 tags in 'ner_tags'",
        "ner",
    )


SMILE = "😀 EU rejects"
TOKYO = "😀東京の会社"


def offset_files() -> None:
    eu = [[SMILE, [[2, 4, "ORG"]]]]
    add(
        "offsets/whole-numbers-as-floats.jsonl",
        lines(
            {"text": "EU rejects", "spans": [{"start": 0.0, "end": 2.0, "type": "ORG"}]},
            {"text": "EU", "spans": [[0.0, 2.0, "ORG"]]},
        ),
        [["EU rejects", [[0, 2, "ORG"]]], ["EU", [[0, 2, "ORG"]]]],
        "ner",
    )
    add("offsets/characters.jsonl", lines({"text": SMILE, "spans": [[2, 4, "ORG"]]}), eu, "ner")
    add("offsets/utf-16.jsonl", lines({"text": SMILE, "spans": [[3, 5, "ORG"]]}), eu, "ner", offsets="utf-16")
    add("offsets/bytes.jsonl", lines({"text": SMILE, "spans": [[5, 7, "ORG"]]}), eu, "ner", offsets="bytes")
    flag = "👩‍🚀🇩🇪 EU rejects"
    add(
        "offsets/graphemes.jsonl",
        lines({"text": flag, "spans": [[3, 5, "ORG"]]}),
        [[flag, [[6, 8, "ORG"]]]],
        "ner",
        offsets="graphemes",
    )
    add(
        "offsets/utf-16-not-said.jsonl",
        lines({"text": SMILE, "spans": [[3, 5, "ORG"]]}),
        row(1)
        + "column 'spans': the offsets of [3, 5, 'ORG'] do not fit the text when they count characters, and do when they "
        "count UTF-16 units ('EU'); set `offsets: utf-16` where the file is named",
        "ner",
    )
    add(
        "offsets/bytes-not-said.jsonl",
        lines({"text": "é EU rejects", "spans": [[3, 5, "ORG"]]}),
        row(1)
        + "column 'spans': the offsets of [3, 5, 'ORG'] do not fit the text when they count characters, and do when they "
        "count bytes of UTF-8 ('EU'); set `offsets: bytes` where the file is named",
        "ner",
    )
    add(
        "offsets/utf-16-shown-by-surfaces.jsonl",
        lines({"text": SMILE, "spans": [{"start": 3, "end": 5, "type": "ORG", "surface": "EU"}]}),
        eu,
        "ner",
    )
    add(
        "offsets/characters-shown-by-surfaces.jsonl",
        lines({"text": TOKYO, "spans": [{"start": 1, "end": 3, "type": "LOC", "surface": "東京"}]}),
        [[TOKYO, [[1, 3, "LOC"]]]],
        "ner",
    )
    add(
        "offsets/japanese-utf-16-shown-by-surfaces.jsonl",
        lines({"text": TOKYO, "spans": [{"start": 2, "end": 4, "type": "LOC", "surface": "東京"}]}),
        [[TOKYO, [[1, 3, "LOC"]]]],
        "ner",
    )
    add(
        "offsets/japanese-either.jsonl",
        lines({"text": TOKYO, "spans": [[2, 4, "LOC"]]}),
        row(1)
        + "column 'spans': the offsets of [2, 4, 'LOC'] may count characters ('京の') or UTF-16 units ('東京'); set "
        "`offsets` to characters or utf-16 where the file is named, or give each span its text",
        "ner",
    )
    add(
        "offsets/japanese-utf-16.jsonl",
        lines({"text": TOKYO, "spans": [[2, 4, "LOC"]]}),
        [[TOKYO, [[1, 3, "LOC"]]]],
        "ner",
        offsets="utf-16",
    )
    add(
        "offsets/japanese-characters.jsonl",
        lines({"text": TOKYO, "spans": [[2, 4, "LOC"]]}),
        [[TOKYO, [[2, 4, "LOC"]]]],
        "ner",
        offsets="characters",
    )
    add(
        "offsets/japanese-before-the-emoji.jsonl",
        lines({"text": "東京😀です", "spans": [[0, 2, "LOC"]]}),
        [["東京😀です", [[0, 2, "LOC"]]]],
        "ner",
    )
    add(
        "offsets/rare-character.jsonl",
        lines({"text": "𠮷野家は東京", "spans": [[4, 6, "LOC"]]}),
        row(1)
        + "column 'spans': the offsets of [4, 6, 'LOC'] may count characters ('東京') or UTF-16 units ('は東'); set "
        "`offsets` to characters or utf-16 where the file is named, or give each span its text",
        "ner",
    )
    add(
        "offsets/rare-character-said.jsonl",
        lines({"text": "𠮷野家は東京", "spans": [[4, 6, "LOC"]]}),
        [["𠮷野家は東京", [[4, 6, "LOC"]]]],
        "ner",
        offsets="characters",
    )
    add(
        "offsets/chinese-without-rare-characters.jsonl",
        lines({"text": "我在东京工作", "spans": [[2, 4, "LOC"]]}),
        [["我在东京工作", [[2, 4, "LOC"]]]],
        "ner",
    )
    add(
        "offsets/wrong-unit-said.jsonl",
        lines({"text": SMILE, "spans": [[2, 4, "ORG"]]}),
        row(1)
        + "column 'spans': the offsets of [2, 4, 'ORG'] do not fit the text when they count UTF-16 units, and do when "
        "they count characters ('EU'); set `offsets: characters` where the file is named",
        "ner",
        offsets="utf-16",
    )
    add(
        "offsets/in-no-unit.jsonl",
        lines({"text": SMILE, "spans": [[40, 42, "ORG"]]}),
        row(1) + "column 'spans': span [40, 42, 'ORG'] needs start and end within the text's 12 characters",
        "ner",
    )
    add(
        "offsets/within-a-word.jsonl",
        lines({"text": "EU rejects", "spans": [[0, 1, "ORG"]]}),
        row(1) + "span 'E' at 0:1 begins or ends within a word: 'EU rejects'; correct the row or remove it",
        "ner",
    )
    add(
        "offsets/moved.jsonl",
        lines({"text": "EU rejects", "spans": [{"start": 3, "end": 10, "type": "ORG", "surface": "EU"}]}),
        row(1)
        + "span 'EU' at 3:10 has moved: the text says 'rejects' there: 'EU rejects'; correct the row or remove it",
        "ner",
    )
    add(
        "offsets/no-offsets.jsonl",
        lines({"text": "EU and EU", "spans": [{"text": "EU", "type": "ORG"}]}),
        [["EU and EU", [[0, 2, "ORG"], [7, 9, "ORG"]]]],
        "ner",
    )
    add(
        "offsets/start-without-end.jsonl",
        lines({"text": "EU rejects", "spans": [{"start": 0, "type": "ORG"}]}),
        row(1) + "column 'spans': span {'start': 0, 'type': 'ORG'} needs start and end within the text's 10 characters",
        "ner",
    )
    add(
        "offsets/strings.jsonl",
        lines({"text": "EU rejects", "spans": [["0", "2", "ORG"]]}),
        row(1) + "column 'spans': span ['0', '2', 'ORG'] needs start and end within the text's 10 characters",
        "ner",
    )
    add(
        "offsets/null-spans.jsonl",
        lines({"text": "EU rejects", "spans": None}),
        row(1)
        + 'column \'spans\' holds None; spans are a list of {"start", "end", "type"} or {"text", "type"}, empty when the '
        "text has none",
        "ner",
    )


def task_of(id: int, data: dict[str, Any], *annotations: dict[str, Any]) -> dict[str, Any]:
    """A task of Label Studio's JSON export."""
    return {"id": id, "annotations": list(annotations), "file_upload": "1a2b3c4d-rows.json", "drafts": [], "predictions": [],
            "data": data, "meta": {}, "created_at": "2024-05-02T09:12:44.513742Z", "inner_id": id, "total_annotations": 1,
            "cancelled_annotations": 0, "project": 7, "updated_by": 1}  # fmt: skip


def annotation(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 31, "completed_by": 1, "result": list(results), "was_cancelled": False, "ground_truth": False,
            "created_at": "2024-05-02T09:14:01.114Z", "lead_time": 8.4, **more}  # fmt: skip


def labels(start: int, end: int, text: str, *names: str, question: str = "label") -> dict[str, Any]:
    return {"value": {"start": start, "end": end, "text": text, "labels": list(names)}, "id": "BtfOIVC3G2",
            "from_name": question, "to_name": "text", "type": "labels", "origin": "manual"}  # fmt: skip


def choices(*names: str, question: str = "intent") -> dict[str, Any]:
    return {"value": {"choices": list(names)}, "id": "5n2MsvFQur", "from_name": question, "to_name": "text",
            "type": "choices", "origin": "manual"}  # fmt: skip


def tool(name: str, unannotated: int = 0) -> dict[str, Any]:
    return {"format": name, "unannotated": unannotated}


def doccano_files() -> None:
    add("doccano/sequence.jsonl",
        lines({"id": 1, "text": "EU rejects German call", "label": [[0, 2, "ORG"], [11, 17, "LOC"]], "Comments": []},
              {"id": 2, "text": "nothing here", "label": [], "Comments": []}),
        [["EU rejects German call", [[0, 2, "ORG"], [11, 17, "LOC"]]], ["nothing here", []]], "ner", tool("doccano"))  # fmt: skip
    add("doccano/relations.jsonl",
        lines({"id": 1, "text": "EU rejects", "entities": [{"id": 5, "label": "ORG", "start_offset": 0, "end_offset": 2}],
               "relations": [], "Comments": []}), [["EU rejects", [[0, 2, "ORG"]]]], "ner", tool("doccano"))  # fmt: skip
    add(
        "doccano/utf-16.jsonl",
        lines({"id": 1, "text": SMILE, "label": [[3, 5, "ORG"]], "Comments": []}),
        [[SMILE, [[2, 4, "ORG"]]]],
        "ner",
        tool("doccano"),
    )
    add(
        "doccano/blank-behind.jsonl",
        lines({"id": 1, "text": SMILE, "label": [[3, 6, "ORG"]], "Comments": []}),
        [[SMILE, [[2, 4, "ORG"]]]],
        "ner",
        tool("doccano"),
    )
    add(
        "doccano/japanese-utf-16.jsonl",
        lines({"id": 1, "text": TOKYO, "label": [[2, 4, "LOC"]]}),
        [[TOKYO, [[1, 3, "LOC"]]]],
        "ner",
        tool("doccano"),
    )
    flag = "👩‍🚀🇩🇪 EU rejects"
    add(
        "doccano/graphemes.jsonl",
        lines({"id": 1, "text": flag, "label": [[3, 5, "ORG"]]}),
        [[flag, [[6, 8, "ORG"]]]],
        "ner",
        tool("doccano"),
        offsets="graphemes",
    )
    crew = "👩‍🚀👩‍🚀 EU rejects UN"
    add(
        "doccano/graphemes-not-said.jsonl",
        lines({"id": 1, "text": crew, "label": [[3, 5, "ORG"], [14, 16, "ORG"]]}),
        row(1)
        + "column 'label': the offsets of [14, 16, 'ORG'] do not fit the text when they count UTF-16 units, and do when "
        "they count grapheme clusters ('EU', 'UN'); set `offsets: graphemes` where the file is named",
        "ner",
    )
    add("doccano/classes.jsonl",
        lines({"id": 1, "text": "my card", "label": ["card"], "Comments": []},
              {"id": 2, "text": "not looked at", "label": [], "Comments": []}),
        [["my card", "card"]], more=tool("doccano", 1))  # fmt: skip
    add(
        "doccano/classes-two-labels.jsonl",
        lines({"id": 1, "text": "my card", "label": ["card", "outage"]}),
        "PATH, row 1: 'label' holds ['card', 'outage'], more than one label; keep one, a text has one label in this task",
    )
    add(
        "doccano/classes.csv",
        "id,text,label\n1,my card,card\n2,not looked at,\n",
        [["my card", "card"]],
        more=tool("doccano", 1),
        format="doccano",
    )
    add(
        "doccano/intents-and-slots.jsonl",
        lines({"id": 1, "text": "EU rejects", "cats": ["card"], "entities": [[0, 2, "ORG"]], "Comments": []}),
        [["EU rejects", [[0, 2, "ORG"]]]],
        "ner",
        tool("doccano"),
    )


def label_studio_files() -> None:
    name = "label-studio"
    eu = labels(0, 2, "EU", "ORG")
    add("label-studio/json.json",
        json.dumps([task_of(1, {"text": "EU rejects German call"}, annotation(eu, labels(11, 17, "German", "LOC"))),
                    task_of(2, {"text": "nothing here"}, annotation()),
                    task_of(3, {"text": "not looked at"}),
                    task_of(4, {"text": "skipped"}, annotation(was_cancelled=True))], indent=1),
        [["EU rejects German call", [[0, 2, "ORG"], [11, 17, "LOC"]]], ["nothing here", []]], "ner", tool(name, 2))  # fmt: skip
    add("label-studio/json-min.json",
        json.dumps([{"text": "EU rejects", "id": 1, "label": [eu["value"]], "annotator": 1, "annotation_id": 31,
                     "created_at": "2024-05-02T09:14:01Z", "updated_at": "2024-05-02T09:14:01Z", "lead_time": 8.4},
                    {"text": "nothing here", "id": 2, "annotator": 1, "annotation_id": 32, "created_at": "", "updated_at": "",
                     "lead_time": 2.1},
                    {"text": "not looked at", "id": 3, "annotator": {}, "annotation_id": None, "created_at": None,
                     "updated_at": None, "lead_time": None}]),
        [["EU rejects", [[0, 2, "ORG"]]], ["nothing here", []]], "ner", tool(name, 1))  # fmt: skip
    cell = json.dumps([eu["value"]]).replace('"', '""')
    add(
        "label-studio/table.csv",
        "text,id,label,annotator,annotation_id,created_at,updated_at,lead_time\n"
        f'EU rejects,1,"{cell}",1,31,2024-05-02,2024-05-02,8.4\n',
        [["EU rejects", [[0, 2, "ORG"]]]],
        "ner",
        tool(name),
    )
    add(
        "label-studio/emoji-old.json",
        json.dumps([task_of(1, {"text": SMILE}, annotation(labels(3, 5, "EU", "ORG")))]),
        [[SMILE, [[2, 4, "ORG"]]]],
        "ner",
        tool(name),
    )
    # As the page of 1.23 writes spans that go over a line break, or were marked with the blank behind them.
    two_lines = "😀 Rome\nTokyo \\n NATO met"
    marked = annotation(labels(2, 13, "Rome\\nTokyo ", "LOC"), labels(16, 21, "NATO ", "ORG"))
    add(
        "label-studio/line-break.json",
        json.dumps([task_of(1, {"text": two_lines}, marked)]),
        [[two_lines, [[2, 12, "LOC"], [16, 20, "ORG"]]]],
        "ner",
        tool(name),
    )
    add(
        "label-studio/emoji-new.json",
        json.dumps([task_of(1, {"text": SMILE}, annotation(labels(2, 4, "EU", "ORG")))]),
        [[SMILE, [[2, 4, "ORG"]]]],
        "ner",
        tool(name),
    )
    add(
        "label-studio/two-types.json",
        json.dumps([task_of(1, {"text": "EU"}, annotation(labels(0, 2, "EU", "ORG", "LOC")))]),
        row(1)
        + "column 'label' holds {'start': 0, 'end': 2, 'text': 'EU', 'labels': ['ORG', 'LOC']}; a span has one type "
        "here, keep one of its labels",
        "ner",
    )
    add("label-studio/choices.json",
        json.dumps([task_of(1, {"text": "my card"}, annotation(choices("card"))),
                    task_of(2, {"text": "no signal"}, annotation(choices("outage"), labels(3, 9, "signal", "x"))),
                    task_of(3, {"text": "not looked at"})]),
        [["my card", "card"], ["no signal", "outage"]], more=tool(name, 1))  # fmt: skip
    add("label-studio/choices-min.json",
        json.dumps([{"text": "my card", "id": 1, "intent": "card", "annotator": 1, "annotation_id": 31, "lead_time": 2.0},
                    {"text": "card", "id": 2, "intent": "outage", "annotator": 1, "annotation_id": 32, "lead_time": 2.0}]),
        [["my card", "card"], ["card", "outage"]], more=tool(name))  # fmt: skip
    add(
        "label-studio/two-choices.json",
        json.dumps([task_of(1, {"text": "my card"}, annotation(choices("card", "outage")))]),
        "PATH, row 1: 'choices' holds ['card', 'outage'], more than one label; keep one, a text has one label in this task",
    )
    both = annotation(choices("card"), choices("bad", question="mood"))
    add(
        "label-studio/two-questions.json",
        json.dumps([task_of(1, {"text": "my card"}, both)]),
        "PATH, row 1: has answers to 'intent', 'mood'; name one of them in `label`",
    )
    add(
        "label-studio/two-questions-named.json",
        json.dumps([task_of(1, {"text": "my card"}, both)]),
        [["my card", "card"]],
        more=tool(name),
        label="intent",
    )
    differ = [annotation(choices("card")), annotation(choices("outage"))]
    add(
        "label-studio/annotators-differ.json",
        json.dumps([task_of(1, {"text": "my card"}, *differ)]),
        "PATH, row 1: task 1 has 2 annotations that differ; delete all but one, or mark one as ground truth",
    )
    add(
        "label-studio/annotators-agree.json",
        json.dumps(
            [task_of(1, {"text": "EU"}, annotation(labels(0, 2, "EU", "ORG")), annotation(labels(0, 2, "EU", "ORG")))]
        ),
        [["EU", [[0, 2, "ORG"]]]],
        "ner",
        tool(name),
    )
    add(
        "label-studio/ground-truth.json",
        json.dumps([task_of(1, {"text": "my card"}, differ[0], {**differ[1], "ground_truth": True})]),
        [["my card", "outage"]],
        more=tool(name),
    )
    add(
        "label-studio/one-other-field.json",
        json.dumps([task_of(1, {"review": "my card", "stars": 3}, annotation(choices("card")))]),
        [["my card", "card"]],
        more=tool(name),
    )
    fields = {"title": "a", "review": "my card"}
    add(
        "label-studio/two-fields.json",
        json.dumps([task_of(1, fields, annotation(choices("card")))]),
        "PATH, row 1: has the fields 'title', 'review'; name the one with the text in `text`",
    )
    add(
        "label-studio/two-fields-named.json",
        json.dumps([task_of(1, fields, annotation(choices("card")))]),
        [["my card", "card"]],
        more=tool(name),
        text="review",
    )
    add(
        "label-studio/said-to-be.jsonl",
        lines({"text": "my card", "label": "card"}),
        "PATH, row 1: has the keys 'text', 'label'; export from Label Studio as JSON, JSON-MIN or CSV",
        format=name,
    )


def record(text: str, **responses: Any) -> dict[str, Any]:
    """A record of argilla's `to_json`."""
    answers = {name: [{"value": value, "user_id": "6d1c"} for value in values] for name, values in responses.items()}
    return {"id": "b7d0", "fields": {"text": text}, "metadata": {}, "suggestions": {}, "responses": answers, "vectors": {},
            "status": "completed", "_server_id": "0f9e"}  # fmt: skip


def argilla_files() -> None:
    name = "argilla"
    add(
        "argilla/labels.json",
        json.dumps([record("my card", label=["card"]), record("not looked at")]),
        [["my card", "card"]],
        more=tool(name, 1),
    )
    suggested = {**record("my card"), "suggestions": {"label": {"value": "card", "score": 0.9, "agent": "model"}}}
    add(
        "argilla/only-suggested.json",
        json.dumps([record("no signal", label=["outage"]), suggested]),
        [["no signal", "outage"]],
        more=tool(name, 1),
    )
    add(
        "argilla/spans.json",
        json.dumps([record("EU rejects", spans=[[{"start": 0, "end": 2, "label": "ORG"}]])]),
        [["EU rejects", [[0, 2, "ORG"]]]],
        "ner",
        tool(name),
    )
    add(
        "argilla/emoji.json",
        json.dumps([record(SMILE, spans=[[{"start": 3, "end": 5, "label": "ORG"}]])]),
        [[SMILE, [[2, 4, "ORG"]]]],
        "ner",
        tool(name),
    )
    # As 2.8 writes a draft, or what was discarded: without the response's state.
    pending = {**record("no signal", label=["outage"]), "status": "pending"}
    add(
        "argilla/draft.json",
        json.dumps([record("my card", label=["card"]), pending]),
        [["my card", "card"]],
        more=tool(name, 1),
    )
    add(
        "argilla/two-users-agree.json",
        json.dumps([record("my card", label=["card", "card"])]),
        [["my card", "card"]],
        more=tool(name),
    )
    add(
        "argilla/two-users-differ.json",
        json.dumps([record("my card", label=["card", "outage"])]),
        "PATH, row 1: record b7d0 has 2 annotations that differ; discard all but one, and export "
        "dataset.records.to_list(flatten=True), which tells what was discarded",
    )
    two = [record("my card", label=["card"], mood=["bad"])]
    add(
        "argilla/two-questions.json",
        json.dumps(two),
        "PATH, row 1: has answers to 'label', 'mood'; name one of them in `label`",
    )
    add("argilla/two-questions-named.json", json.dumps(two), [["my card", "card"]], more=tool(name), label="label")
    add("argilla/flat.jsonl",
        lines({"id": "b7d0", "status": "completed", "_server_id": "0f9e", "text": "my card", "label.responses": ["card", "outage"],
               "label.responses.users": ["6d1c", "77aa"], "label.responses.status": ["submitted", "discarded"]},
              {"id": "b7d1", "status": "pending", "_server_id": "0f9f", "text": "not looked at", "label.responses": None,
               "label.responses.users": None, "label.responses.status": None}),
        [["my card", "card"]], more=tool(name, 1))  # fmt: skip
    old = {
        "fields": {"text": "my card"},
        "responses": [{"values": {"label": {"value": "card"}}, "status": "submitted"}],
    }
    add(
        "argilla/version-1.json",
        json.dumps([old]),
        "PATH, row 1: holds responses of Argilla 1; export with argilla 2: dataset.records.to_json(path)",
    )


def prodigy_files() -> None:
    name = "prodigy"
    hashes = {"_input_hash": 1705742231, "_task_hash": -1218372921, "_session_id": None, "_timestamp": 1633999979}
    tokens = [
        {"text": "EU", "start": 0, "end": 2, "id": 0, "ws": True},
        {"text": "rejects", "start": 3, "end": 10, "id": 1},
    ]
    span = {"start": 0, "end": 2, "token_start": 0, "token_end": 0, "label": "ORG"}
    manual = {**hashes, "_view_id": "ner_manual", "_is_binary": False, "tokens": tokens}
    add("prodigy/ner-manual.jsonl",
        lines({"text": "EU rejects", **manual, "spans": [span], "answer": "accept"},
              {"text": "nothing here", **manual, "answer": "accept"},
              {"text": "bad text", **manual, "spans": [span], "answer": "reject"},
              {"text": "not sure", **manual, "spans": [span], "answer": "ignore"}),
        [["EU rejects", [[0, 2, "ORG"]]], ["nothing here", []]], "ner", tool(name, 2))  # fmt: skip
    add(
        "prodigy/emoji.jsonl",
        lines({"text": SMILE, **manual, "spans": [{"start": 2, "end": 4, "label": "ORG"}], "answer": "accept"}),
        [[SMILE, [[2, 4, "ORG"]]]],
        "ner",
        tool(name),
    )
    add(
        "prodigy/ner-teach.jsonl",
        lines({"text": "EU rejects", **hashes, "_is_binary": True, "spans": [span], "answer": "accept"}),
        "PATH, row 1: is the answer to one suggestion, which says nothing of the text's other spans; annotate with ner.manual or "
        "ner.correct",
        "ner",
    )
    options = [{"id": "card", "text": "Card"}, {"id": "outage", "text": "Outage"}]
    add("prodigy/choice.jsonl",
        lines({"text": "my card", **hashes, "options": options, "accept": ["card"], "answer": "accept", "_view_id": "choice"},
              {"text": "neither", **hashes, "options": options, "accept": [], "answer": "accept", "_view_id": "choice"}),
        [["my card", "card"]], more=tool(name, 1))  # fmt: skip
    add(
        "prodigy/choice-two.jsonl",
        lines({"text": "my card", **hashes, "options": options, "accept": ["card", "outage"], "answer": "accept"}),
        "PATH, row 1: 'accept' holds ['card', 'outage'], more than one label; keep one, a text has one label in this task",
    )
    add("prodigy/textcat.jsonl",
        lines({"text": "my card", **hashes, "label": "card", "answer": "accept"},
              {"text": "no signal", **hashes, "label": "card", "answer": "reject"}),
        [["my card", "card"]], more=tool(name, 1))  # fmt: skip
    add(
        "prodigy/spans-said.jsonl",
        lines({"text": "EU rejects", **manual, "spans": [span], "answer": "reject"}),
        [["EU rejects", [[0, 2, "ORG"]]]],
        "ner",
        format="spans",
    )


def main() -> None:
    for folder in [path for path in HERE.iterdir() if path.is_dir()]:
        shutil.rmtree(folder)
    for write in (csv_files, tsv_files, json_files, arrow_files, packed_files, conll_files, label_files, offset_files,
                  doccano_files, label_studio_files, argilla_files, prodigy_files):  # fmt: skip
        write()
    print(f"{len(NAMES)} files")


if __name__ == "__main__":
    main()
