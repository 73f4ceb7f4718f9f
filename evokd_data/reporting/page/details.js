// Sections: teacher, student, weaknesses, rejections and costs, lineage.

function teacherSection(run) {
  const teacher = run.teacher;
  return [
    el('p', {}, `The teacher’s model is “${teacher.name}”${teacher.engine && teacher.engine !== teacher.name ? `, asked through the engine ${teacher.engine}` : ''}.`, teacher.rule ? ` ${teacher.rule}` : ''),
    el('h3', {}, 'Its exam on the seeds'),
    exam(teacher.exam, run),
    el('h3', {}, 'Its own score on the test set'),
    teacher.test.length
      ? table([['asked with'], ['metric'], ['value', 'n'], ['95 % interval', 'n'], ['texts', 'n']], teacher.test.map((row) => [row.name, row.metric, decimal(row.value), within(row.low, row.high), count(row.n)]))
      : missing('The teacher was not scored on the test set: that happens after the last round, where the recipe allows it (teacher_test_texts) and the strategy asks the teacher for labels.'),
    el('h3', {}, 'What was asked for, and what the text was labelled'),
    agreement(teacher, run),
  ];
}

function exam(content, run) {
  if (!content) {
    return missing(run.teacher.labels_asked_for
      ? 'There was no exam: the recipe turned it off (teacher_trust: off), or no round has asked the teacher yet.'
      : 'There was no exam: this strategy does not ask the teacher for labels.');
  }
  const share = run.task.kind === 'spans' ? 'micro-F1' : 'right';
  return [
    el('p', {}, `Before round ${content.round} the teacher labelled ${plural(content.questions, 'seed')}, each left out of the demonstrations. Verdict: ${content.verdict}. The form that was taken is “${content.form}”.`),
    note(foreign(content.message)),
    table([['who labels the seeds'], [share, 'n'], ['95 % interval', 'n']], [
      ...content.scores.map((row) => [row.name, decimal(row.accuracy), within(row.low, row.high)]),
      ...(content.chance ? [['by chance', decimal(content.chance), '']] : []),
    ]),
    content.classes.length
      ? longTable([['class'], ['right', 'n'], ['of', 'n'], ['share', 'n'], ['95 % interval', 'n']], content.classes.map((row) => [foreign(row.name), count(row.right), count(row.n), decimal(row.share, 2), within(row.low, row.high, 2)]), 'The exam, class by class')
      : missing('With spans the exam has no table of types: it is scored by micro-F1 over all.'),
    disclosure('The forms that were tried', table([['form'], [share, 'n'], ['score', 'n'], ['']], content.forms.map((form) => ({ best: form.chosen, cells: [form.name, decimal(form.accuracy), decimal(form.score), form.chosen ? 'taken' : ''] })))),
  ];
}

function agreement(teacher, run) {
  const shown = teacher.matrix;
  if (!shown) return missing('No text was asked for by its label yet, so there is nothing to compare.');
  const spans = run.task.kind === 'spans';
  return [
    teacher.labels_asked_for ? null : note('This strategy asks the teacher for no labels: a text counts as what it was asked for.'),
    el('p', {}, spans
      ? `${percent(shown.share)} of ${plural(shown.asked, 'text')} hold a span of the type they were asked for (95 % interval ${within(shown.low, shown.high, 2)}). A text counts in each column whose type it holds.`
      : `${percent(shown.share)} of ${plural(shown.asked, 'labelled text')} were labelled as they were asked for (95 % interval ${within(shown.low, shown.high, 2)}). “3 + 2” is 3 kept and 2 rejected.`),
    matrix({ rowNames: shown.labels, columnNames: shown.columns, cells: shown.cells, totals: shown.totals, rowTitle: 'asked for', columnTitle: 'labelled', several: spans }),
    spans ? note('Texts that were rejected are not in this table: which spans they had is not recorded.') : null,
  ];
}

