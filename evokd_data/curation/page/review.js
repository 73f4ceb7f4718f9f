"use strict";
// Everything that a teacher wrote becomes text of the page by textContent, and never markup.
const $ = id => document.getElementById(id);
const state = { rows: [], at: 0, next: 0, labels: [], spans: false, draft: null, word: 0, anchor: 0, matches: null };

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function say(text) { $("message").textContent = text; $("message").hidden = !text; }

async function call(name, content) {
  const options = content === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content) };
  let answer;
  try { answer = await fetch(name, options); } catch { throw new Error("the review has ended: start evokd-data review again"); }
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const queue = [];
let busy = false;
// One call after the other: a key that is pressed while another is answered waits.
async function queued(work) {
  queue.push(work);
  if (busy) return;
  busy = true;
  while (queue.length) {
    try { await queue.shift()(); say(""); } catch (error) { say(error.message); }
  }
  busy = false;
}

function count(counts) {
  const decided = counts.accept + counts.relabel + counts.reject;
  $("counts").textContent = `${decided} of ${counts.samples} samples decided: ${counts.relabel} relabelled, ${counts.reject} rejected, ${counts.accept} confirmed`;
}

async function load(fromStart) {
  if (fromStart) { state.rows = []; state.at = 0; state.next = 0; }
  const query = new URLSearchParams({ start: state.next, show: $("show").value, label: $("label").value, search: $("search").value });
  const answer = await call(`rows?${query}`);
  state.labels = answer.task.labels; state.spans = answer.task.spans; state.next = answer.next;
  state.rows.push(...answer.rows);
  $("run").textContent = answer.task.run;
  document.title = `Review ${answer.task.run}`;
  $("label-word").textContent = state.spans ? "type" : "label";
  $("next-command").textContent = `evokd-data review ${answer.task.run} --apply`;
  if ($("label").options.length === 1) for (const label of state.labels) $("label").add(new Option(label, label));
  count(answer.counts);
  choices(); keys();
  if (fromStart) drawAll(); else for (const row of answer.rows) $("rows").append(drawn(row));
  $("end").textContent = state.rows.length ? (state.next === null ? "These are all." : "") : "No sample fits.";
  select(state.at);
}

// Offsets count characters (code points), as Array.from has them.
function textNode(row, spans) {
  const node = make("p", "text foreign"), letters = Array.from(row.text);
  node.style.margin = 0;
  let position = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    node.append(letters.slice(position, span.start).join(""));
    const mark = make("mark", "", letters.slice(span.start, span.end).join(""));
    mark.dataset.type = span.type;
    node.append(mark);
    position = span.end;
  }
  node.append(letters.slice(position).join(""));
  return node;
}

function named(target) { return typeof target === "string" ? target : target.length ? target.map(span => span.type).join(", ") : "no span"; }

function current(row) { return row.decision && row.decision.to !== null ? row.decision.to : row.target; }

function drawn(row) {
  const item = make("li", row.decision ? `decided ${row.decision.action}` : "");
  const spans = state.spans ? current(row) : [];
  item.append(textNode(row, spans));
  const facts = make("div", "facts");
  facts.append(make("span", "target foreign", named(row.target)));
  if (row.intended && (state.spans || row.intended !== row.target)) facts.append(make("span", "foreign", `asked for: ${row.intended}`));
  if (row.predicted !== null && row.doubt) facts.append(make("span", "doubt foreign", `student: ${named(row.predicted)} (${row.confidence.toFixed(2)})`));
  facts.append(make("span", "", `round ${row.row[0]}`));
  if (row.decision) {
    const words = { accept: "confirmed", reject: "rejected", relabel: `→ ${row.decision.to === null ? "" : named(row.decision.to)}` };
    facts.append(make("span", `decision foreign ${row.decision.action}`, words[row.decision.action] + (row.decision.by_rule ? " (rule)" : "")));
  }
  item.append(facts);
  item.addEventListener("click", () => select(state.rows.indexOf(row)));
  return item;
}

function drawAll() { $("rows").replaceChildren(...state.rows.map(drawn)); }

function redraw(row) {
  const index = state.rows.findIndex(other => other.row[0] === row.row[0] && other.row[1] === row.row[1]);
  if (index < 0) return;
  Object.assign(state.rows[index], row);
  $("rows").children[index].replaceWith(drawn(state.rows[index]));
}

