// What the live page and the file that works alone share: drawing a view.
'use strict';
const byId = (id) => document.getElementById(id);
const page = { photo: null, words: [], models: [], off: new Set(), picked: null };

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

const decimals = (value) => value.toFixed(3);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const plural = (model) => `${model.grid[0]} × ${model.grid[1]} patches`;

// The photo with a picture over it, whose opacity the slider sets.
function stack(url, ring = null, alt = '') {
  const over = url ? make('img', { src: url, alt, className: 'over faded' }) : null;
  const node = make('div', { className: url ? 'stack grey' : 'stack' }, make('img', { src: page.photo.url, alt: 'photo' }), over);
  if (ring) {
    const mark = make('span', { className: 'ring', title: 'hottest place' });
    mark.style.left = `${100 * ring[0]}%`;
    mark.style.top = `${100 * ring[1]}%`;
    node.append(mark);
  }
  return node;
}

function colourBar(low, high) {
  const stops = TURBO.filter((_, index) => index % 15 === 0).map((colour) => `rgb(${colour})`);
  const stripe = make('i');
  stripe.style.background = `linear-gradient(90deg, ${stops})`;
  return make('span', { className: 'bar', title: 'cosine similarity' }, decimals(low), stripe, decimals(high));
}

function section(model, bar, ...content) {
  if (model.problem) return make('div', { className: 'model' }, make('h2', { textContent: model.name }),
    make('p', { className: 'problem', textContent: model.problem }));
  const about = make('div', { className: 'about' }, make('h2', { textContent: model.name }),
    make('span', { textContent: plural(model) }), bar);
  return make('div', { className: 'model' }, about, ...content);
}

function showWords(model) {
  const cards = (model.maps || []).filter((map) => !page.off.has(map.word)).map((map) => {
    const figure = make('figure', {}, stack(map.url, map.peak, `map of ${map.word}`),
      make('figcaption', {}, make('span', { textContent: map.word }),
        make('small', { textContent: `up to ${decimals(map.high)}` })));
    figure.dataset.word = map.word;
    return figure;
  });
  return section(model, model.maps && model.maps.length ? colourBar(model.low, model.high) : null,
    make('div', { className: 'cards' }, ...cards));
}

function showSegmentation(model) {
  if (!model.segmentation) return section(model, null);
  const entries = model.segmentation.legend.map((entry) => {
    const swatch = make('i');
    swatch.style.background = entry.colour;
    return make('li', {}, swatch, entry.word, make('small', { textContent: percent(entry.share) }));
  });
  const rest = 1 - model.segmentation.legend.reduce((sum, entry) => sum + entry.share, 0);
  if (rest > 0.0005) entries.push(make('li', {}, make('i'), 'background', make('small', { textContent: percent(rest) })));
  return section(model, null, make('div', { className: 'cards one' },
    stack(model.segmentation.url, null, 'segmentation by words'), make('ul', { className: 'legend' }, ...entries)));
}

function showComponents(model) {
  if (model.problem) return section(model, null);
  const shares = model.components.shares.map((share, index) => `${['red', 'green', 'blue'][index]} ${percent(share)}`);
  return section(model, make('span', { textContent: `variance: ${shares.join(', ')}` }), make('div', { className: 'cards one' },
    stack(model.components.url, null, 'components of the patches')));
}

function showLikeness(model, index) {
  if (model.problem) return section(model, null);
  const shown = page.picked && page.picked[index];
  if (shown && shown.problem) return section({ ...model, problem: shown.problem }, null);
  if (model.pairs === null) return section({ ...model, problem: 'This view has too many patches for this tab without a server.' }, null);
  const ring = shown ? [(shown.cell[1] + 0.5) / shown.grid[1], (shown.cell[0] + 0.5) / shown.grid[0]] : null;
  const node = stack(shown ? shown.url : null, ring, 'likeness to the patch');
  node.classList.add('pick');
  node.addEventListener('click', (event) => {
    const box = node.getBoundingClientRect();
    const inside = (part) => Math.min(1, Math.max(0, part));
    pickPatch(inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height));
  });
  return section(model, shown ? colourBar(shown.low, shown.high) : null, make('div', { className: 'cards one' }, node));
}

