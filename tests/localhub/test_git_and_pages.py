"""git clone, and the pages for a browser."""

from __future__ import annotations

import asyncio
import html
import io
import re
import shutil
import subprocess

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dulwich import porcelain
from huggingface_hub import CommitOperationAdd

from evokd_data.localhub import row_page
from tests.support.chromium_page import CHROMIUM, chromium_page

pytestmark = pytest.mark.slow

web = httpx.Client(timeout=30)


@pytest.fixture
def published(api, dataset, parquet):
    files = {
        "README.md": b"# <b>Hello</b>",
        "data/s.parquet": parquet(10),
        **{f"f{i}.txt": b"%d" % i for i in range(30)},
    }
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(dataset, operations, commit_message="a round", repo_type="dataset")
    api.create_tag(dataset, tag="round/1", tag_message="first", repo_type="dataset")
    return dataset


def _pointer(path):
    lines = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    return lines["oid"].removeprefix("sha256:"), int(lines["size"])


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
@pytest.mark.parametrize("suffix", ["", ".git"])
def test_git_clones_and_fetches(hub, api, published, parquet, tmp_path, suffix):
    def git(*arguments):
        command = ["git", "-c", "filter.lfs.smudge=cat", "-c", "filter.lfs.process=", "-c", "filter.lfs.required=false"]
        settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0"}
        process = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=settings)
        assert process.returncode == 0, process.stderr
        return process.stdout

    clone = tmp_path / "clone"
    git("clone", "-q", f"{hub.endpoint}/datasets/{published}{suffix}", str(clone))
    assert (clone / "README.md").read_text() == "# <b>Hello</b>"
    assert (clone / "f29.txt").read_text() == "29"
    assert git("-C", str(clone), "tag").split() == ["round/1"]
    git("-C", str(clone), "fsck", "--strict")
    api.create_commit(published, [CommitOperationAdd("new.txt", b"n")], commit_message="more", repo_type="dataset")
    git("-C", str(clone), "pull", "-q")
    assert (clone / "new.txt").read_text() == "n"
    # As git-lfs does: read the pointer, ask for a link with the batch call, download.
    oid, size = _pointer(clone / "data" / "s.parquet")
    request = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": oid, "size": size}]}
    url = f"{hub.endpoint}/datasets/{published}.git/info/lfs/objects/batch"
    (row,) = web.post(url, json=request).json()["objects"]
    assert web.get(row["actions"]["download"]["href"]).content == parquet(10)


def test_a_clone_without_git_and_no_push(hub, published, tmp_path):
    with porcelain.clone(f"{hub.endpoint}/datasets/{published}", str(tmp_path / "clone")) as repo:
        assert (tmp_path / "clone" / "README.md").exists()
        assert b"refs/tags/round/1" in repo.refs
    answer = web.get(f"{hub.endpoint}/datasets/{published}/info/refs?service=git-receive-pack")
    assert answer.status_code == 403


def test_a_browser_shows_repositories_readme_and_files(hub, published):
    index = web.get(hub.endpoint)
    assert index.headers["Content-Type"].startswith("text/html")
    assert f'href="/datasets/{published}"' in index.text
    assert hub.endpoint in index.text
    page = web.get(f"{hub.endpoint}/datasets/{published}")
    assert "<h1>&lt;b&gt;Hello&lt;/b&gt;</h1>" in page.text
    assert "round%2F1" in page.text
    old = web.get(f"{hub.endpoint}/datasets/{published}/tree/round%2F1")
    assert old.status_code == 200
    assert "data/s.parquet" in old.text
    assert web.get(f"{hub.endpoint}/datasets/local/none").status_code == 404
    readme = web.get(f"{hub.endpoint}/datasets/{published}/resolve/main/README.md")
    assert readme.headers["Content-Type"].startswith("text/plain")  # never HTML, because users wrote the files
    assert readme.headers["X-Content-Type-Options"] == "nosniff"


CARD = """---
configs:
- config_name: default
  data_files: [{split: train, path: [data/a.parquet, data/b.parquet]}]
- config_name: other
  data_files: "other/*.parquet"
- config_name: absent
  data_files: nothing.parquet
---
# A card
| round | F1 |
|---|---|
| 1 | .5 |

![curve](card/curve.svg) ![elsewhere](https://example.org/pixel.png) ![up](../../secret.png)
[bad](javascript:alert(1)) [file](recipe.yaml) <script>alert(2)</script>
"""


def rows_file(rows):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=7)
    return buffer.getvalue()


@pytest.fixture
def with_rows(api, dataset):
    files = {
        "README.md": CARD.encode(),
        "card/curve.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "data/a.parquet": rows_file([{"id": n, "text": f"row <{n}>", "label": "x"} for n in range(17)]),
        "data/b.parquet": rows_file([{"id": n, "text": f"row <{n}>", "label": "y"} for n in range(17, 45)]),
        "other/c.parquet": rows_file([{"tokens": ["Rome", "is", "old"], "ner_tags": ["B-city", "O", "O"]}]),
        "broken.parquet": b"PAR1 not at all PAR1",
    }
    api.create_commit(
        dataset, [CommitOperationAdd(*each) for each in files.items()], commit_message="rows <1>", repo_type="dataset"
    )
    return f"/datasets/{dataset}"