function select(index) {
  if (!state.rows.length) return;
  state.at = Math.max(0, Math.min(index, state.rows.length - 1));
  for (const item of document.querySelectorAll("#rows > li[aria-current]")) item.removeAttribute("aria-current");
  const item = $("rows").children[state.at];
  item.setAttribute("aria-current", "true");
  item.scrollIntoView({ block: "nearest" });
  const row = state.rows[state.at];
  state.draft = state.spans ? current(row).map(span => ({ ...span })) : null;
  state.word = 0; state.anchor = 0;
  cursor();
}

// The words between anchor and word are what a type key marks.
function chosen() {
  const words = state.rows[state.at].words;
  const [first, last] = [Math.min(state.anchor, state.word), Math.max(state.anchor, state.word)];
  return words && words.length ? { start: words[first][0], end: words[last][1] } : null;
}

function cursor() {
  if (!state.spans || !state.rows.length) return;
  const row = state.rows[state.at], item = $("rows").children[state.at], range = chosen();
  const node = textNode(row, state.draft);
  if (range) {
    let position = 0;
    const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT), pieces = [];
    while (walker.nextNode()) pieces.push(walker.currentNode);
    for (const piece of pieces) {
      const letters = Array.from(piece.data), start = Math.max(0, range.start - position), end = Math.min(letters.length, range.end - position);
      if (start < end) piece.replaceWith(letters.slice(0, start).join(""), make("span", "cursor", letters.slice(start, end).join("")), letters.slice(end).join(""));
      position += letters.length;
    }
  }
  item.firstChild.replaceWith(node);
}

function move(by, extend) {
  const words = state.rows[state.at].words;
  if (!words || !words.length) return;
  state.word = Math.max(0, Math.min(state.word + by, words.length - 1));
  if (!extend) state.anchor = state.word;
  cursor();
}

function mark(type) {
  const range = chosen();
  if (!range) return;
  state.draft = state.draft.filter(span => span.end <= range.start || span.start >= range.end);
  if (type !== null) state.draft.push({ ...range, type });
  state.draft.sort((a, b) => a.start - b.start);
  cursor();
}

async function step(by) {
  if (by > 0 && state.at === state.rows.length - 1 && state.next !== null) await load(false);
  select(state.at + by);
}

async function decide(action, value) {
  const row = state.rows[state.at];
  if (!row) return;
  const answer = await call("decide", { row: row.row, action, value });
  redraw(answer.row); count(answer.counts);
  await step(1);
}

function same(one, other) { return JSON.stringify(one) === JSON.stringify(other); }

function confirm() {
  const row = state.rows[state.at];
  if (!row) return;
  const value = state.spans ? state.draft : current(row);
  return same(value, row.target) ? decide("accept") : decide("relabel", value);
}

async function undo() {
  const answer = await call("undo", {});
  for (const row of answer.rows) redraw(row);
  count(answer.counts);
  const first = answer.rows.length ? state.rows.findIndex(row => same(row.row, answer.rows[0].row)) : -1;
  select(first < 0 ? state.at : first);
}

function give(index) {
  const label = state.labels[index];
  if (label === undefined) return;
  queued(() => state.spans ? mark(label) : decide("relabel", label));
}

function choices() {
  $("choices").replaceChildren(...state.labels.map((label, index) => {
    const button = make("button", "foreign");
    if (index < 9) button.append(make("kbd", "", String(index + 1)), " ");
    button.append(label);
    button.addEventListener("click", () => { give(index); button.blur(); });
    return button;
  }));
}

function keys() {
  const all = [["j", "next"], ["k", "back"], ["a", "confirm"], ["r", "reject"], ["u", "undo"], ["m", "all like this"], ["/", "search"], ["f", "show others"]];
  const marks = [["← →", "word"], ["shift ← →", "more words"], ["1–9", "mark as"], ["x", "unmark"], ["esc", "as it was"]];
  const labels = [["1–9", "label"]];
  if (state.labels.length > 9) labels.push(["l", "label by name"]), marks.push(["l", "type by name"]);
  $("keys").replaceChildren(...[...all.slice(0, 4), ...(state.spans ? marks : labels), ...all.slice(4)].flatMap(([key, meaning]) => [make("kbd", "", key), ` ${meaning}  `]));
}

// With more than nine labels one is found by the beginning of its name.
function byName() {
  const name = window.prompt("The beginning of the label's name");
  if (!name) return;
  const fits = state.labels.map((label, index) => [label, index]).filter(([label]) => label.toLowerCase().startsWith(name.toLowerCase()));
  if (fits.length === 1 || (fits.length && fits[0][0].toLowerCase() === name.toLowerCase())) give(fits[0][1]);
  else say(fits.length ? `${fits.length} labels begin so` : "no label begins so");
}

