// Curves over rounds, drawn by uPlot. A plot follows the width of the page, its colours, and paper.

const DASHES = { solid: [], dashed: [7, 5], dotted: [2, 4], long: [14, 5] };
const plots = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// curves: {name, colour, points: [{round, value, low, high, best}], dash, thin, band}
// references: {name, value, low, high, dash}: horizontal lines.
function plot(curves, references, metric) {
  const box = el('div', { class: 'plot' });
  const readout = el('p', { class: 'readout', 'aria-live': 'off' });
  const shown = { box, draw: () => draw(box, readout, curves, references, metric), drawn: null };
  plots.push(shown);
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (width && (!shown.drawn || Math.abs(shown.drawn.width - width) > 1)) shown.drawn = shown.draw();
  }).observe(box);
  return [legend(curves, references), box, readout];
}

function redrawPlots() {
  for (const shown of plots) if (shown.box.isConnected && shown.box.clientWidth) shown.drawn = shown.draw();
}

function draw(box, readout, curves, references, metric) {
  box.replaceChildren();
  const rounds = [...new Set(curves.flatMap((curve) => curve.points.map((point) => point.round)))].sort((a, b) => a - b);
  const data = [rounds];
  const series = [{}];
  const bands = [];
  for (const curve of curves) {
    const at = (key) => rounds.map((round) => (curve.points.find((point) => point.round === round) || {})[key] ?? null);
    const stroke = colour(curve.colour);
    if (curve.band && curve.points.some((point) => isNumber(point.low))) {
      series.push({ stroke: 'transparent', points: { show: false } }, { stroke: 'transparent', points: { show: false } });
      data.push(at('high'), at('low'));
      bands.push({ series: [series.length - 2, series.length - 1], fill: `${stroke}26` });
    }
    series.push({ stroke, width: curve.thin ? 1.2 : 2.4, dash: DASHES[curve.dash || 'solid'],
      points: { show: !curve.thin, size: 7, fill: colour('page'), stroke, width: 2 } });
    data.push(at('value'));
  }
  const options = {
    width: Math.floor(box.clientWidth), height: box.clientWidth < 560 ? 260 : 340, series, bands,
    legend: { show: false }, padding: [14, 28, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: { x: { time: false, range: [rounds[0] - 0.25, rounds[rounds.length - 1] + 0.25] }, y: { range: () => yRange(curves, references) } },
    axes: [
      { ...axis(), size: 34, splits: () => everySo(rounds, box.clientWidth), values: (_, values) => values.map((round) => `round ${round}`), grid: { show: false } },
      { ...axis(), size: 52, values: (_, values) => values.map((value) => value.toFixed(2)) },
    ],
    hooks: {
      drawAxes: [(u) => drawReferences(u, references)],
      draw: [(u) => drawBest(u, curves)],
      setCursor: [(u) => { readout.textContent = readoutText(u.cursor.idx, rounds, curves, metric); }],
    },
  };
  return new uPlot(options, data, box);
}

function axis() {
  const font = '12px system-ui, sans-serif';
  return { stroke: colour('muted'), font, grid: { stroke: colour('line'), width: 1 }, ticks: { show: false }, gap: 8 };
}

function everySo(rounds, width) {
  const step = Math.max(1, Math.ceil((rounds.length * 76) / Math.max(200, width - 60)));
  return rounds.filter((_, index) => index % step === 0);
}

// From the least to the greatest of all values and of the bands, with some room, within 0 and 1.
function yRange(curves, references) {
  const values = references.map((line) => line.value);
  for (const curve of curves) {
    for (const point of curve.points) values.push(point.value, ...(curve.band ? [point.low, point.high] : []));
  }
  const numbers = values.filter(isNumber);
  if (!numbers.length) return [0, 1];
  const low = Math.min(...numbers);
  const high = Math.max(...numbers);
  const room = Math.max(0.02, 0.08 * (high - low));
  return [Math.max(0, low - room), Math.min(1, high + room)];
}

function drawReferences(u, references) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.lineWidth = 1.4 * devicePixelRatio;
  for (const line of references) {
    const y = Math.round(u.valToPos(line.value, 'y', true));
    ctx.strokeStyle = colour(line.colour);
    ctx.setLineDash(DASHES[line.dash].map((length) => length * devicePixelRatio));
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }
  ctx.restore();
}

// The adopted round is a filled point.
function drawBest(u, curves) {
  const { ctx } = u;
  ctx.save();
  for (const curve of curves) {
    for (const point of curve.points.filter((each) => each.best && isNumber(each.value))) {
      ctx.fillStyle = colour(curve.colour);
      ctx.beginPath();
      ctx.arc(u.valToPos(point.round, 'x', true), u.valToPos(point.value, 'y', true), 5 * devicePixelRatio, 0, 2 * Math.PI);
      ctx.fill();
    }
  }
  ctx.restore();
}

function readoutText(index, rounds, curves, metric) {
  if (!isNumber(index)) return '';
  const parts = curves.slice(0, 6).map((curve) => {
    const point = curve.points.find((each) => each.round === rounds[index]);
    if (!point || !isNumber(point.value)) return null;
    return `${curve.name} ${decimal(point.value)}${isNumber(point.low) ? ` (${within(point.low, point.high)})` : ''}`;
  });
  return `Round ${rounds[index]}, ${metric}: ${parts.filter(Boolean).join(' · ')}`;
}

function legend(curves, references) {
  const entries = [...curves.filter((curve) => !curve.thin), ...references];
  return el('ul', { class: 'legend' }, entries.map((entry) =>
    el('li', {}, swatch(entry), entry.name, isNumber(entry.value) ? el('span', {}, `${decimal(entry.value)}${isNumber(entry.low) ? ` (${within(entry.low, entry.high)})` : ''}`) : null)));
}

function swatch(entry) {
  const namespace = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(namespace, 'svg');
  const line = document.createElementNS(namespace, 'line');
  svg.setAttribute('viewBox', '0 0 28 10');
  svg.setAttribute('aria-hidden', 'true');
  for (const [name, value] of Object.entries({ x1: 0, y1: 5, x2: 28, y2: 5, 'stroke-width': 2.4, 'stroke-dasharray': DASHES[entry.dash || 'solid'].join(' ') || 'none' })) line.setAttribute(name, value);
  line.style.stroke = `var(--${entry.colour})`;
  svg.append(line);
  return svg;
}
