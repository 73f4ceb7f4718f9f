// Sections: the outcome, the curve, several runs and the arms of a comparison.

const SERIES = 6;
const seriesColour = (index) => `series-${(index % SERIES) + 1}`;

function outcomeSection(run) {
  const { sentences, verdict, figures, remarks } = run.outcome;
  return [
    el('p', { class: `verdict ${verdict.kind}`, id: 'verdict' }, verdict.words),
    sentences.map((sentence) => el('p', { class: 'lead' }, sentence)),
    el('dl', { class: 'figures' }, figures.map((figure) =>
      el('div', {}, el('dt', {}, figure.name), el('dd', {}, figure.value), el('dd', { class: 'small' }, figure.note)))),
    remarks.map((remark) => note(remark)),
  ];
}

function curveSection(run, page) {
  const shown = run.curve;
  if (!shown) return [missing('No round is scored yet: the curve begins with round 0.'), roundsTable(run)];
  const references = shown.lines.map((line, index) => ({ ...line, colour: line.teacher ? 'ink' : 'muted', dash: line.teacher ? ['long', 'dashed', 'dotted'][index % 3] : 'dashed' }));
  const curves = [{ name: `student, ${shown.metric}`, colour: 'accent', points: shown.points, band: true }];
  const arms = controlArms(run, page);
  return [
    el('p', {}, `${capital(shown.metric)} of the student on ${plural(shown.n, 'test text')}, round by round, with 95 % intervals. ${shown.points.some((point) => point.adopted !== null) ? 'The filled point is the adopted round.' : 'The filled point is the last round: which one to adopt was not asked.'}`),
    plot([...curves, ...arms], references, shown.metric),
    run.curve.lines.length ? null : note('The seeds-only student and the teacher itself were not scored on the test set, so there is no line to compare with.'),
    arms.length ? null : note('No control arm is on this page. evokd-data compare trains some over several seeds; evokd-data report RUN --compare results.json shows them here, and evokd-data report RUN OTHER another run.'),
    roundsTable(run),
  ];
}

// The arms of a comparison, and the other runs on the page, where they have the same test set.
function controlArms(run, page) {
  const others = page.side_by_side && page.side_by_side.same_test ? page.side_by_side.runs.filter((other) => other.name !== run.name) : [];
  return [...others, ...(page.arms ? page.arms.arms : [])].map((arm, index) => ({
    name: arm.name, colour: seriesColour(index + 1), points: arm.points.map((point) => ({ ...point, best: false })), dash: 'dotted',
  }));
}

function roundsTable(run) {
  const metric = run.curve ? run.curve.metric : 'F1';
  const lines = run.curve ? run.curve.lines.map((line) => [line.name, '', '', '', decimal(line.value), within(line.low, line.high), '', '', '']) : [];
  const rows = run.rounds.map((row) => ({
    best: run.curve && run.curve.points.some((point) => point.best && point.round === row.round),
    cells: [String(row.round), count(row.asked), count(row.kept), count(row.rejected), decimal(row.value), within(row.low, row.high), yesNo(row.adopted), count(row.tokens), duration(row.seconds)],
  }));
  return table([['round'], ['asked', 'n'], ['kept', 'n'], ['rejected', 'n'], [metric, 'n'], ['95 % interval', 'n'], ['adopted'], ['tokens', 'n'], ['time', 'n']], [...lines, ...rows], 'The rounds');
}

