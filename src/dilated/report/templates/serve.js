"use strict";
const settings = JSON.parse(document.getElementById("settings").textContent);
const get = id => document.getElementById(id);
const DRAWN_PIXELS = 4e6;      // more are drawn in a coarser raster; the probe reads all
const PROBED_PIXELS = 6e6;     // of larger images the server is asked for labels alone
const images = [];             // {name, file, bitmap, views: {network: view}}
let current = null, probe = null, stream = null, hiddenClasses = new Set();

function say(text) { get("status").textContent = text; }
function fail(text, hint) {
  const error = get("error");
  error.hidden = !text;
  error.textContent = text ? text + (hint ? ` (${hint})` : "") : "";
  if (text) document.querySelector("main").dataset.state = "failed";
}
function headers() {
  const token = get("token") && get("token").value;
  return token ? {Authorization: `Bearer ${token}`} : {};
}
async function ask(file, query) {
  let answer;
  try {
    answer = await fetch(`predict?${new URLSearchParams(query)}`, {
      method: "POST", body: file, headers: {...headers(), "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream"},
    });
  } catch {
    throw {error: "the server cannot be reached", hint: "is it still running?"};
  }
  if (!answer.ok) throw {status: answer.status, ...await answer.json()};
  return answer;
}

// A view is a line of JSON, then planes in row order: labels, `top` ids, and `top` probabilities in 255ths.
function readView(buffer) {
  const bytes = new Uint8Array(buffer), end = bytes.indexOf(10);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const count = head.width * head.height, wide = head.label_bytes === 2;
  const ids = (start, length) => wide ? new Uint16Array(buffer.slice(start, start + 2 * length)) : bytes.subarray(start, start + length);
  let place = end + 1;
  const labels = ids(place, count);
  place += count * head.label_bytes;
  const topIds = ids(place, count * head.top);
  place += count * head.top * head.label_bytes;
  return {...head, labels, topIds, topValues: bytes.subarray(place, place + count * head.top)};
}
async function label(image, network) {
  if (image.views[network]) return image.views[network];
  const known = settings.networks.find(n => n.name === network);
  const large = image.bitmap && image.bitmap.width * image.bitmap.height > PROBED_PIXELS;
  let top = known.probabilities && !large ? settings.top : 0, answer;
  try {
    answer = await ask(image.file, {output: "view", network, top});
  } catch (problem) {
    if (problem.status !== 413 || top === 0) throw problem;
    top = 0;  // there may be memory for labels
    answer = await ask(image.file, {output: "view", network, top});
  }
  return image.views[network] = readView(await answer.arrayBuffer());
}

async function add(files) {
  const list = [...files];
  if (!list.length) return;
  for (const file of list) {
    const image = {name: file.name || "image", file, bitmap: null, views: {}};
    try { image.bitmap = await createImageBitmap(file); } catch { /* a format that this browser does not show */ }
    images.push(image);
  }
  drawThumbs();
  await show(images[images.length - list.length]);
}
function drawThumbs() {
  const strip = get("strip");
  strip.hidden = images.length < 2;
  strip.replaceChildren(...images.map(image => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = image.name;
    button.setAttribute("aria-pressed", String(image === current));
    button.onclick = () => show(image);
    return button;
  }));
}
async function show(image) {
  const main = document.querySelector("main");
  current = image;
  probe = null;
  drawThumbs();
  fail("");
  main.dataset.state = "busy";
  say(`${image.name}: is being labelled`);
  const started = performance.now();
  try {
    const first = await label(image, get("first").value);
    const second = get("second").value ? await label(image, get("second").value) : null;
    if (current !== image) return;
    get("drop").hidden = true;
    get("shown").hidden = get("side").hidden = false;
    get("divider-row").hidden = get("differ").hidden = !second;
    if (second) tellDifference(first, second);
    const time = `${first.width} × ${first.height} pixels, ${((performance.now() - started) / 1000).toFixed(2)} s`;
    const notes = [first.top || !settings.networks.find(n => n.name === first.network).probabilities ? "" : "too large for probabilities of each pixel",
      image.bitmap ? "" : "this browser does not show its format: labels alone"].filter(Boolean);
    say([`${image.name}: ${time}`, ...notes].join("; "));
    drawClasses();
    draw();
    tellProbe();
    main.dataset.state = "done";
  } catch (problem) {
    if (!problem.error) console.error(problem);
    say(`${image.name}: was not labelled`);
    fail(problem.error || String(problem), problem.hint);
  }
}
function shownViews() {
  return [get("first").value, get("second").value].filter(Boolean).map(name => current.views[name]).filter(Boolean);
}
function tellDifference(first, second) {
  if (first.classes.map(c => c.name).join("\n") !== second.classes.map(c => c.name).join("\n")) {
    get("differ").textContent = "The two networks have different classes.";
    return;
  }
  let count = 0;
  for (let i = 0; i < first.labels.length; i++) count += first.labels[i] !== second.labels[i];
  get("differ").textContent = `Labels differ at ${percent(count / first.labels.length)} of the pixels.`;
}
function percent(share) { return share ? `${(100 * share).toFixed(share < 0.0995 ? 2 : 1)}%` : "0%"; }

