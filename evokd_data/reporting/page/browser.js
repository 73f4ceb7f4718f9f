// The sample browser: search, filters, pages of rows, and prompt and answer behind each.

const PAGE_ROWS = 50;
const [PIECES, ROUND, FATE, ASKED, LABELS, DIFFICULTY, WEAKNESS, GUESS, DETAIL, WEIGHT] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const TEXT_STEP = 3; // pieces: plain, type, surface, plain, type, surface, ..., plain

const textOf = (row) => (Array.isArray(row[PIECES]) ? row[PIECES].filter((_, index) => index % TEXT_STEP !== 1).join('') : row[PIECES]);

// Returns the section's nodes and a function that sets filters from outside: {round, weakness, ...}.
function browserSection(run) {
  const data = run.browser;
  const searched = data.rows.map((row) => `${textOf(row)}\n${row[DETAIL]}`.toLowerCase());
  const filters = { search: '', round: '', label: '', fate: '', difficulty: '', weakness: '', guess: '' };
  const shown = { rows: [], page: 0 };
  const list = el('ol', { class: 'rows', id: 'rows' });
  const counts = el('span', { id: 'row-count', 'aria-live': 'polite' });
  const earlier = el('button', { type: 'button', id: 'earlier', onclick: () => turn(-1) }, 'Earlier');
  const later = el('button', { type: 'button', id: 'later', onclick: () => turn(1) }, 'Later');

  function update() {
    shown.rows = data.rows.map((_, index) => index).filter((index) => matches(data, data.rows[index], searched[index], filters));
    shown.page = 0;
    render();
  }
  function render() {
    const start = shown.page * PAGE_ROWS;
    const visible = shown.rows.slice(start, start + PAGE_ROWS);
    list.replaceChildren(...visible.map((index) => rowItem(data, index)));
    counts.textContent = shown.rows.length
      ? `${count(start + 1)} to ${count(start + visible.length)} of ${plural(shown.rows.length, 'row')}`
      : 'No row matches.';
    earlier.disabled = shown.page === 0;
    later.disabled = start + PAGE_ROWS >= shown.rows.length;
  }
  function turn(step) {
    shown.page += step;
    render();
    list.scrollIntoView({ block: 'start' });
  }
  const controls = el('div', { class: 'controls' });
  function build() {
    controls.replaceChildren(...controlNodes(data, filters, update));
  }
  build();
  update();
  return {
    nodes: [
      extent(data), controls,
      el('p', { class: 'count' }, counts, el('span', {}, earlier, ' ', later)),
      list,
    ],
    set(values) {
      Object.assign(filters, { search: '', round: '', label: '', fate: '', difficulty: '', weakness: '', guess: '' }, values);
      build();
      update();
    },
  };
}

// How much of the run is on the page: never silently less than all.
function extent(data) {
  const rows = data.rows.length;
  const withAnswers = Object.keys(data.answers_of).length;
  return el('p', { class: 'note', id: 'extent' },
    rows === data.total ? `All ${plural(rows, 'row')} of the run are here, ${count(data.kept_total)} kept.` : `${count(rows)} of ${plural(data.total, 'row')} of the run are here, evenly chosen: all of them would make this page too large.`,
    ' ',
    withAnswers === data.asked_rows ? 'Open one to see the prompts and answers behind it.' : `Prompts and answers are here for ${count(withAnswers)} of the ${plural(data.asked_rows, 'row')} that the teacher was asked for; the others are in the run’s journal.`,
    ` Texts are cut after ${count(data.cut_at)} characters.`);
}

function controlNodes(data, filters, update) {
  const rounds = [...new Set(data.rows.map((row) => row[ROUND]))].sort((a, b) => a - b);
  const used = (column) => [...new Set(data.rows.map((row) => row[column]))].filter((index) => index >= 0);
  const any = (name) => ['', `any ${name}`];
  const pick = (label, key, options) => choice(label, options, filters[key], (value) => { filters[key] = value; update(); }, `filter-${key}`);
  let waiting = 0;
  const search = el('input', {
    type: 'search', id: 'search', value: filters.search, placeholder: 'words in the text, or in what it collided with', autocomplete: 'off', spellcheck: 'false',
    oninput: () => { clearTimeout(waiting); waiting = setTimeout(() => { filters.search = search.value; update(); }, 90); },
  });
  const guesses = data.rows.some((row) => row[GUESS] >= 0) ? [pick('Student, before it learned the text', 'guess', [any('guess'), ['right', 'was right'], ['wrong', 'was wrong']])] : [];
  return [
    el('label', { class: 'search' }, 'Search', search),
    pick('Round', 'round', [any('round'), ...rounds.map((round) => [round, round ? `round ${round}${data.corrected_rounds.includes(round) ? ' (corrections)' : ''}` : 'seeds (round 0)'])]),
    pick(data.spans ? 'Type, asked for or marked' : 'Class, asked for or given', 'label', [any('class'), ...data.labels.map((label, index) => [index, label])]),
    pick('Fate', 'fate', [any('fate'), ['kept', 'kept'], ['rejected', 'rejected'], ...used(FATE).map((index) => [index, `rejected: ${data.reasons[index]}`])]),
    ...(used(DIFFICULTY).length ? [pick('Difficulty', 'difficulty', [any('difficulty'), ...used(DIFFICULTY).map((index) => [index, data.difficulties[index]])])] : []),
    ...(used(WEAKNESS).length ? [pick('Written for', 'weakness', [any('weakness'), ...used(WEAKNESS).map((index) => [index, data.weaknesses[index]])])] : []),
    ...guesses,
  ];
}

