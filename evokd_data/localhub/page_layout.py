"""What all pages of the local Hub share: their head, their style, and what a browser may do with them."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from http import HTTPStatus

from evokd_data.localhub.errors import HubError
from evokd_data.localhub.wire import Reply, error_reply

_STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1d2530;--muted:#5c6774;--line:#e2e5ea;--soft:#f5f6f8;--accent:#2f5f98;--mark:#e6eef8}
@media(prefers-color-scheme:dark){:root{--page:#14171c;--ink:#e5e8ec;--muted:#9aa4b1;--line:#2b313a;--soft:#1c2027;--accent:#8db4e6;--mark:#263a55}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1.5rem 1.2rem 4rem;background:var(--page);color:var(--ink);
  font:1rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;font-variant-numeric:tabular-nums}
h1{font-size:1.6rem;line-height:1.25;margin:.4rem 0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.4rem 0 .8rem;padding-top:1.2rem;border-top:1px solid var(--line)}
a{color:var(--accent);text-decoration-thickness:1px;text-underline-offset:.15em}
small,.muted,th{color:var(--muted)}
nav a,.choices a{display:inline-block;margin:0 1rem .3rem 0}
[aria-current]{font-weight:650;color:var(--ink);text-decoration:none}
table{border-collapse:collapse;font-size:.9rem}
th{font-weight:500;font-size:.82rem}
th,td{text-align:left;padding:.35rem 1.2rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
.scroll{overflow-x:auto}
.foreign{unicode-bidi:isolate;overflow-wrap:anywhere;white-space:pre-wrap}
td .foreign{display:block;width:max-content;max-width:min(24rem,60vw);overflow-wrap:break-word}
mark{background:var(--mark);color:inherit;border-radius:.2rem;padding:0 .15rem}
code{overflow-wrap:anywhere}
code,pre{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.85em}
pre{background:var(--soft);padding:.9rem 1rem;border-radius:.4rem;overflow-x:auto}
.card img{max-width:100%;background:#fff;border-radius:.4rem}
.card h1{font-size:1.4rem}.card h2{font-size:1.1rem;border:0;padding:0;margin:1.8rem 0 .5rem}.card h3{font-size:1rem}
.card table{display:block;overflow-x:auto}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
"""


def page(title: str, body: str) -> Reply:
    """A page without scripts. `body` is HTML."""
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>{body}</body></html>"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
    }
    return Reply(200, text.encode(), headers)


def error_page(error: HubError) -> Reply:
    """The answer for a browser: the words and the headers of `error_reply`, as a page with the way back."""
    title = f"{error.status} {_phrase(error.status)}"
    reply = page(
        title, f'<p><a href="/">Local Hub</a></p><h1>{escape(title)}</h1><p class=foreign>{escape(error.message)}</p>'
    )
    return replace(reply, status=error.status, headers={**error_reply(error).headers, **reply.headers})


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