function rule() {
  const row = state.rows[state.at], type = state.spans ? named(row.target).split(", ")[0] : row.target, hasType = !state.spans || row.target.length > 0;
  const value = { };
  if ($("rule-label").checked && hasType) value.label = type;
  if ($("rule-intended").checked) value.intended = row.intended === type ? "equal" : "differs";
  if ($("rule-student").checked) value.student = row.doubt ? "differs" : "equal";
  if ($("rule-phrase").value) value.phrase = $("rule-phrase").value;
  if ($("rule-regex").value) value.regex = $("rule-regex").value;
  if (Number($("rule-nearest").value) > 0) Object.assign(value, { like: row.row, nearest: Number($("rule-nearest").value) });
  const [action, index] = $("rule-action").value.split(" ");
  return { rule: value, action, value: index === undefined ? undefined : state.labels[index] };
}

async function countMatches(apply) {
  state.matches = null;
  $("rule-apply").disabled = true;
  try {
    const answer = await call("rule", apply === undefined ? rule() : { ...rule(), apply });
    if (apply !== undefined) { $("rule").close(); await load(true); return; }
    state.matches = answer.matches;
    $("rule-result").textContent = `${answer.matches} undecided rows`;
    $("rule-examples").replaceChildren(...answer.examples.map(text => make("li", "foreign", text)));
    $("rule-apply").textContent = `Apply to ${answer.matches} rows`;
    $("rule-apply").disabled = answer.matches === 0;
  } catch (error) {
    $("rule-result").textContent = error.message;
    $("rule-examples").replaceChildren();
  }
}

function openRule() {
  const row = state.rows[state.at];
  if (!row) return;
  const type = state.spans ? named(row.target).split(", ")[0] : row.target;
  const actions = [["reject", "reject"], ["accept", "confirm"], ...(state.spans ? [] : state.labels.map((label, index) => [`relabel ${index}`, `relabel: ${label}`]))];
  $("rule-action").replaceChildren(...actions.map(([value, text]) => new Option(text, value)));
  $("rule-label-text").textContent = `${state.spans ? "a span of the type" : "the label"} ${type}`;
  $("rule-intended-line").hidden = !row.intended || state.spans;
  $("rule-intended-text").textContent = row.intended === type ? "the label that was asked for" : "another label than was asked for";
  $("rule-student-line").hidden = row.predicted === null;
  $("rule-student-text").textContent = row.doubt ? "a student that predicted otherwise" : "a student that agreed";
  $("rule-intended").checked = $("rule-student").checked = false;
  $("rule-phrase").value = $("rule-regex").value = ""; $("rule-nearest").value = "0";
  $("rule").showModal();
  return countMatches();
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if ($("rule").open) return;
  const inField = event.target.matches("input, select, textarea");
  if (inField) { if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "search")) event.target.blur(); return; }
  const actions = {
    j: () => queued(() => step(1)), ArrowDown: () => queued(() => step(1)), k: () => queued(() => step(-1)), ArrowUp: () => queued(() => step(-1)),
    a: () => queued(confirm), Enter: () => queued(confirm), r: () => queued(() => decide("reject")), u: () => queued(undo), m: () => queued(openRule), l: byName,
    "/": () => $("search").focus(),
    f: () => { $("show").selectedIndex = ($("show").selectedIndex + 1) % 3; queued(() => load(true)); },
  };
  if (state.spans) Object.assign(actions, {
    ArrowLeft: () => queued(() => move(-1, event.shiftKey)), ArrowRight: () => queued(() => move(1, event.shiftKey)),
    x: () => queued(() => mark(null)), Escape: () => queued(() => select(state.at)),
  });
  const action = actions[event.key] || (/^[1-9]$/.test(event.key) ? () => give(Number(event.key) - 1) : null);
  if (!action || (event.target.matches("button") && event.key === "Enter")) return;
  event.preventDefault();
  action();
});

let typing;
$("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => queued(() => load(true)), 200); });
for (const id of ["show", "label"]) $(id).addEventListener("change", event => { event.target.blur(); queued(() => load(true)); });
$("rule-form").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => queued(() => countMatches()), 200); });
$("rule-form").addEventListener("submit", event => { event.preventDefault(); if (state.matches) queued(() => countMatches(state.matches)); });
$("rule-apply").addEventListener("click", () => queued(() => countMatches(state.matches)));
$("rule-close").addEventListener("click", () => $("rule").close());
queued(() => load(true));
