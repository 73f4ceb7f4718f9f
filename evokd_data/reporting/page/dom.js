// Elements, numbers and tables. Foreign text reaches the page through text nodes only.

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === 'class') node.className = value;
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child); // a string becomes a text node
  }
}

// Text that a teacher or a user wrote: isolated, so that its direction does not reach what stands beside it.
function foreign(text, tag) {
  return el(tag || 'span', { class: 'foreign', dir: 'auto' }, text);
}

const note = (...children) => el('p', { class: 'note' }, ...children);
const missing = (text) => el('p', { class: 'missing' }, text);
const code = (text) => el('code', {}, text);

const isNumber = (value) => typeof value === 'number';
const count = (value) => (isNumber(value) ? value.toLocaleString('en-US') : '–');
const decimal = (value, digits = 3) => (isNumber(value) ? value.toFixed(digits) : '–');
const percent = (value) => (isNumber(value) ? `${Math.round(100 * value)} %` : '–');
const within = (low, high, digits = 3) => (isNumber(low) && isNumber(high) ? `${decimal(low, digits)} to ${decimal(high, digits)}` : '–');
const signed = (value) => (isNumber(value) ? `${value >= 0 ? '+' : '−'}${Math.abs(value).toFixed(3)}` : '–');
const plural = (number, word, words) => `${count(number)} ${number === 1 ? word : words || `${word}s`}`;
// "2026-11-29T10:17:13+00:00" as "2026-11-29 10:17 UTC".
const when = (time) => (time ? time.replace(/T(\d\d:\d\d).*$/, ' $1 UTC') : null);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const yesNo = (value) => (value === true ? 'yes' : value === false ? 'no' : '–');

function duration(seconds) {
  if (!isNumber(seconds)) return '–';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

// columns: [title, kind], kind is "n" for numbers, "w" for wide texts. rows: lists of cells, or {cells, best}.
function table(columns, rows, caption) {
  const kinds = columns.map((column) => column[1] || '');
  const head = el('tr', {}, columns.map(([title, kind]) => el('th', { scope: 'col', class: kind || '' }, title)));
  const body = rows.map((row) => {
    const cells = Array.isArray(row) ? row : row.cells;
    return el('tr', { class: row.best ? 'best' : '' }, cells.map((cell, index) => el('td', { class: kinds[index] }, cell)));
  });
  return el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption || 'table' },
    el('table', {}, caption ? el('caption', {}, caption) : null, el('thead', {}, head), el('tbody', {}, body)));
}

// The same, folded away when it is long.
function longTable(columns, rows, caption) {
  return rows.length > 24 ? disclosure(`${caption}: all ${count(rows.length)}`, table(columns, rows)) : table(columns, rows, caption);
}

function disclosure(title, ...children) {
  return el('details', {}, el('summary', {}, title), ...children);
}

// A bar of 0 to 1 of the track's width.
function bar(share) {
  const filled = el('span', { class: 'bar' });
  filled.style.width = `${Math.round(1000 * Math.max(0, Math.min(1, share))) / 10}%`;
  return el('span', { class: 'track', 'aria-hidden': 'true' }, filled);
}

function facts(pairs) {
  return el('dl', { class: 'facts' }, pairs.filter(([, value]) => value !== null && value !== '' && value !== undefined)
    .map(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
}

function choice(label, options, chosen, onchange, id) {
  const select = el('select', { id: id || null, onchange: () => onchange(select.value) },
    options.map(([value, title]) => el('option', { value, selected: String(value) === String(chosen) }, title)));
  return el('label', {}, label, select);
}