// The legend: the classes of the first network, the most frequent first; names are text, never markup.
function drawClasses() {
  const [first, second] = shownViews(), focused = document.activeElement && document.activeElement.dataset.name;
  const others = second ? new Map(second.classes.map(c => [c.name, c])) : new Map();
  const named = new Map([...first.classes.map(c => [c.name, c]), ...[...others].filter(([name]) => !first.classes.some(c => c.name === name))]);
  const shares = new Map(first.classes.map(c => [c.name, c.fraction]));
  const rows = [...named.values()].sort((a, b) => (shares.get(b.name) || 0) - (shares.get(a.name) || 0));
  get("classes").replaceChildren(...rows.map(entry => {
    const item = document.createElement("li"), row = document.createElement("label"), box = document.createElement("input");
    const swatch = document.createElement("span"), name = document.createElement("span"), share = document.createElement("span");
    box.type = "checkbox";
    box.checked = !hiddenClasses.has(entry.name);
    box.dataset.name = entry.name;
    box.onchange = () => { hiddenClasses[box.checked ? "delete" : "add"](entry.name); draw(); };
    swatch.className = "swatch";
    swatch.style.background = `rgb(${entry.color.join(",")})`;
    name.textContent = entry.name;
    share.className = "share";
    const part = shares.get(entry.name) || 0, other = others.get(entry.name);
    const shown = [shares.has(entry.name) ? percent(part) : "–"];  // a network that lacks the class has no share of it
    if (second) shown.push(other ? percent(other.fraction) : "–");
    share.textContent = shown.join(" | ");
    if (!part && !(other && other.fraction)) row.className = "absent";
    row.append(box, swatch, name, share);
    item.append(row);
    return item;
  }));
  const again = [...get("classes").querySelectorAll("input")].find(box => box.dataset.name === focused);
  if (again) again.focus();
}