function studentSection(run) {
  const student = run.student;
  if (!student) return missing('No round is scored yet.');
  const box = el('div', { id: 'confusion' });
  const show = (round) => {
    const number = student.rounds.indexOf(Number(round));
    box.replaceChildren();
    add(box, [matrix({ rowNames: student.labels, columnNames: student.labels, cells: student.confusions[number], rowTitle: 'expected', columnTitle: 'predicted' })]);
  };
  const confusions = student.confusions.length === student.rounds.length;
  if (confusions) show(student.best);
  return [
    el('p', {}, `The student’s model is “${student.name}”${student.kind && student.kind !== student.name ? ` (${student.kind})` : ''}.`),
    el('h3', {}, 'What it confuses, on the test set'),
    confusions
      ? [el('div', { class: 'controls' }, choice('Round', student.rounds.map((round) => [round, `round ${round}${round === student.best && student.compared ? ', adopted' : ''}`]), student.best, show, 'confusion-round')), box]
      : missing('Spans have no confusion matrix: a span may be missed, invented, cut otherwise, or of another type. The table of types below says how often each is right.'),
    el('h3', {}, 'Each class over the rounds'),
    classesOverRounds(student),
  ];
}

function classesOverRounds(student) {
  const change = (entry) => entry.f1[entry.f1.length - 1] - entry.f1[0];
  const classes = [...student.classes].sort((a, b) => change(b) - change(a));
  const box = el('div', {});
  const show = (chosen) => {
    const curves = classes.map((entry) => ({ name: entry.name, colour: 'faint', thin: true, points: pointsOf(entry, student) }));
    const lit = classes.find((entry) => entry.name === chosen);
    box.replaceChildren();
    add(box, [plot([...curves, ...(lit ? [{ name: lit.name, colour: 'accent', points: pointsOf(lit, student) }] : [])], [], 'F1')]);
  };
  show(classes[0] ? classes[0].name : '');
  const last = student.rounds[student.rounds.length - 1];
  return [
    note('Every class is a line; choose one to light it up.'),
    el('div', { class: 'controls' }, choice('Class', classes.map((entry) => [entry.name, entry.name]), classes[0] && classes[0].name, show, 'class-line')),
    box,
    longTable([['class'], [`F1, round ${student.rounds[0]}`, 'n'], [`F1, round ${last}`, 'n'], ['change', 'n'], ['precision', 'n'], ['recall', 'n'], ['n', 'n']],
      classes.map((entry) => [foreign(entry.name), decimal(entry.f1[0]), decimal(entry.f1[entry.f1.length - 1]), signed(change(entry)), decimal(entry.precision), decimal(entry.recall), count(entry.support)]), 'F1 of each class on the test set'),
  ];
}

const pointsOf = (entry, student) => student.rounds.map((round, index) => ({ round, value: entry.f1[index] }));

function weaknessSection(run, showWeakness) {
  if (!run.weaknesses.length) {
    return missing('No round aimed at a weakness. The first round aims at none. A later one does where the student got new texts wrong whose label can be trusted, and only with a strategy that uses feedback, such as evokd.');
  }
  const others = run.untargeted.filter((row) => row.others).map((row) => `round ${row.round}: ${row.others}`).join(', ');
  return [
    el('p', {}, 'A weakness is a kind of mistake on texts that the student had not learned yet. Texts are written for it; the fresh texts of the next round in which the teacher writes, and the test set, say what became of it.'),
    note('A weakness is chosen because its count is high, and part of a high count is chance: a part of each fall comes by itself. “Rarer” and “more frequent” are said only where Fisher’s exact test has a p below 0.05, uncorrected for the number of weaknesses.'),
    others ? note(`Seen and not aimed at, ${others}.`) : null,
    el('div', { class: 'cards' }, run.weaknesses.map((each) => weaknessCard(each, showWeakness))),
  ];
}