function sideBySideSection(sideBySide, chooseRun) {
  const { runs, metric, same_test: sameTest } = sideBySide;
  const curves = runs.map((run, index) => ({ name: run.name, colour: seriesColour(index), points: run.points, band: runs.length < 3 }));
  const name = (run, index) => el('button', { class: 'quiet', type: 'button', onclick: () => chooseRun(index) }, run.name);
  const results = runs.map((run, index) => [
    name(run, index), run.best ? String(run.best.round) : '–', run.best ? decimal(run.best.value) : '–',
    run.best ? within(run.best.low, run.best.high) : '–', ...differenceCells(run.minus_first),
  ]);
  const settings = runs.map((run) => [run.name, run.strategy, String(run.seed), run.teacher, run.student, count(run.asked), count(run.kept), count(run.tokens), duration(run.seconds)]);
  return [
    el('p', {}, sameTest ? `${capital(metric)} on the same test set, one training run a line.` : 'These runs have different test sets: their scores cannot be compared with each other.'),
    plot(curves, [], metric),
    table([['run'], ['adopted round', 'n'], [metric, 'n'], ['95 % interval', 'n'], ['minus the first', 'n'], ['95 % interval', 'n'], ['reading']], results, 'What the runs reached'),
    note('The differences hold for other test texts. One seed cannot tell two ways of generating apart: evokd-data compare runs several and says what may be concluded.'),
    table([['run'], ['strategy'], ['seed', 'n'], ['teacher'], ['student'], ['asked', 'n'], ['kept', 'n'], ['tokens', 'n'], ['time', 'n']], settings, 'What they were made of'),
  ];
}

const differenceCells = (each) => (each ? [signed(each.mean), isNumber(each.low) ? `${signed(each.low)} to ${signed(each.high)}` : '–', each.verdict] : ['', '', '']);

function armsSection(arms) {
  const curves = arms.arms.map((arm, index) => ({ name: arm.name, colour: seriesColour(index), points: arm.points, band: arms.arms.length < 4 }));
  return [
    el('p', {}, `${capital(arms.metric)} on ${plural(arms.n, 'test text')}: the mean over seeds, and one standard deviation around it. Every arm could keep ${count(arms.samples)} texts in each of ${plural(arms.rounds, 'round')}.`),
    plot(curves, [], arms.metric),
    table([['arm'], ['strategy'], ['seeds', 'n'], [`${arms.metric}, mean`, 'n'], ['sd', 'n'], ['samples kept', 'n'], ['tokens', 'n']],
      arms.arms.map((arm) => [arm.name, arm.strategy, count(arm.seeds), decimal(arm.mean, 4), decimal(arm.sd, 4), count(Math.round(arm.kept)), count(Math.round(arm.tokens))]), 'The arms'),
    arms.differences.length
      ? table([['arm'], ['minus'], ['seeds', 'n'], ['difference', 'n'], ['95 % interval', 'n'], ['p, Holm', 'n'], ['reading']],
        arms.differences.map((each) => [each.arm, each.reference, count(each.n), ...differenceCells(each).slice(0, 2), decimal(each.p_holm), each.verdict]), 'Differences, paired by seed')
      : missing('There is one arm, so there is no difference to test.'),
    note('An arm is called higher or lower only where the interval leaves out zero.'),
  ];
}

// What a reader who did not make the run needs to know.
const WORDS = [
  ['teacher', 'The large model. It writes texts and labels them.'],
  ['student', 'The small model. It learns the texts, and it is what one uses afterwards.'],
  ['seeds', 'The labelled examples that a person gave.'],
  ['seeds only', 'What a small model reaches that has learned the seeds and nothing else. The run is worth its cost when the student is above it.'],
  ['round', 'The teacher writes texts, the student learns them and is tested. Round 0 has the seeds alone.'],
  ['test set', 'Labelled texts that a person gave and that no model has learned. All scores are taken on it.'],
  ['macro-F1', 'The F1 score of each class (1 is perfect, 0 is nothing right), and the mean of all classes: a rare class counts as much as a frequent one.'],
  ['micro-F1', 'The F1 score over all marked spans together. A span is right when its bounds and its type are.'],
  ['95 % interval', 'Where the score would lie with other test texts of the same kind, 95 times in 100. “Inside noise” means that a difference may be chance.'],
  ['exam', 'Before the first round the teacher labels the seeds without being told the answer. It shows how far its labels can be trusted.'],
  ['kept, rejected', 'A text is kept when it passes all filters. Each rejected text has a reason, for instance that it repeats another.'],
  ['adopted', 'A student that is not worse than the one before, on labelled texts other than the test set. Where the texts of a round let the teacher look worse than the seeds, it must be better. The last adopted one is the result.'],
  ['weakness', 'A mistake that the student made often. The next round asks for texts against it.'],
];

const wordsSection = () => el('dl', { class: 'words' }, WORDS.flatMap(([word, meaning]) => [el('dt', {}, word), el('dd', {}, meaning)]));
