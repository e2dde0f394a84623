// The live page: asks its own server, and nobody else.
let asked = 0;
let timer = 0;

async function ask(path, content, raw = false) {
  const isFile = content instanceof Blob;
  let answer;
  try {
    answer = await fetch(path, {
      method: 'POST',
      headers: { 'X-Demo': '1', 'Content-Type': isFile ? 'application/octet-stream' : 'application/json' },
      body: isFile ? content : JSON.stringify(content),
    });
  } catch {
    throw new Error('The server does not answer: it has ended, or the file is too large for it.');
  }
  if (!answer.ok) throw new Error((await answer.json()).message);
  return raw ? answer.blob() : answer.json();
}

async function attempt(work) {
  byId('busy').hidden = false;
  try {
    return await work();
  } catch (error) {
    say(error.message);
    return null;
  } finally {
    byId('busy').hidden = true;
  }
}

const settings = () => ({
  read_out: byId('read_out').value,
  size: byId('size').value ? Number(byId('size').value) : null,
  mode: byId('mode').value,
  background: byId('background').checked ? Number(byId('level').value) : null,
});
const request = () => ({ photo: page.photo && page.photo.key, words: page.words, settings: settings() });

function refresh() {
  clearTimeout(timer);
  // Here and not when the answer comes: it would wipe away what was said about a later photo or word.
  say('');
  // Words typed quickly, and a slider that moves, are one question.
  timer = setTimeout(() => attempt(async () => {
    drawChips();
    if (!page.photo) return draw();
    const number = ++asked;
    const view = await ask('/api/view', request());
    if (number !== asked) return null;  // a later question is on its way
    page.models = view.models;
    page.picked = null;
    return draw();
  }), 120);
}

function drawChips() {
  document.querySelector('[data-chips]').replaceChildren(...page.words.map((word) => {
    const remove = make('button', { type: 'button', textContent: '×', title: `remove ${word}` });
    remove.setAttribute('aria-label', `remove ${word}`);
    remove.addEventListener('click', () => {
      page.words = page.words.filter((other) => other !== word);
      refresh();
    });
    return make('span', { className: 'chip' }, word, remove);
  }));
}

function addWords(text) {
  const words = text.split(',').map((word) => word.trim().replace(/\s+/g, ' '));
  if (!words.some(Boolean)) return say('A word is empty: type at least one letter.');
  const next = [...new Set([...page.words, ...words.filter(Boolean)])];
  if (next.length > page.most) {
    return say(`${next.length} words are too many for one page: the most is ${page.most}.`);
  }
  page.words = next;
  byId('word').value = '';
  return refresh();
}

async function openPhoto(content) {
  say('');
  const photo = await attempt(() => ask('/api/photo', content));
  if (!photo) return;
  page.photo = photo;
  byId('chosen').src = photo.url;
  byId('chosen').hidden = false;
  showNotes(photo.notes);
  refresh();
}

function openFile(file) {
  if (!file) return say('There is no photo in what was dropped or pasted.');
  return openPhoto(file);
}

async function openWebcam() {
  if (!navigator.mediaDevices) return say('This browser gives no webcam to this page: open it as localhost.');
  try {
    byId('video').srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    byId('camera').hidden = false;
    return say('');
  } catch (error) {
    return say(`There is no webcam: ${error.message}.`);
  }
}

function closeWebcam() {
  const stream = byId('video').srcObject;
  if (stream) stream.getTracks().forEach((track) => track.stop());
  byId('camera').hidden = true;
}

function takePhoto() {
  const video = byId('video'), canvas = make('canvas', { width: video.videoWidth, height: video.videoHeight });
  if (!canvas.width) return say('The webcam has sent no picture yet: wait a moment.');
  canvas.getContext('2d').drawImage(video, 0, 0);
  closeWebcam();
  return canvas.toBlob((file) => openPhoto(file), 'image/jpeg', 0.92);
}