function weaknessCard(each, showWeakness) {
  return el('details', { class: 'card' },
    el('summary', {}, el('span', {}, `round ${each.round}: `, el('b', {}, foreign(weaknessTitle(each)))), el('span', { class: 'change' }, changeOf(each.fresh, 'fresh texts') || changeOf(each.test, 'test texts') || 'not measured yet')),
    el('div', {}, el('div', { class: 'steps' },
      el('div', {}, el('h5', {}, 'the mistake before'), ...beforeAfter(each, 'before'),
        each.wrong.length ? el('ul', {}, each.wrong.map((text) => el('li', {}, foreign(text)))) : null),
      el('div', {}, el('h5', {}, 'texts written for it'), el('p', {}, el('span', { class: 'big' }, count(each.kept)), ` kept of ${count(each.asked)} asked for${each.rejected ? `, ${count(each.rejected)} rejected` : ''}`),
        each.texts.length ? el('ul', {}, each.texts.map((row) => el('li', {}, foreign(row.text), el('span', { class: 'note' }, row.label ? ` (${row.label})` : '')))) : null,
        each.kept + each.rejected ? el('button', { class: 'quiet', type: 'button', onclick: () => showWeakness(each) }, 'show all of them') : null),
      el('div', {}, el('h5', {}, 'the mistake after'), ...beforeAfter(each, 'after'))),
    each.advice ? [el('h5', {}, 'what the teacher advised the writer'), el('p', {}, foreign(each.advice))] : null));
}

// "3 of 6 → 0 of 6 fresh texts, inside noise", where both are known.
function changeOf(pair, where) {
  if (!pair || !pair.before || !pair.after || pair.before.corrected) return '';
  return [`${count(pair.before.missed)} of ${count(pair.before.n)} → ${count(pair.after.missed)} of ${count(pair.after.n)} ${where}, `, pair.verdict === 'inside noise' ? pair.verdict : el('b', {}, pair.verdict)];
}

function weaknessTitle(each) {
  if (each.kind === 'confused') return `${each.expected} taken for ${each.got}`;
  if (each.kind === 'wrong_type') return `${each.expected} marked as ${each.got}`;
  if (each.kind === 'missed') return `${each.expected} missed`;
  if (each.kind === 'spurious') return `${each.got} marked where there is none`;
  if (each.kind === 'wrong_boundary') return `${each.expected} cut at the wrong place`;
  return each.name;
}

function beforeAfter(each, when) {
  const lines = [['fresh texts', each.fresh], ['test texts', each.test]].filter(([, pair]) => pair && pair[when]).map(([name, pair]) => {
    const { missed, n, round, corrected } = pair[when];
    return el('p', {}, el('span', { class: 'big' }, percent(missed / n)), ` ${count(missed)} of ${count(n)} ${corrected ? 'corrected texts' : name}, round ${round}`,
      when === 'after' && pair.verdict ? el('span', {}, ': ', el('b', {}, pair.verdict)) : null);
  });
  if (lines.length) return lines;
  return [el('p', { class: 'note' }, when === 'after' ? 'Not measured: no later round has fresh texts.' : 'Not measured.')];
}

function rejectionSection(run) {
  const shown = run.rejections;
  if (!shown) return missing('No round has asked for texts yet.');
  if (!shown.reasons.length) return el('p', {}, `None of ${plural(shown.asked, 'text')} was rejected.`);
  const most = shown.reasons[0].count;
  return [
    el('p', {}, `${count(shown.asked)} texts were asked for, ${count(shown.kept)} kept, ${count(shown.asked - shown.kept)} rejected, each for one reason.`),
    table([['reason'], ['texts', 'n'], [''], ['what it means', 'w']], shown.reasons.map((row) => [row.reason, count(row.count), bar(row.count / most), row.meaning]), 'Rejections by reason'),
    shown.reasons.filter((row) => row.examples.length).map((row) => disclosure(`${row.reason}: ${plural(row.examples.length, 'example')}`,
      table([['round'], ['text', 'w'], ['asked for'], ['what it collided with', 'w']], row.examples.map((each) => [String(each.round), foreign(each.text), foreign(each.intended), foreign(each.detail)])))),
  ];
}

