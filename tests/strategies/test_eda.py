"""EDA where words are not separated by spaces, and where there is nothing to edit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evokd_data.errors import DataError
from evokd_data.records import Completion, Prompt
from evokd_data.storage.workspace import read_json
from evokd_data.strategies.eda import join_words, split_words
from tests.support.example_task import brief, play, quick, sample, write_rows
from tests.support.written_drafts import build_strategy, plan, write

UNSPACED = {
    "Chinese": "我的手机昨天突然没有信号了",
    "Chinese with Latin words": "我用 iPhone 打电话给Siri，没有信号",
    "Japanese": "昨日から携帯電話がつながりません",
    "Thai": "โทรศัพท์ของฉันไม่มีสัญญาณ ตั้งแต่เมื่อวาน",
    "Lao": "ໂທລະສັບຂອງຂ້ອຍບໍ່ມີສັນຍານ",
    "Burmese": "ကျွန်တော့်ဖုန်းမှာလိုင်းမရှိပါ",
    "Khmer": "ទូរស័ព្ទរបស់ខ្ញុំគ្មានសេវា",
}
SPACED = [
    "the rose on  the\ttable is red",
    "मेरा फ़ोन काम नहीं कर रहा",
    "هاتفي لا يعمل منذ أمس",
    "내 전화가 안 됩니다",
    "I'm 🙂 ok",
]


async def no_teacher(prompt: Prompt) -> Completion:
    raise AssertionError("EDA asks no teacher")


def texts_from(seeds: Sequence[str], **settings: object) -> list[str]:
    """The texts that EDA makes of these seeds of one label."""
    round_brief = brief(budget=90, demonstrations={**brief().demonstrations, "red": list(map(sample, seeds))})
    strategy = build_strategy("eda", settings)
    drafts = write(strategy, round_brief, no_teacher, plan(strategy, round_brief)).values()
    return [draft.text for drafts_of_request in drafts for draft in drafts_of_request if draft.target == "red"]


@pytest.mark.parametrize("language", UNSPACED)
def test_characters_are_edited_where_words_are_not_separated(language: str) -> None:
    seed = UNSPACED[language]
    texts = texts_from([seed])
    edited = [text for text in texts if text != seed]
    assert len(set(edited)) > 15
    for text in edited:
        assert not Counter(text.replace(" ", "")) - Counter(seed.replace(" ", "")), "swapped and deleted, nothing new"
        assert len(text) >= len(seed) / 2


@pytest.mark.parametrize("text", SPACED)
def test_words_between_spaces_are_words(text: str) -> None:
    assert split_words(text, {}) == text.split()
    assert join_words(text.split()) == " ".join(text.split())


@given(st.text(st.sampled_from("ab 我机ทั้ี်က\u200d。，\n1"), max_size=20))
def test_a_text_put_together_from_its_words_is_the_text(text: str) -> None:
    assert join_words(split_words(text, {})) == " ".join(text.split())


def test_synonyms_of_several_characters_are_found_within_a_text(tmp_path: Path) -> None:
    file = tmp_path / "synonyms.txt"
    file.write_text("手机 电话\n信号 讯号\n", encoding="utf-8")
    texts = texts_from(["我的手机没有信号"], synonyms=str(file))
    assert {"我的电话没有信号", "我的手机没有讯号"} & set(texts)
    inserted = [text for text in texts if len(text) == len("我的手机没有信号") + 2]
    assert inserted and all("电话" in text or "讯号" in text for text in inserted)


def test_seeds_of_one_word_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"strategy.name: 'eda' cannot edit the seeds of 'red', e.g. 'Scarlet'"):
        texts_from(["Scarlet", "Crimson"])
    file = tmp_path / "synonyms.txt"
    file.write_text("scarlet vermilion\n", encoding="utf-8")
    assert "vermilion" in texts_from(["Scarlet", "Crimson"], synonyms=str(file))


def test_a_run_in_chinese_keeps_samples(recipe_file, tmp_path: Path) -> None:
    path = recipe_file(**{"name: evokd": "name: eda", "per_class: 1": "per_class: 2"})
    seeds = {
        "red": ["桌子上的玫瑰花是红色的", "消防车刚刚开过去了"],
        "green": ["草地上的青草长得很高", "青蛙坐在一片叶子上面"],
        "blue": ["今天的天空特别晴朗", "我们在深深的大海里游泳"],
    }
    write_rows(tmp_path / "seeds.jsonl", seeds)
    write_rows(tmp_path / "test.jsonl", {label: [text[::-1] for text in texts] for label, texts in seeds.items()})
    workspace = play(quick(path), tmp_path / "run", 2)
    totals = read_json(workspace.round(1).generated)
    assert totals["kept"] > 12 and totals["kept"] + sum(totals["rejected"].values()) == totals["asked"] == 24
