"""Short texts of three classes that any student learns within seconds, and the same texts with tagged words."""

from __future__ import annotations

import numpy as np

from evokd_data.records import SequenceExample, TokenExample

CLASSES = ("fruit", "animal", "tool")
WORDS = {
    "fruit": ["apple", "pear", "plum", "cherry", "quince"],
    "animal": ["cat", "dog", "horse", "mouse", "heron"],
    "tool": ["hammer", "saw", "drill", "pliers", "chisel"],
}
FRAMES = ["I see a {}", "the {} is here", "give me your {} now please", "{}", "there was once a {} in this house"]
TAGS = ("O", "B-fruit", "B-animal", "B-tool")


def texts(count=45, **fields):
    """`count` examples, classes in turn. Only one word of a text depends on the class."""
    examples = []
    for index in range(count):
        target = index % len(CLASSES)
        word = WORDS[CLASSES[target]][index // 3 % 5]
        examples.append(SequenceExample(FRAMES[index // 15 % 5].format(word), target, **fields))
    return examples


def tagged(count=45):
    examples = []
    for example in texts(count):
        words = tuple(example.text.split())
        starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
        class_of_word = {word: index + 1 for index, name in enumerate(CLASSES) for word in WORDS[name]}
        examples.append(
            TokenExample(
                words,
                tuple((start, start + len(word)) for start, word in zip(starts, words, strict=True)),
                tuple(class_of_word.get(word, 0) for word in words),
            )
        )
    return examples