function tint(view, step, width, height) {
  const palette = new Uint32Array(65536), pixels = new Uint32Array(width * height);
  for (const {id, name, color: [r, g, b]} of view.classes)
    if (!hiddenClasses.has(name)) palette[id] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  for (let y = 0; y < height; y++)
    for (let x = 0, from = Math.min(view.height - 1, y * step) * view.width; x < width; x++)
      pixels[y * width + x] = palette[view.labels[from + Math.min(view.width - 1, x * step)]];
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
  return canvas;
}
function draw() {
  const views = shownViews();
  if (!views.length) return;
  const [view, other] = views, step = Math.max(1, Math.ceil(Math.sqrt(view.width * view.height / DRAWN_PIXELS)));
  const width = Math.ceil(view.width / step), height = Math.ceil(view.height / step), canvas = get("canvas");
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const context = canvas.getContext("2d"), opacity = get("opacity").value / 100, cut = Math.round(width * get("divider").value / 100);
  context.globalAlpha = 1;
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  if (current.bitmap) context.drawImage(current.bitmap, 0, 0, width, height);
  context.globalAlpha = current.bitmap ? opacity : 1;
  const scale = Math.max(1, width / 640);
  if (other) {
    if (cut > 0) context.drawImage(tint(view, step, width, height), 0, 0, cut, height, 0, 0, cut, height);
    if (cut < width) context.drawImage(tint(other, step, width, height), cut, 0, width - cut, height, cut, 0, width - cut, height);
    context.globalAlpha = 1;
    context.fillStyle = "#000";
    context.fillRect(cut - 2 * scale, 0, 4 * scale, height);
    context.fillStyle = "#fff";
    context.fillRect(cut - scale, 0, 2 * scale, height);
  } else context.drawImage(tint(view, step, width, height), 0, 0);
  context.globalAlpha = 1;
  if (probe) {
    const x = probe.x / step + 0.5, y = probe.y / step + 0.5;
    for (const [color, line] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = line * scale;
      context.beginPath();
      context.arc(x, y, 6 * scale, 0, 7);
      context.stroke();
    }
  }
}
function tellProbe() {
  const box = get("probe");
  if (!probe) { box.textContent = "Point at a pixel, tap it, or move by the arrow keys."; return; }
  const lines = [Object.assign(document.createElement("div"), {textContent: `Column ${probe.x}, row ${probe.y}`})];
  const views = shownViews();
  for (const view of views) {
    if (views.length > 1) lines.push(Object.assign(document.createElement("strong"), {textContent: view.network}));
    const place = probe.y * view.width + probe.x, count = view.width * view.height, id = view.labels[place];
    const name = number => number < view.classes.length ? view.classes[number].name : "no label";
    if (!view.top) lines.push(Object.assign(document.createElement("div"), {textContent: name(id)}));
    for (let k = 0; k < view.top; k++) {
      const row = document.createElement("div"), title = document.createElement("span"), bar = document.createElement("span");
      const number = document.createElement("span"), inner = document.createElement("i"), value = view.topValues[k * count + place] / 255;
      row.className = "row";
      title.textContent = name(view.topIds[k * count + place]);
      bar.className = "bar";
      inner.style.width = `${100 * value}%`;
      bar.append(inner);
      number.className = "number";
      number.textContent = `${Math.round(100 * value)}%`;  // known to a 255th
      row.append(title, bar, number);
      lines.push(row);
    }
  }
  box.replaceChildren(...lines);
}
function moveProbe(x, y) {
  const [view] = shownViews();
  if (!view) return;
  probe = {x: Math.max(0, Math.min(view.width - 1, Math.floor(x))), y: Math.max(0, Math.min(view.height - 1, Math.floor(y)))};
  draw();
  tellProbe();
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
const DOWNLOADS = [["Labels", "labels", ".png"], ["Color", "color", ".color.png"], ["Overlay", "overlay", ".overlay.jpg"], ["JSON", "json", ".json"],
  ["GeoJSON", "geojson", ".geojson"], ["COCO", "coco", ".coco.json"], ["Everything", "labels,color,overlay,json,geojson,coco", ".zip"]];
get("downloads").append(...DOWNLOADS.map(([title, output, suffix]) => {
  const button = Object.assign(document.createElement("button"), {type: "button", textContent: title});
  button.onclick = async () => {
    button.disabled = true;
    fail("");
    try {
      const answer = await ask(current.file, {output, network: get("first").value});
      save(await answer.blob(), current.name.replace(/\.[^.]*$/, "") + suffix);
    } catch (problem) { fail(problem.error || String(problem), problem.hint); }
    button.disabled = false;
    button.focus();
  };
  return button;
}));

async function startCamera() {
  fail("");
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}, audio: false});
  } catch (problem) {
    fail("the camera cannot be used", navigator.mediaDevices ? problem.message : "browsers allow it only on localhost or over https; choose a photo instead");
    return;
  }
  get("video").srcObject = stream;
  await get("video").play();
  get("live").hidden = false;
  get("drop").hidden = true;
  get("shoot").focus();
}
function stopCamera() {
  if (stream) stream.getTracks().forEach(track => track.stop());
  stream = null;
  get("live").hidden = true;
  get("drop").hidden = Boolean(current);
}
get("camera").onclick = startCamera;
get("stop").onclick = stopCamera;
get("shoot").onclick = () => {
  const video = get("video"), canvas = Object.assign(document.createElement("canvas"), {width: video.videoWidth, height: video.videoHeight});
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(blob => { stopCamera(); add([new File([blob], `camera-${images.length + 1}.png`, {type: "image/png"})]); }, "image/png");
};
async function useSample() {
  fail("");
  try {
    const answer = await fetch("sample");
    await add([new File([await answer.blob()], "sample.jpg", {type: "image/jpeg"})]);
  } catch { fail("the server cannot be reached", "is it still running?"); }
}
get("sample").onclick = useSample;
if (get("token")) get("token-form").onsubmit = event => { event.preventDefault(); if (current) show(current); };
get("files").onchange = event => { add(event.target.files); event.target.value = ""; };
document.addEventListener("paste", event => add([...event.clipboardData.files].filter(file => file.type.startsWith("image/"))));
document.addEventListener("dragover", event => { event.preventDefault(); get("stage").classList.add("over"); });
document.addEventListener("dragleave", event => { if (!event.relatedTarget) get("stage").classList.remove("over"); });
document.addEventListener("drop", event => { event.preventDefault(); get("stage").classList.remove("over"); add(event.dataTransfer.files); });
for (const name of ["opacity", "divider"])
  get(name).oninput = () => { get(`${name}-value`).textContent = `${get(name).value}%`; draw(); };
get("all").onclick = () => { hiddenClasses.clear(); drawClasses(); draw(); };
get("none").onclick = () => { shownViews().forEach(view => view.classes.forEach(c => hiddenClasses.add(c.name))); drawClasses(); draw(); };
const point = event => {
  const box = get("canvas").getBoundingClientRect(), [view] = shownViews();
  if (view) moveProbe((event.clientX - box.left) / box.width * view.width, (event.clientY - box.top) / box.height * view.height);
};
get("canvas").addEventListener("pointermove", event => { if (event.pointerType === "mouse") point(event); });
get("canvas").addEventListener("pointerdown", point);
get("canvas").addEventListener("keydown", event => {
  const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}, [view] = shownViews();
  if (!moves[event.key] || !view) return;
  event.preventDefault();
  const step = event.shiftKey ? 10 : 1, start = probe || {x: view.width >> 1, y: view.height >> 1};
  moveProbe(start.x + step * moves[event.key][0], start.y + step * moves[event.key][1]);
});
for (const [id, empty] of [["first", false], ["second", true]]) {
  const select = get(id);
  if (empty) select.append(new Option("nothing", ""));
  select.append(...settings.networks.map(network => new Option(network.name, network.name)));
  select.onchange = () => current && show(current);
}
if (settings.networks.length > 1) get("second").value = settings.networks[1].name;
if (location.hash === "#try") useSample();