function spendingSection(run) {
  const { rounds, total, priced } = run.spending;
  const cells = (name, row) => [name, count(row.prompt_tokens), count(row.completion_tokens), duration(row.generate_s), duration(row.train_s), ...(priced ? [isNumber(row.cost_usd) ? `$${row.cost_usd.toFixed(4)}` : '–'] : [])];
  return [
    table([['round'], ['prompt tokens', 'n'], ['answer tokens', 'n'], ['generating', 'n'], ['training and scoring', 'n'], ...(priced ? [['cost', 'n']] : [])],
      [...rounds.map((row) => cells(row.round === null ? 'teacher on test' : String(row.round), row)), { best: true, cells: cells('all', total) }], 'Tokens and time'),
    priced ? null : note('No cost is shown: the recipe names no prices (prices: {prompt, completion}, in dollars per million tokens).'),
    note('Times are those of the process that finished a stage. The exam is part of the first round.'),
    el('h3', {}, 'How varied the texts are'),
    run.variety.length
      ? [table([['round'], ['texts measured', 'n'], ['different bigrams', 'n'], ['similarity', 'n'], ['effective number of texts', 'n'], ['detector, ROC AUC', 'n']],
        run.variety.map((row) => [String(row.round), count(row.n), decimal(row.distinct_2, 2), decimal(row.similarity, 3), decimal(row.vendi, 1), isNumber(row.auc) ? `${decimal(row.auc, 2)} ± ${decimal(row.sd, 2)}` : row.reason || '–'])),
      note('The detector tells a round’s texts from real ones: 0.5 means that it cannot.')]
      : missing('Diversity was not measured: a round needs at least two texts.'),
  ];
}

function lineageSection(run) {
  const lineage = run.lineage;
  const model = (entry) => [entry.name, entry.kind && entry.kind !== entry.name ? ` (${entry.kind})` : '', entry.revision ? [', revision ', code(entry.revision)] : '', entry.digest ? [', digest ', code(entry.digest)] : ''];
  const published = lineage.rounds.some((row) => row.revision);
  return [
    facts([
      ['recipe', code(lineage.recipe)], ['strategy', lineage.strategy], ['seed', String(lineage.seed)],
      ['teacher', model(lineage.teacher)], ['student', model(lineage.student)],
      ...Object.entries(lineage.inputs).map(([name, value]) => [name, value ? code(value) : null]),
      ...Object.entries(lineage.prompts).map(([name, value]) => [`prompt ${name}`, code(value)]),
      ['begun from', lineage.from ? `${lineage.from.repo}@${lineage.from.tag}, commit ${lineage.from.commit}` : null],
      ['finished', when(lineage.finished)],
    ]),
    table([['round'], ['rows', 'n'], ['digest of the round'], ['content'], ...(published ? [['revision']] : [])],
      lineage.rounds.map((row) => [String(row.round), count(row.rows), code((row.digest || '–').slice(0, 16)), code((row.content || '–').slice(0, 16)), ...(published ? [row.revision ? `${row.revision.repo}@${row.revision.tag} ${row.revision.commit.slice(0, 12)}` : '–'] : [])]), 'Each digest holds that of the round before'),
    published ? null : missing('No round is published, so nobody else can load this run yet: evokd-data publish does that.'),
    el('h3', {}, 'How to have it again'),
    facts(lineage.commands.map((each) => [each.what, code(each.command)])),
    disclosure('Versions and machine', facts([...Object.entries(lineage.versions), ...Object.entries(lineage.hardware).map(([name, value]) => [name, String(value)])])),
  ];
}