def test_the_card_is_rendered_and_brings_nothing_from_elsewhere(hub, with_rows):
    answer = web.get(hub.endpoint + with_rows)
    assert "<h1>A card</h1>" in answer.text and "<td>.5</td>" in answer.text
    assert "config_name" not in answer.text.partition('<section id="rows">')[0]
    assert 'src="data:image/svg+xml;base64,PHN2Zy' in answer.text
    assert "example.org" not in answer.text and "secret" not in answer.text
    assert "<script" not in answer.text and 'href="javascript' not in answer.text
    assert f"{with_rows}/resolve/" in answer.text.partition("recipe.yaml")[0][-120:]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_rows_are_read_across_row_groups_and_files(hub, with_rows):
    def ids(query):
        text = web.get(f"{hub.endpoint}{with_rows}?{query}").text
        return [int(number) for number in re.findall(r"row &lt;(\d+)&gt;", text)], text

    assert ids("")[0] == list(range(20)) and "rows 1 to 20 of 45" in ids("")[1]
    assert ids("from=15")[0] == list(range(15, 35))
    assert ids("from=40")[0] == list(range(40, 45)) and "later rows" not in ids("from=40")[1]
    assert ids("from=45")[0] == [] and "no rows here" in ids("from=45")[1]
    assert ids("from=-1")[0] == ids("from=x")[0] == ids("config=absent")[0] == list(range(20))
    assert "<mark title='B-city'>Rome</mark> is old" in ids("config=other")[1]


def test_a_file_that_cannot_be_shown_is_said(hub, api, with_rows):
    api.delete_file("README.md", with_rows.removeprefix("/datasets/"), repo_type="dataset")
    text = web.get(hub.endpoint + with_rows).text
    assert "no Parquet file that can be read" in text and "broken.parquet" in text


def test_commits_are_listed_with_their_tags(hub, api, with_rows):
    dataset = with_rows.removeprefix("/datasets/")
    api.create_tag(dataset, tag="round-000", repo_type="dataset")
    text = web.get(hub.endpoint + with_rows).text.partition('<section id="commits">')[2].partition("</section>")[0]
    assert text.index("rows &lt;1&gt;") < text.index("initial commit")
    assert "round-000</a>, <a" in text and "main</a>" in text


def test_rows_of_a_large_group_are_not_read(monkeypatch):
    monkeypatch.setattr(row_page, "MAX_GROUP_BYTES", 100)
    result = row_page.read_page([rows_file([{"text": "long " * 50}])], 0)
    assert result.rows == () and "groups of more than" in result.problem


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH; on Debian: apt install chromium")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (500, False), (500, True)])
def test_a_browser_draws_a_repository_on_a_desk_and_on_a_phone(hub, with_rows, tmp_path, width, dark):
    async def visit():
        async with chromium_page(tmp_path / "profile") as page:
            await page.open(hub.endpoint + with_rows, width, dark=dark)
            assert await page.run("document.documentElement.scrollWidth") <= width
            background = await page.run("getComputedStyle(document.body).backgroundColor")
            assert background == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
            assert await page.run("document.querySelector('.card img').naturalWidth") > 0
            later = "[...document.querySelectorAll('a')].find(link => link.textContent == 'later rows').href"
            await page.open(await page.run(later), width, dark=dark)
            assert "rows 21 to 40 of 45" in await page.run("document.body.textContent")
            assert page.errors == []
            assert all(address.startswith((hub.endpoint, "data:image/svg+xml")) for address in page.requests)

    asyncio.run(visit())


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
"""What browsers send when somebody opens an address."""


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
@pytest.mark.parametrize(
    "path",
    [
        "/datasets/local/nothing-here",
        "/no/such/place/at/all",
        "/api/datasets/local/nothing-here",
        "/datasets/{repo}/tree/no-revision",
        "/datasets/{repo}/resolve/main/no-file.txt",
    ],
)
def test_an_error_is_a_page_for_a_browser_and_json_for_every_other_client(hub, published, path, accept):
    address = hub.endpoint + path.format(repo=published)
    client = web.get(address, headers={} if accept is None else {"Accept": accept})
    browser = web.get(address, headers={"Accept": BROWSER})
    assert client.status_code == browser.status_code == 404
    assert client.headers["content-type"].startswith("application/json")
    assert browser.headers["content-type"].startswith("text/html")
    assert html.escape(client.json()["error"]) in browser.text
    assert "<h1>404 Not Found</h1>" in browser.text and '<a href="/">' in browser.text
    assert "default-src 'none'" in browser.headers["content-security-policy"]
    for name in ("x-error-message", "x-error-code", "vary"):
        assert client.headers.get(name) == browser.headers.get(name)
    head = web.head(address, headers={"Accept": BROWSER})
    assert head.status_code == 404 and head.content == b""


def test_foreign_words_in_an_error_are_text(hub, published):
    address = f"{hub.endpoint}/datasets/{published}/tree/%3Cscript%3Ealert(1)"
    answer = web.get(address, headers={"Accept": BROWSER})
    assert answer.status_code == 404 and "&lt;script&gt;alert(1)" in answer.text and "<script" not in answer.text