function draw() {
  const shown = { words: showWords, segmentation: showSegmentation, components: showComponents, likeness: showLikeness };
  for (const [tab, show] of Object.entries(shown)) {
    const panel = byId(tab).querySelector('[data-panel]');
    const needsWords = tab === 'words' || tab === 'segmentation';
    if (!page.photo || (needsWords && !page.words.length)) {
      const text = page.photo ? 'Type a word above: its map appears here.' : 'Choose a photo above, or click an example.';
      panel.replaceChildren(make('p', { className: 'empty', textContent: text }));
    } else panel.replaceChildren(...page.models.map(show));
  }
  fade();
}

function fade() {
  document.querySelectorAll('.faded').forEach((node) => { node.style.opacity = byId('opacity').value; });
}

function showTab(name) {
  document.querySelectorAll('[role=tab]').forEach((tab) => {
    tab.setAttribute('aria-selected', String(tab.dataset.tab === name));
    byId(tab.dataset.tab).hidden = tab.dataset.tab !== name;
  });
  byId('strength').hidden = name === 'search';
}

function say(text) {
  byId('message').textContent = text || '';
  byId('message').hidden = !text;
}

function showNotes(notes) {
  byId('notes').replaceChildren(...notes.map((note) => make('li', { textContent: note })));
}

document.querySelectorAll('[role=tab]').forEach((tab) => tab.addEventListener('click', () => showTab(tab.dataset.tab)));
byId('opacity').addEventListener('input', fade);

// In a file that works alone the likeness of all pairs of patches lies in a picture.
async function pixelsOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = make('canvas', { width: image.width, height: image.height });
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height).data;
}

async function likenessWithoutServer(model, x, y) {
  const [rows, columns] = model.grid;
  const cell = [Math.min(rows - 1, Math.floor(y * rows)), Math.min(columns - 1, Math.floor(x * columns))];
  model.pixels = model.pixels || await pixelsOf(model.pairs.url);
  const start = 4 * (cell[0] * columns + cell[1]) * rows * columns;
  const values = Array.from({ length: rows * columns }, (_, index) => model.pixels[start + 4 * index]);
  const low = Math.min(...values), high = Math.max(...values);
  const canvas = make('canvas', { width: columns, height: rows });
  const context = canvas.getContext('2d'), drawn = context.createImageData(columns, rows);
  values.forEach((value, index) => {
    const colour = TURBO[Math.round(255 * (value - low) / Math.max(1, high - low))];
    drawn.data.set([...colour, 255], 4 * index);
  });
  context.putImageData(drawn, 0, 0);
  const scale = (value) => model.pairs.low + value / 255 * (model.pairs.high - model.pairs.low);
  return { name: model.name, url: canvas.toDataURL(), low: scale(low), high: scale(high), cell, grid: model.grid };
}

function startWithoutServer() {
  Object.assign(page, { photo: GIVEN.photo, words: GIVEN.words, models: GIVEN.models });
  document.querySelectorAll('.live').forEach((node) => { node.hidden = true; });
  const settings = GIVEN.settings, names = page.models.map((model) => model.name).join(' and ');
  byId('models').textContent = `${names}; read-out ${settings.read_out}, ${settings.size ? `${settings.size} px, ` : ''}` +
    (settings.mode === 'sliding' ? 'in windows' : 'in one piece');
  showNotes(page.photo.notes);
  document.querySelector('[data-chips-static]').replaceChildren(...page.words.map((word) => {
    const chip = make('button', { type: 'button', className: 'chip', textContent: word });
    chip.addEventListener('click', () => {
      page.off[page.off.has(word) ? 'delete' : 'add'](word);
      chip.classList.toggle('off', page.off.has(word));
      draw();
    });
    return chip;
  }));
  draw();
}

let pickPatch = async (x, y) => {
  page.picked = await Promise.all(page.models.map((model) => model.pairs ? likenessWithoutServer(model, x, y) : null));
  draw();
};
if (GIVEN) startWithoutServer();
