"""CoNLL column files as they are found in the world."""

from __future__ import annotations

import pytest

from evokd_data.errors import DataError
from evokd_data.sources.files import open_text
from evokd_data.tasks.conll import sentences


@pytest.fixture
def read(tmp_path):
    def write(content: str, encoding: str = "utf-8"):
        path = tmp_path / "data.conll"
        path.write_bytes(content.encode(encoding))
        with open_text(path) as lines:
            return list(sentences(lines, str(path)))

    return write


def test_conll_2003_is_read(read):
    content = (
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nPeter NNP B-NP B-PER\n"
        "-DOCSTART- -X- O O\nBlackburn NNP I-NP I-PER"
    )
    assert read(content) == [
        (["EU", "rejects"], ["B-ORG", "O"]),
        (["Peter"], ["B-PER"]),
        (["Blackburn"], ["I-PER"]),
    ]


def test_tabs_part_columns_and_tokens_may_hold_blanks(read):
    assert read("New York\tB-place\r\nx\tO\r\n") == [(["New York", "x"], ["B-place", "O"])]


def test_comments_are_skipped_and_a_number_sign_is_a_token(read):
    content = "# id 7f3 domain=en\nheute _ _ O\n#\tO\n# sent = 2\n#wien _ _ B-place\n#\n# O\n"
    assert read(content) == [(["heute", "#", "#wien", "#"], ["O", "O", "B-place", "O"])]


def test_a_byte_order_mark_is_no_part_of_the_first_token(read):
    assert read("\ufeffEU B-ORG\n", "utf-8") == [(["EU"], ["B-ORG"])]


def test_blank_lines_may_hold_blanks(read):
    assert read("a O\n \t \nb O\n") == [(["a"], ["O"]), (["b"], ["O"])]


def test_separators_of_other_alphabets_break_no_line_and_no_column(read):
    assert read("a\u2028b O\n\u00a0 O\nc\u3000d O\n") == [(["a\u2028b", "\u00a0", "c\u3000d"], ["O", "O", "O"])]


@pytest.mark.parametrize("line", ["alone", "EU NNP", "EU B-", "EU b-org", "EU X-org", "B-org", "1 EU B-ORG _"])
def test_a_line_without_a_tag_names_file_and_line(read, line):
    with pytest.raises(DataError) as caught:
        read(f"x O\n\n{line}\n")
    assert f"data.conll:3: {line!r} does not end in a tag" in str(caught.value)


def test_an_empty_file_has_no_sentences(read):
    assert read("") == read("\n\n") == read("-DOCSTART- O\n") == []