async function download(kind) {
  say('');
  const content = await attempt(() => ask('/api/download', { ...request(), kind }, true));
  if (!content) return;
  const link = make('a', { href: URL.createObjectURL(content), download: `maps.${kind}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

pickPatch = async (x, y) => {
  say('');
  const answer = await attempt(() => ask('/api/patch', { ...request(), x, y }));
  if (!answer) return;
  page.picked = answer.models;
  draw();
};

const searched = () => ({ folder: byId('folder').value, model: Number(byId('searcher').value) });

async function indexFolder() {
  say('');
  let state = await attempt(() => ask('/api/index', { ...searched(), start: true }));
  const [bar, text] = [byId('progress'), byId('indexed').querySelector('span')];
  const wanted = searched();
  const begin = Date.now();
  while (state) {
    bar.hidden = state.finished;
    bar.value = state.total ? state.done / state.total : 0;
    const left = state.done ? Math.round((Date.now() - begin) / 1000 * (state.total / state.done - 1)) : 0;
    text.textContent = state.problem ? '' : `${state.done} of ${state.total || '?'} photos` +
      (state.finished ? (state.num_bad ? `, ${state.num_bad} could not be read` : '') : `, about ${left} s left`);
    text.title = state.bad.join('\n');
    if (state.problem) say(state.problem);
    if (state.finished) return;
    await new Promise((resolve) => { setTimeout(resolve, 400); });
    state = await attempt(() => ask('/api/index', wanted));
  }
}

async function findPhotos() {
  say('');
  const answer = await attempt(() => ask('/api/search', { ...searched(), query: byId('query').value }));
  if (!answer) return;
  byId('found').replaceChildren(...answer.found.map((photo) => {
    const node = make('button', { type: 'button', title: photo.path },
      photo.url ? make('img', { src: photo.url, alt: photo.name }) : null,
      make('span', { textContent: `${decimals(photo.score)} ${photo.name}` }));
    node.addEventListener('click', () => { showTab('words'); openPhoto({ ...searched(), place: photo.place }); });
    return node;
  }));
}

async function start() {
  const state = await attempt(() => ask('/api/state', {}));
  if (!state) return;
  page.most = state.most_words;
  byId('models').textContent = state.models.map((model) => `${model.name} (${model.size} px, patches of ${model.patch})`).join(' and ');
  byId('read_out').replaceChildren(...state.read_outs.map((name) => make('option', { value: name, textContent: name })));
  const own = state.models[0].size, sizes = [1, 1.5, 2, 3].map((factor) => Math.round(factor * own));
  byId('size').replaceChildren(make('option', { value: '', textContent: "the model's own" }),
    ...sizes.filter((size) => size <= state.sizes[1]).map((size) => make('option', { value: size, textContent: `${size} px` })));
  byId('searcher').replaceChildren(...state.models.map((model, index) => make('option', { value: index, textContent: model.name })));
  byId('searcher').hidden = state.models.length === 1;
  document.querySelector('[data-tab=search]').hidden = !state.folders;
  byId('examples').replaceChildren(...state.examples.map((example, index) => {
    const node = make('button', { type: 'button', title: `example ${index + 1}` }, make('img', { src: example.url, alt: `example ${index + 1}` }));
    node.addEventListener('click', () => openPhoto({ example: example.key }));
    return node;
  }));
  draw();
}

byId('file').addEventListener('change', (event) => { openFile(event.target.files[0]); event.target.value = ''; });
byId('word').addEventListener('keydown', (event) => { if (event.key === 'Enter') addWords(event.target.value); });
for (const id of ['read_out', 'size', 'mode', 'background', 'level']) byId(id).addEventListener('change', refresh);
byId('level').addEventListener('input', () => {
  byId('share').textContent = `${Math.round(100 * byId('level').value)} %`;
  byId('background').checked = true;
});
document.querySelectorAll('[data-kind]').forEach((node) => node.addEventListener('click', () => download(node.dataset.kind)));
byId('webcam').addEventListener('click', openWebcam);
byId('leave').addEventListener('click', closeWebcam);
byId('take').addEventListener('click', takePhoto);
byId('index').addEventListener('click', indexFolder);
byId('find').addEventListener('click', findPhotos);
byId('query').addEventListener('keydown', (event) => { if (event.key === 'Enter') findPhotos(); });
document.addEventListener('dragover', (event) => { event.preventDefault(); byId('drop').classList.add('over'); });
document.addEventListener('dragleave', () => byId('drop').classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  byId('drop').classList.remove('over');
  openFile(event.dataTransfer.files[0]);
});
document.addEventListener('paste', (event) => {
  const file = [...event.clipboardData.files][0];
  if (file) openFile(file);
  else if (event.target.id !== 'word' && event.target.type !== 'text') say('There is no photo in what was pasted.');
});
start();
