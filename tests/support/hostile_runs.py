"""A run whose texts attack a page that shows them: markup, scripts, marks that reverse letters, control characters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evokd_data.atomic_files import write_json
from evokd_data.records import Origin, Rejection
from evokd_data.storage import shards
from evokd_data.storage.workspace import Workspace, read_json
from evokd_data.tasks import sample_id
from tests.support.finished_runs import make_round, make_run, make_samples

HOSTILE_TEXTS = (
    "</script><img src=x onerror=\"window.owned='img'\">",
    "<script>window.owned='script'</script>",
    "<!--<script>",
    "</script ><img src=x onerror=\"window.owned='blank'\">",
    "]]></title></style><svg onload=\"window.owned='svg'\">",
    "javascript:window.owned='address'",
    "{{ data }} {{ title }} ${window.owned='template'} `${1}`",
    "\u202ereversed\u2066 and isolated",
    "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x00 end",
    "a\u2028b\u2029c\u200bd\U000e0041e\ufeff",
    "'\" onclick=\"window.owned='attribute'\" x='",
    "&lt;b&gt; &amp; &#60;",
    "__proto__",
)


def hostile_run(folder: Path) -> Workspace:
    """A run whose texts, weaknesses and rejections attack the page."""
    recipe, workspace = make_run(folder, rounds=1)
    samples = [
        replace(sample, text=text, id=sample_id(recipe.task, text, sample.target))
        for sample, text in zip(make_samples(recipe, 1, len(HOSTILE_TEXTS)), HOSTILE_TEXTS, strict=True)
    ]
    make_round(recipe, workspace, 1, samples)
    plan = read_json(workspace.round(1).plan)
    plan["weaknesses"][0] |= {"name": HOSTILE_TEXTS[0], "wrong": [{"id": "x", "text": text} for text in HOSTILE_TEXTS]}
    write_json(workspace.round(1).plan, plan)
    origin = Origin(1, 0, 0, "evokd", intended="music")
    rejections = [Rejection("no_label", text, origin, text) for text in HOSTILE_TEXTS]
    shards.write_rejections(workspace.round(1).rejection_files()[0], rejections)
    return workspace