function matches(data, row, text, filters) {
  if (filters.search && !text.includes(filters.search.toLowerCase())) return false;
  if (filters.round !== '' && row[ROUND] !== Number(filters.round)) return false;
  if (filters.label !== '' && row[ASKED] !== Number(filters.label) && !row[LABELS].includes(Number(filters.label))) return false;
  if (filters.difficulty !== '' && row[DIFFICULTY] !== Number(filters.difficulty)) return false;
  if (filters.weakness !== '' && row[WEAKNESS] !== Number(filters.weakness)) return false;
  if (filters.guess !== '' && (row[GUESS] < 0 || guessedRight(data, row) !== (filters.guess === 'right'))) return false;
  if (filters.fate === '') return true;
  if (filters.fate === 'kept') return row[FATE] < 0;
  return filters.fate === 'rejected' ? row[FATE] >= 0 : row[FATE] === Number(filters.fate);
}

const ofPerson = (data, row) => data.corrected_rounds.includes(row[ROUND]);
const guessedRight = (data, row) => (data.spans ? row[GUESS] === 1 : row[LABELS].includes(row[GUESS]));

function rowItem(data, index) {
  const row = data.rows[index];
  const item = el('li', {});
  const button = el('button', { class: 'row', type: 'button', 'aria-expanded': 'false', onclick: () => toggle() }, marked(data, row), meta(data, row));
  let more = null;
  function toggle() {
    if (more) { more.remove(); more = null; } else { more = moreOf(data, index); item.append(more); }
    button.setAttribute('aria-expanded', more ? 'true' : 'false');
  }
  item.append(button);
  return item;
}

function marked(data, row) {
  const node = foreign('');
  if (!Array.isArray(row[PIECES])) { node.append(row[PIECES] || '(no text)'); return node; }
  row[PIECES].forEach((piece, index) => {
    if (index % TEXT_STEP === 0) node.append(piece);
    if (index % TEXT_STEP !== 1) return;
    const mark = el('mark', {}, row[PIECES][index + 1], el('small', {}, data.labels[piece]));
    mark.style.setProperty('--hue', String((piece * 137 + 250) % 360));
    node.append(mark);
  });
  return node;
}

function meta(data, row) {
  const labels = row[LABELS].map((index) => data.labels[index]).join(', ');
  const asked = row[ASKED] >= 0 ? data.labels[row[ASKED]] : '';
  return el('span', { class: 'meta' },
    labels ? el('b', {}, labels) : null,
    row[FATE] >= 0 ? el('span', { class: 'bad' }, `rejected: ${data.reasons[row[FATE]]}`) : null,
    asked && asked !== labels ? el('span', {}, `asked for ${asked}`) : null,
    el('span', {}, row[ROUND] ? `round ${row[ROUND]}` : 'seed'),
    ofPerson(data, row) ? el('span', {}, 'relabelled by a person') : null,
    row[DIFFICULTY] >= 0 ? el('span', {}, data.difficulties[row[DIFFICULTY]]) : null,
    row[GUESS] >= 0 && !guessedRight(data, row) ? el('span', {}, 'the student was wrong before it learned it') : null);
}

function moreOf(data, index) {
  const row = data.rows[index];
  const behind = data.answers_of[index];
  const reason = row[FATE] >= 0 ? data.reasons[row[FATE]] : '';
  return el('div', { class: 'more' },
    facts([
      ['asked for', row[ASKED] >= 0 ? data.labels[row[ASKED]] : null],
      ['written for', row[WEAKNESS] >= 0 ? data.weaknesses[row[WEAKNESS]] : null],
      ['student before', row[GUESS] < 0 ? null : data.spans ? (row[GUESS] ? 'right' : 'wrong') : data.labels[row[GUESS]]],
      ['weight', row[WEIGHT] === 1 || reason ? null : String(row[WEIGHT])],
      ['rejected', reason ? [reason, meanings[reason] ? `: ${meanings[reason]}` : ''] : null],
      ['collided with', row[DETAIL] ? foreign(row[DETAIL]) : null],
    ]),
    behind ? behind.map((number) => exchange(data, data.answers[number]))
      : note(ofPerson(data, row) ? 'A person gave this label to a row of an earlier round: no teacher was asked.' : row[ROUND] ? 'The prompts and answers of this row are not on the page.' : 'A seed: no teacher was asked.'));
}

function exchange(data, [template, messages, text, finish, tokens, likeliest]) {
  const student = template === 'student';
  const title = `${student ? 'seeds-only student asked' : template}: ${plural(messages.length, 'message')}${student ? '' : `, ${plural(tokens, 'token')}`}${finish === 'stop' ? '' : `, ${finish}`}`;
  return [
    disclosure(title, messages.map((number) => el('div', { class: 'message' }, el('b', {}, data.messages[number][0]), foreign(data.messages[number][1])))),
    el('div', { class: 'message answer' }, el('b', {}, student ? 'its opinion' : 'answer'), text ? foreign(text) : null,
      likeliest.length ? el('span', { class: 'note' }, `${text ? ' · ' : ''}${likeliest.map(([label, share]) => `${label} ${decimal(share, 2)}`).join(', ')}`) : null),
  ];
}
