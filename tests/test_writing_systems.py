"""Ranges of scripts: which characters count as words, and between which no blank is written."""

from __future__ import annotations

import re

import pytest

from evokd_data.writing_systems import CHARACTER_IS_WORD, WITHOUT_SPACES

UNSPACED = "กວကខㄅ漢かカ々\uf900ｶ\U00020000"
KOREAN = "가힣ㄱ"
SPACED = "aé\u0301яאعहक0-_ ۱"


@pytest.mark.parametrize("character", UNSPACED)
def test_scripts_without_spaces(character):
    assert re.fullmatch(f"[{WITHOUT_SPACES}]", character)
    assert re.fullmatch(f"[{CHARACTER_IS_WORD}]", character)


@pytest.mark.parametrize("character", KOREAN)
def test_korean_has_spaces_and_each_syllable_counts_as_a_word(character):
    assert not re.fullmatch(f"[{WITHOUT_SPACES}]", character)
    assert re.fullmatch(f"[{CHARACTER_IS_WORD}]", character)


@pytest.mark.parametrize("character", SPACED)
def test_other_scripts_are_in_neither(character):
    assert not re.fullmatch(f"[{CHARACTER_IS_WORD}]", character)
