// The page: its data, its contents, the chosen run.

const page = JSON.parse(document.getElementById('data').textContent);
const meanings = page.reasons;

function sectionsOf(run, browser, showWeakness, chooseRun) {
  return [
    ['runs', 'Side by side', page.side_by_side && sideBySideSection(page.side_by_side, chooseRun)],
    ['outcome', 'What came of it', outcomeSection(run)],
    ['curve', 'Score by round', curveSection(run, page)],
    ['arms', 'Control arms', page.arms && armsSection(page.arms)],
    ['teacher', 'The teacher', teacherSection(run)],
    ['student', 'The student', studentSection(run)],
    ['weaknesses', 'Weaknesses', weaknessSection(run, showWeakness)],
    ['rejections', 'Rejections', rejectionSection(run)],
    ['costs', 'Tokens and time', spendingSection(run)],
    ['samples', 'Samples', browser.nodes],
    ['lineage', 'Lineage', lineageSection(run)],
    ['words', 'Words', wordsSection()],
  ].filter(([, , content]) => content);
}

function show(number) {
  const run = page.runs[number];
  plots.length = 0;
  const browser = browserSection(run);
  const showWeakness = (weakness) => {
    const index = run.browser.weaknesses.indexOf(weakness.name);
    browser.set({ weakness: index < 0 ? '' : String(index), round: String(weakness.round) });
    document.getElementById('samples').scrollIntoView();
  };
  const sections = sectionsOf(run, browser, showWeakness, (other) => { show(other); document.getElementById('outcome').scrollIntoView(); });
  const top = document.getElementById('top');
  top.replaceChildren(
    el('p', { class: 'eyebrow' }, `A large model distilled into a small one, round by round${run.lineage.finished ? ` · ${when(run.lineage.finished)}` : ''}`),
    el('h1', {}, foreign(run.name)));
  if (run.task.description) top.append(el('p', { class: 'note' }, foreign(run.task.description)));
  if (page.runs.length > 1) {
    top.append(el('div', { class: 'run-choice' }, choice('Run', page.runs.map((each, index) => [index, each.name]), number, (value) => show(Number(value)), 'run-choice')));
  }
  document.getElementById('main').replaceChildren(...sections.map(([id, title, content]) => el('section', { id }, el('h2', {}, title), content)));
  document.getElementById('contents').replaceChildren(el('ol', {}, sections.map(([id, title]) => el('li', {}, el('a', { href: `#${id}` }, title)))));
  document.getElementById('foot').replaceChildren(el('p', {}, `Written by evokd-data ${page.version}. This file needs no network and sends nothing anywhere. Curves: uPlot, MIT licence.`));
  followSections();
}

let observer = null;

// The contents show which section is being read.
function followSections() {
  if (observer) observer.disconnect();
  const links = new Map([...document.querySelectorAll('nav a')].map((link) => [link.getAttribute('href').slice(1), link]));
  observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute('aria-current');
      links.get(entry.target.id).setAttribute('aria-current', 'true');
    }
  }, { rootMargin: '-12% 0px -80% 0px' });
  for (const section of document.querySelectorAll('main > section')) observer.observe(section);
}

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redrawPlots);

// On paper nothing can be opened: what is folded away on the screen is printed, in the colours of paper.
let folded = [];
addEventListener('beforeprint', () => {
  folded = [...document.querySelectorAll('main > section:not(#samples) details:not([open])')];
  for (const each of folded) each.open = true;
  document.documentElement.classList.add('paper');
  redrawPlots();
});
addEventListener('afterprint', () => {
  for (const each of folded) each.open = false;
  document.documentElement.classList.remove('paper');
  redrawPlots();
});

show(0);
