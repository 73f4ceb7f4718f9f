// Matrices as tables with shaded cells: a row's shares decide the shade, so that rare and frequent classes can be compared.

const MOST_LABELS = 20;

// cells: [row, column, count, count of rejected]. totals: the texts of each row; without them, the sum of its cells. Cells off the
// diagonal are wrong, unless a text may be in several columns.
function matrix({ rowNames, columnNames, cells, totals, rowTitle, columnTitle, several }) {
  const [rows, columns, remark] = mostConfused(rowNames, columnNames, cells);
  const byPlace = new Map(cells.map((cell) => [`${cell[0]} ${cell[1]}`, cell]));
  const sums = totals || rowNames.map((_, row) => cells.filter((cell) => cell[0] === row).reduce((sum, cell) => sum + cell[2] + (cell[3] || 0), 0));
  const head = el('tr', {}, el('th', {}, `${rowTitle} ↓  ${columnTitle} →`),
    columns.map((column) => el('th', { scope: 'col', class: 'turned' }, el('span', { dir: 'auto', title: columnNames[column] }, columnNames[column]))),
    el('th', { scope: 'col', class: 'total' }, 'all'));
  const body = rows.map((row) => el('tr', {},
    el('th', { scope: 'row', title: rowNames[row] }, foreign(rowNames[row])),
    columns.map((column) => cellOf(byPlace.get(`${row} ${column}`), rowNames[row] === columnNames[column] ? 'right' : several ? 'other' : 'wrong', sums[row])),
    el('td', { class: 'total' }, count(sums[row]))));
  return [
    el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `${rowTitle} and ${columnTitle}` },
      el('table', { class: 'matrix' }, el('thead', {}, head), el('tbody', {}, body))),
    remark ? note(remark) : null,
  ];
}

function cellOf(cell, kind, total) {
  if (!cell) return el('td', {});
  const [, , kept, rejected] = cell;
  const share = (kept + (rejected || 0)) / total;
  const node = el('td', { class: `${kind}${share > 0.55 ? ' strong' : ''}`, title: `${count(kept)}${rejected ? ` kept, ${count(rejected)} rejected` : ''} of ${count(total)}` },
    rejected ? `${count(kept)} + ${count(rejected)}` : count(kept));
  node.style.setProperty('--shade', `${Math.round(12 + 78 * share)}%`);
  return node;
}

// All labels, or of many those with the most cells off the diagonal; and a sentence that says so.
function mostConfused(rowNames, columnNames, cells) {
  const all = [rowNames.map((_, index) => index), columnNames.map((_, index) => index), ''];
  if (rowNames.length <= MOST_LABELS) return all;
  const wrong = new Map();
  for (const [row, column, kept, rejected] of cells) {
    if (rowNames[row] === columnNames[column]) continue;
    for (const name of [rowNames[row], columnNames[column]]) wrong.set(name, (wrong.get(name) || 0) + kept + (rejected || 0));
  }
  const ranked = [...new Map([...[...wrong].sort((a, b) => b[1] - a[1]), ...rowNames.map((name) => [name, 0])]).keys()];
  const chosen = new Set(ranked.slice(0, MOST_LABELS));
  const kept = (names) => names.map((_, index) => index).filter((index) => chosen.has(names[index]));
  return [kept(rowNames), kept(columnNames), `${chosen.size} of ${rowNames.length} classes are shown: those that are confused most. “all” counts every class.`];
}
