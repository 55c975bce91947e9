// The script of the page: it sends choices and pictures to the server, and shows the state that the
// server sends by server-sent events.

const $ = id => document.getElementById(id);
const MASK_SIDE = 1024; // px, longer side of a mask
const KEEP = "mask_keep.png", PARTS = ["mask_1.png", "mask_2.png", "mask_3.png"];
const INPUTS = ["strength", "colors", "size", "quality", "recipe", "style_scale", "realism", "steps"];
const COLOURS = {
  "": "As the recipe says", style: "Of the painting", content: "Of the photo, recoloured before",
  luminance: "Of the photo, only light is painted", "content-after": "Of the photo, put over the result",
  palette: "Exactly those of the painting",
};

let about, state = {pictures: [], run: null}, shown = "instant", instant = null, instantNumber = 0, previousState = "";
let choice = {photo: null, kind: "paintings", styles: {}, named: {}, keep: 1, regions: {}, init: null};

// --- Asking the server -----------------------------------------------------------------------------

const LOST = "The connection to nst-jax is lost. Is it still running?";

async function ask(path, options = {}) {
  let response;
  try { response = await fetch(path, options); }
  catch { throw new Error(LOST); }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.error ?? `The server answered ${response.status}.`);
  return found;
}
const post = (path, body) => ask(path, {method: "POST", body: body && JSON.stringify(body)});

let complaint = ""; // the message that is shown
function problem(text) {
  complaint = text;
  $("problem").hidden = !text;
  $("problem").textContent = text ? sentence(text) : "";
}
const sentence = text => text[0].toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");

// What the visitor does clears the message shown. Work that the page begins by itself clears only its own.
const trying = work => async (...given) => {
  problem("");
  try { return await work(...given); } catch (error) { problem(error.message); }
};
function automatic(work) {
  let own = "";
  return async (...given) => {
    if (own && own === complaint) problem("");
    try { await work(...given); } catch (error) { own = error.message; problem(own); }
  };
}
const announce = text => { if ($("live").textContent !== text) $("live").textContent = text; };

// --- What is chosen --------------------------------------------------------------------------------

const picture = name => state.pictures.find(one => one.name === name);
const ofRole = role => state.pictures.filter(one => one.role === role);
const chosenStyles = () => Object.entries(choice.kind === "gallery" ? choice.named : choice.styles);
const viewOf = name => `/pictures/${encodeURIComponent(name)}?v=${picture(name)?.version ?? 0}`;

// Return the mask with this name if it was brushed over the chosen photo; it fits no other one.
function maskOf(name) {
  const mask = picture(name), photo = picture(choice.photo);
  return photo && mask?.over === photo.version ? mask : undefined;
}

// Choose a photo, or none if `name` is null. The masks of the photo before stay on the server, for another tab
// may show that photo, and the visitor may come back to it.
function choosePhoto(name) {
  if (name === choice.photo) return;
  if (brushed && picture(choice.photo)) keepMaskByItself(); // the last stroke may not be sent yet
  choice.photo = name;
  endBrush();
  gallerySource = "";
  renderGallery();
}

// Choose others in place of pictures that are gone. Return whether the instant picture has to be painted again.
function replaceMissing() {
  const chosen = () => JSON.stringify([choice.photo, chosenStyles()]), before = chosen();
  if (!picture(choice.photo)) choosePhoto(ofRole("photo")[0]?.name ?? null);
  if (brushed && picture(choice.photo)?.version !== brushedOver) endBrush(); // another photo has this name now
  for (const name of Object.keys(choice.styles)) if (!picture(name)) delete choice.styles[name];
  if (!Object.keys(choice.styles).length && ofRole("painting").length) choice.styles[ofRole("painting")[0].name] = 0.5;
  for (const mask of PARTS) {
    if (!choice.regions[mask] || picture(choice.regions[mask])) continue;
    delete choice.regions[mask];
    if (ofRole("painting").length) choice.regions[mask] = anotherPainting();
  }
  return chosen() !== before;
}

// Return a painting for a part of the photo: one that is not the style of the rest, if there is one.
const anotherPainting = () => (ofRole("painting").find(one => !(one.name in choice.styles)) ?? ofRole("painting")[0])?.name;

function settings() {
  const found = {photo: choice.photo, styles: chosenStyles()};
  for (const id of INPUTS) {
    const value = $(id).value;
    if (value !== "") found[id] = ["colors", "quality", "recipe"].includes(id) ? value : Number(value);
  }
  if ($("quality").disabled) delete found.quality;
  if (choice.init && picture(choice.init)) found.init = choice.init;
  if (maskOf(KEEP)) found.protect = [KEEP, choice.keep];
  found.regions = PARTS.filter(mask => maskOf(mask) && picture(choice.regions[mask])).map(mask => [mask, choice.regions[mask]]);
  return found;
}

// Browsers give a number field the value "" if it has text that is no number, so its value is not enough here.
function checkUpdates() {
  const field = $("steps");
  if (field.checkValidity()) return;
  const wrong = field.value && `, not ${field.value}`;
  throw new Error(`Updates: enter a whole number from ${field.min} to ${field.max}${wrong}, or leave it empty`);
}

function remember() {
  const values = Object.fromEntries(INPUTS.map(id => [id, $(id).value]));
  try { localStorage.setItem("choice", JSON.stringify({choice, values})); } catch { /* Some browsers store nothing in private windows. */ }
}

function recall() {
  try {
    const found = JSON.parse(localStorage.getItem("choice"));
    if (!found) return;
    choice = {...choice, ...found.choice};
    for (const id of INPUTS) if (id in found.values) $(id).value = found.values[id];
  } catch { /* Nothing can be read from the storage, so the choice stays as it is. */ }
}

// Time in ms for which a slider must not move before its value is used. A click takes effect at once.
const REST = 200;
let soon;
function changed(alsoInstant = true, showing = true, wait = 0) {
  remember();
  render();
  if (!alsoInstant) return;
  clearTimeout(soon);
  soon = setTimeout(paintByItself, wait, showing);
}

// --- The instant picture ---------------------------------------------------------------------------

let instantSaid = "";
const sayOfInstant = text => { instantSaid = text; renderRunning(); };

async function paintInstant(showing) {
  if (!choice.photo || !chosenStyles().length) {
    instantNumber += 1; // the answer to an earlier request is not shown
    instant = null;
    sayOfInstant("");
    render();
    return;
  }
  if (showing && !busy()) show("instant");
  const number = ++instantNumber;
  $("after").setAttribute("aria-busy", "true");
  sayOfInstant("Painting an instant picture …");
  const {photo, styles, strength, size, colors, realism, protect} = settings();
  const asked = {settings: {photo, styles, strength, size, colors, realism, protect}};
  try {
    // A provisional picture comes at once, while the server compiles the programs for the real one.
    let found = await post("/instant", {...asked, provisional: true});
    if (found.provisional && number === instantNumber) {
      showInstant(found);
      $("after").removeAttribute("aria-busy");
      found = {...await post("/instant", asked), seconds: found.seconds};
    }
    if (found.superseded && number === instantNumber) sayOfInstant(""); // the newer request came from another tab
    if (found.superseded || number !== instantNumber) return;
    showInstant(found);
  } catch (error) {
    sayOfInstant("");
    throw error;
  } finally { $("after").removeAttribute("aria-busy"); }
}

const paintByItself = automatic(paintInstant);

function showInstant(found) {
  instant = found;
  sayOfInstant(`Instant picture, in ${found.seconds.toFixed(1)} s.`);
  if (!busy()) announce("The instant picture is there.");
  render();
}

// --- Runs ------------------------------------------------------------------------------------------

const ended = () => ["stopped", "done", "failed"].includes(state.run?.state);
const busy = () => ["waiting", "painting", "pausing"].includes(state.run?.state);
let saidOnce = "";
const say = text => { saidOnce = text; renderRunning(); };

let preparing = false; // whether the page has asked for a run and has no answer yet
const paint = trying(async () => {
  if (preparing) return;
  checkUpdates();
  preparing = true;
  clearTimeout(soon);
  say("Preparing …");
  try {
    receive(await post("/run", {settings: settings(), keep: $("keep").checked}));
    choice.init = null;
    remember();
    show("run");
  } finally { saidOnce = ""; preparing = false; render(); }
});

const change = what => trying(async () => receive(await post(`/run/${what}`)));

const runPicture = step => `/run/${state.run.id}/${step}.png`;
// Number of updates of the earlier picture that is chosen; null follows the newest. It is not the picture's
// place in the list, since the server deletes some of the pictures between the first and the last.
let earlierChosen = null;
function earlierStep() {
  const steps = state.run?.pictures ?? [];
  return steps[Number($("earlier").value)];
}
const isNewest = () => earlierChosen === null;

// The run itself goes back, and paints on from there with the choices with which it began.
const undo = trying(async () => {
  const step = earlierStep();
  receive(await post(`/run/back/${step}`));
  announce(`Back at the picture after ${updates(step)}. Go on paints on from it.`);
  focusWhenShown("go-on");
});

// The run ends. Its picture becomes the start of another run, with the choices made since.
const startFrom = trying(async () => {
  const step = earlierStep();
  const {name} = await post(`/run/start/${step}`); // this comes first, since the server may refuse it
  if (!ended()) receive(await post("/run/stop"));
  choice.init = name;
  remember();
  announce(`The next painting starts from the picture after ${updates(step)}.`);
  render();
  focusWhenShown("paint");
});

// A run that is told to end or pause does so a little later, and only then is the next button shown. The
// button gets the focus, unless the visitor has moved the focus meanwhile.
let awaited = null;
function focusWhenShown(id) {
  awaited = {id, from: document.activeElement};
  focusAwaited();
}
function focusAwaited() {
  if (!awaited || $(awaited.id).hidden) return;
  const {id, from} = awaited;
  awaited = null;
  if ([document.body, from].includes(document.activeElement)) $(id).focus({preventScroll: true});
}

// Return whether the choices differ from those with which the run began; the run keeps its own.
function differs() {
  const plain = chosen => JSON.stringify(Object.entries({...chosen, init: undefined}).sort());
  return Boolean(state.settings) && plain(state.settings) !== plain(settings());
}

// --- Showing the state -----------------------------------------------------------------------------

function show(what) {
  if (shown !== what) earlierChosen = null;
  shown = what;
  render();
}

// The previous picture stays visible until the new one is loaded.
function setSource(image, source) {
  if (image.dataset.source === source) return;
  image.dataset.source = source;
  if (!source) { image.removeAttribute("src"); return; }
  const next = new Image();
  next.onload = next.onerror = () => { if (image.dataset.source === source) image.src = source; };
  next.src = source;
}

// Keep the slider of earlier pictures at the chosen picture. If that is deleted, choose the one before it.
function follow() {
  const steps = state.run?.pictures ?? [], last = Math.max(0, steps.length - 1);
  let index = last;
  if (earlierChosen !== null) {
    index = steps.filter(step => step <= earlierChosen).length - 1;
    if (index < 0) index = last;
    earlierChosen = index < last ? steps[index] : null;
  }
  $("earlier").max = String(last);
  $("earlier").value = String(index);
}

function render() {
  if (!about) return;
  follow();
  const run = state.run, hasRun = Boolean(run?.pictures.length);
  const view = shown === "run" && hasRun ? "run" : "instant";
  $("show-instant").setAttribute("aria-pressed", String(view === "instant"));
  $("show-run").setAttribute("aria-pressed", String(view === "run"));
  $("show-run").disabled = !hasRun;
  const photo = picture(choice.photo);
  let source = "", alt = "";
  if (brushed) { source = photo ? viewOf(choice.photo) : ""; alt = "The photo"; }
  else if (view === "run") { const step = earlierStep() ?? run.pictures.at(-1); source = runPicture(step); alt = `The painting after ${updates(step)}`; }
  else if (instant) { source = instant.picture; alt = "The instant picture"; }
  else if (photo) { source = viewOf(choice.photo); alt = "The photo"; }
  setSource($("after"), source);
  $("after").alt = alt;
  $("after").hidden = !source;
  $("blank").hidden = Boolean(source);
  const compare = Number($("compare").value);
  const comparing = Boolean(photo && compare && !brushed && source);
  $("before").hidden = $("seam").hidden = !comparing;
  if (comparing) {
    setSource($("before"), viewOf(choice.photo));
    $("before").style.clipPath = `inset(0 ${100 - compare}% 0 0)`;
    $("seam").style.left = `${compare}%`;
  }
  $("views").hidden = Boolean(brushed);
  $("brushing").hidden = !brushed;
  $("brush").hidden = !brushed;
  renderRunning();
  renderHome(view);
  renderShelves();
  renderParts();
}

function renderRunning() {
  const run = state.run, active = busy(), paused = run?.state === "paused";
  const painting = active && run.state !== "waiting";
  let text = saidOnce || instantSaid;
  if (!saidOnce && run && (active || shown === "run")) {
    const at = `${run.step} of ${run.total} updates`;
    text = {
      waiting: run.place ? `Waiting: ${run.place} ${run.place === 1 ? "painting is" : "paintings are"} before yours` : "Your turn comes",
      painting: run.stage ? capital(run.stage) : at,
      pausing: "Ending this stroke …",
      paused: `Paused at ${at}${run.why ? `, since ${run.why}` : ""}`,
      stopped: `Stopped at ${at}`, done: `Finished: ${run.total} updates`, failed: `It failed: ${run.why}`,
    }[run.state];
  }
  $("running").hidden = !text;
  $("said").textContent = text ?? "";
  $("left").textContent = painting ? run.left : "";
  $("progress").hidden = !(active || paused);
  if (active && !run.total) $("progress").removeAttribute("value");
  else if (run) { $("progress").max = run.total || 1; $("progress").value = run.step; }
  $("warning").hidden = !run?.warning || shown !== "run" || Boolean(saidOnce);
  $("warning").textContent = run?.warning ? `${capital(run.warning)}.` : "";
  const shares = Object.entries(run?.shares ?? {}).filter(([, share]) => share >= 0.005);
  $("losses").hidden = !shares.length || shown !== "run" || Boolean(saidOnce);
  const words = {content: "content", style: "style", tv: "smoothness", matting: "edges"};
  $("losses").textContent = "What is still different: " + shares.map(([name, share]) => `${words[name]} ${Math.round(100 * share)} %`).join(", ");
  const notes = run?.notes ?? [];
  $("run-notes").hidden = !notes.length || shown !== "run" || Boolean(brushed);
  $("run-notes").textContent = notes.map(note => `Note: ${note}.`).join(" ");
  $("paint").hidden = active || paused || Boolean(brushed);
  $("paint").textContent = choice.init && picture(choice.init) ? "Paint on from here" : run ? "Paint again" : "Paint";
  const named = choice.kind === "gallery";
  $("paint").disabled = preparing || named || !choice.photo || !chosenStyles().length;
  $("pause").hidden = !active || Boolean(brushed);
  $("go-on").hidden = !paused || Boolean(brushed);
  $("stop").hidden = !(active || paused) || Boolean(brushed);
  $("keeping").hidden = !active;
  const starts = Boolean(choice.init && picture(choice.init)) && !active && !paused;
  $("starting").hidden = !starts || Boolean(brushed);
  $("starting-words").textContent = starts ? `It starts from the picture after ${updates(Number(choice.init.match(/\d+(?=\.png$)/)))}, with the choices of now.` : "";
  $("other-choices").hidden = !((active || paused) && shown === "run" && differs()) || Boolean(brushed);
  if (run) $("keep").checked = run.keep;
  focusAwaited();
}
const updates = count => `${count} ${count === 1 ? "update" : "updates"}`;
const capital = text => text[0].toUpperCase() + text.slice(1);

function renderHome(view) {
  const run = state.run, steps = run?.pictures ?? [];
  $("history").hidden = view !== "run" || steps.length < 2 || Boolean(brushed);
  const step = view === "run" ? earlierStep() ?? steps.at(-1) : null;
  if (view === "run") {
    $("earlier-said").textContent = `After ${updates(step)}`;
    $("earlier").setAttribute("aria-valuetext", `after ${updates(step)}`);
    $("undo").hidden = isNewest();
    $("start-from").hidden = run.state === "waiting" || choice.init && picture(choice.init) && ended();
  }
  const there = view === "run" ? step !== null : Boolean(instant) && !instant.provisional;
  $("home").hidden = $("typed").hidden = !there || Boolean(brushed);
  if (!there) return;
  if (view === "run") {
    $("download").href = `${runPicture(step)}?download`;
    $("download").download = `painted_after_${step}.png`;
    $("archive").href = `/run/${run.id}/${step}.zip`;
  } else {
    $("download").href = `${instant.picture}?download`;
    $("download").download = "instant.png";
  }
  $("archive").hidden = view !== "run";
  $("films").hidden = view !== "run" || busy();
  for (const link of $("films").children) link.href = `/run/${run?.id}/film.${link.dataset.kind}`;
  showCommand(view, step);
}

let commandOf = "";
async function showCommand(view, step) {
  if (view === "instant") {
    commandOf = "";
    $("command").textContent = instant.command;
    $("where").textContent = "";
    $("start-note").hidden = true;
    return;
  }
  const wanted = `${state.run.id}/${step}/${state.run.state}`;
  if (commandOf === wanted) return;
  commandOf = wanted;
  const found = await ask(`/run/${state.run.id}/${step}/command`).catch(() => null);
  if (found && commandOf === wanted) {
    $("command").textContent = [found.start, found.command].filter(Boolean).join("\n");
    $("where").textContent = found.where;
    $("start-note").hidden = !found.start_note;
    $("start-note").textContent = found.start_note;
  }
}

// Browsers offer `navigator.clipboard` only to pages of this machine or over HTTPS, and may refuse to write.
async function copyCommand() {
  const text = $("command");
  try { await navigator.clipboard.writeText(text.textContent); }
  catch {
    getSelection().selectAllChildren(text);
    if (!document.execCommand("copy")) throw new Error("The browser did not copy the command. It is selected now: press Ctrl+C, or ⌘C on a Mac.");
  }
  announce("Copied.");
}

// --- Photos and paintings to choose from -----------------------------------------------------------

const shelves = {};
function renderShelves() {
  renderShelf("photos", "photo", "photo", name => choice.photo === name, name => {
    choosePhoto(name);
    changed();
  });
  renderShelf("paintings", "painting", "painting", name => name in choice.styles, name => toggle(choice.styles, name));
  $("paintings").hidden = choice.kind !== "paintings";
  $("gallery").hidden = choice.kind !== "gallery";
  $("of-paintings").setAttribute("aria-pressed", String(choice.kind === "paintings"));
  $("of-gallery").setAttribute("aria-pressed", String(choice.kind === "gallery"));
  $("style-note").textContent = choice.kind === "gallery"
    ? "These styles are painted in a moment only. Choose a painting to paint for longer."
    : "Choose one, or several to mix.";
  $("photo-notes").textContent = notesOf([choice.photo]);
  $("painting-notes").textContent = choice.kind === "paintings" ? notesOf(Object.keys(choice.styles)) : "";
  renderShares();
  const qualities = about.recipes.find(one => one.name === $("recipe").value)?.quality;
  $("quality").disabled = !qualities;
}

// Return what was converted or left out when these pictures were read.
const notesOf = names => names.map(picture).filter(one => one?.notes.length).map(one => `${one.name}: ${one.notes.join("; ")}.`).join(" ");

function toggle(styles, name) {
  if (name in styles) { if (Object.keys(styles).length > 1) delete styles[name]; }
  else if (Object.keys(styles).length < about.most_styles) styles[name] = 0.5;
  changed();
}

function renderShelf(id, role, word, isChosen, choose) {
  const shelf = $(id), names = ofRole(role).map(one => one.name);
  const samples = about.samples.filter(name => (name === "chelsea") === (role === "photo") && !ofRole(role).some(one => one.sample === name));
  const key = JSON.stringify([names, samples]);
  if (shelves[id] !== key) {
    shelves[id] = key;
    const tiles = names.map(name => {
      const holder = document.createElement("div"), tile = document.createElement("button"), image = new Image();
      holder.className = "holder";
      tile.className = "tile";
      tile.type = "button";
      tile.dataset.name = name;
      tile.dataset.control = `choose ${name}`;
      image.src = viewOf(name);
      image.alt = name;
      tile.append(image);
      tile.onclick = trying(() => choose(name));
      const away = document.createElement("button");
      away.type = "button";
      away.className = "away";
      away.dataset.control = `remove ${name}`;
      away.textContent = "×";
      away.setAttribute("aria-label", `Remove ${name}`);
      away.onclick = trying(async () => {
        await ask(`/pictures/${encodeURIComponent(name)}`, {method: "DELETE"});
        state.pictures = state.pictures.filter(one => one.name !== name);
        changed(replaceMissing());
      });
      holder.append(tile, away);
      return holder;
    });
    for (const name of samples) {
      const tile = document.createElement("button");
      tile.type = "button";
      tile.className = "tile add";
      tile.dataset.control = `sample ${name}`;
      tile.textContent = `Sample: ${name.replace("_", " ")}`;
      tile.onclick = trying(async () => {
        choose((await addSample(name, role)).name);
      });
      tiles.push(tile);
    }
    const adding = $("adding").content.cloneNode(true);
    adding.querySelector(".words").textContent = `Add a ${word}`;
    const input = adding.querySelector("input");
    input.multiple = role === "painting";
    input.dataset.role = role;
    input.dataset.control = "add";
    input.onchange = trying(async () => {
      // Without a reset, the browser would not tell the page that the same file is chosen once more.
      try { await addFiles([...input.files], role); } finally { input.value = ""; }
    });
    const focusAgain = focusKept(shelf, names);
    shelf.replaceChildren(...tiles, adding);
    focusAgain();
  }
  for (const tile of shelf.querySelectorAll("[data-name]")) tile.setAttribute("aria-pressed", String(isChosen(tile.dataset.name)));
}

// Return a function that gives the focus back after the shelf's controls are made again: to the same control, or
// to the tile of a new picture, or to the tile next to a removed one, or to the control that adds a picture.
function focusKept(shelf, names) {
  const focused = document.activeElement;
  if (!shelf.contains(focused)) return () => {};
  const tiles = () => [...shelf.querySelectorAll("[data-name]")], before = tiles().map(tile => tile.dataset.name);
  const control = focused.dataset.control, added = names.find(name => !before.includes(name));
  const index = before.findIndex(name => !names.includes(name));
  return () => {
    const same = [...shelf.querySelectorAll("[data-control]")].find(one => one.dataset.control === control);
    const tile = tiles().find(one => one.dataset.name === added) ?? tiles()[Math.min(index, tiles().length - 1)];
    (same ?? tile ?? shelf.querySelector("input")).focus({preventScroll: true});
  };
}

async function addSample(name, role) {
  const picture = await post(`/samples/${name}?role=${role}`);
  keepPicture(picture);
  return picture;
}

// Add all files that the server takes, and then say why it refused the others. Paintings that are added together
// are chosen in place of those before, as many as can be mixed.
async function addFiles(files, role) {
  const refusals = new Set(), styles = {};
  for (const file of files) await addFile(file, role, styles).catch(error => refusals.add(sentence(error.message)));
  if (refusals.size) throw new Error([...refusals].join(" "));
}

async function addFile(file, role, styles) {
  if (file.size > about.most_bytes) throw new Error(`${file.name} is larger than ${about.most_bytes / 1e6} MB; reduce it with another program first.`);
  say(`Sending ${file.name} …`);
  try {
    const found = await ask(`/pictures?role=${role}&name=${encodeURIComponent(file.name)}`, {method: "POST", body: file});
    keepPicture(found);
    if (role === "photo") choosePhoto(found.name);
    else {
      if (Object.keys(styles).length < about.most_styles) styles[found.name] = 0.5;
      choice.kind = "paintings";
      choice.styles = {...styles};
    }
    announce(`${found.name} is there.`);
  } finally { say(""); }
  changed();
}

// Add a picture to the state at once. The server's next event contains it too, but comes a moment later.
function keepPicture(found) {
  state.pictures = [...state.pictures.filter(one => one.name !== found.name), found];
}

for (const [id, role] of [["photos", "photo"], ["paintings", "painting"], ["frame", "photo"]]) {
  const place = $(id);
  place.addEventListener("dragover", event => { event.preventDefault(); place.classList.add("dropping"); });
  place.addEventListener("dragleave", () => place.classList.remove("dropping"));
  place.addEventListener("drop", trying(async event => {
    event.preventDefault();
    place.classList.remove("dropping");
    await addFiles([...event.dataTransfer.files], role);
  }));
}

function renderShares() {
  const styles = choice.kind === "gallery" ? choice.named : choice.styles, names = Object.keys(styles);
  const total = names.reduce((sum, name) => sum + styles[name], 0) || 1;
  const key = JSON.stringify([choice.kind, names]);
  if (shelves.shares !== key) {
    shelves.shares = key;
    $("shares").replaceChildren(...(names.length < 2 ? [] : names.map(name => {
      const row = document.createElement("label"), chip = document.createElement("span"), slider = document.createElement("input"), percent = document.createElement("output");
      row.className = "share";
      chip.className = "chip";
      if (choice.kind === "gallery") chip.textContent = name; else chip.style.backgroundImage = `url("${viewOf(name)}")`;
      Object.assign(slider, {type: "range", min: 0, max: 1, step: 0.05, value: styles[name]});
      slider.setAttribute("aria-label", `Share of ${name}`);
      slider.oninput = () => { (choice.kind === "gallery" ? choice.named : choice.styles)[name] = Number(slider.value); changed(true, true, REST); };
      row.dataset.style = name;
      row.append(chip, slider, percent);
      return row;
    })));
  }
  for (const row of $("shares").children) row.querySelector("output").textContent = `${Math.round(100 * styles[row.dataset.style] / total)} %`;
}

// --- The gallery -----------------------------------------------------------------------------------

let gallerySource = "";
function renderGallery() {
  if (choice.kind !== "gallery" || !choice.photo) return;
  const source = `/gallery/${encodeURIComponent(choice.photo)}?v=${picture(choice.photo)?.version ?? 0}`;
  if (!$("gallery").children.length)
    $("gallery").replaceChildren(...about.styles.map(({name, look}) => {
      const tile = document.createElement("button"), word = document.createElement("span");
      Object.assign(tile, {type: "button", className: "tile", title: look});
      tile.dataset.name = name;
      tile.setAttribute("aria-label", `${name}: ${look}`);
      word.textContent = name;
      tile.append(word);
      tile.onclick = trying(() => toggle(choice.named, name));
      return tile;
    }));
  for (const tile of $("gallery").children) tile.setAttribute("aria-pressed", String(tile.dataset.name in choice.named));
  if (source === gallerySource) return;
  gallerySource = source;
  const sheet = new Image();
  sheet.onload = () => {
    const count = about.styles.length, wide = sheet.naturalWidth / count, high = sheet.naturalHeight;
    [...$("gallery").children].forEach((tile, index) => {
      const box = tile.clientWidth || 80, scale = Math.max(box / wide, box / high);
      tile.style.backgroundImage = `url("${source}")`;
      tile.style.backgroundSize = `${sheet.naturalWidth * scale}px ${high * scale}px`;
      tile.style.backgroundPosition = `${-index * wide * scale - (wide * scale - box) / 2}px ${-(high * scale - box) / 2}px`;
    });
  };
  sheet.src = source;
}

// --- Masks -----------------------------------------------------------------------------------------

let brushed = null, brushedOver = 0; // the mask that is brushed, and the version of the photo below it
let strokes = [], erasing = false, last = null, finger = null, sending;
const canvas = $("brush"), pen = canvas.getContext("2d", {willReadFrequently: true});
const where = {x: 0.5, y: 0.5}; // position of the brush, as shares of the canvas's width and height

function renderParts() {
  const rows = [KEEP, ...PARTS];
  const paintings = ofRole("painting").map(one => one.name);
  const key = JSON.stringify([rows.map(mask => Boolean(maskOf(mask))), paintings, choice.regions, choice.keep, brushed, Boolean(choice.photo)]);
  if (shelves.parts === key || (shelves.parts && $("parts").contains(document.activeElement) && document.activeElement.type === "range")) return;
  shelves.parts = key;
  const used = PARTS.filter(mask => maskOf(mask) || mask === brushed);
  const shownRows = [KEEP, ...used];
  const next = PARTS.find(mask => !used.includes(mask));
  $("parts").replaceChildren(...shownRows.map(mask => {
    const row = document.createElement("div"), name = document.createElement("span"), edit = document.createElement("button");
    row.className = "part";
    name.textContent = mask === KEEP ? "Keep a part as it is" : `Another style for part ${PARTS.indexOf(mask) + 1}`;
    edit.type = "button";
    edit.textContent = maskOf(mask) ? "Change" : "Brush";
    edit.setAttribute("aria-label", `${edit.textContent}: ${name.textContent}`);
    edit.dataset.mask = mask;
    edit.disabled = !choice.photo;
    edit.onclick = trying(() => beginBrush(mask));
    row.append(name, edit);
    if (mask === KEEP && maskOf(mask)) {
      const ends = document.createElement("label"), slider = document.createElement("input");
      ends.className = "ends";
      Object.assign(slider, {type: "range", min: 0.1, max: 1, step: 0.1, value: choice.keep});
      slider.setAttribute("aria-label", "How much of it is kept");
      slider.oninput = () => { choice.keep = Number(slider.value); changed(true, false, REST); };
      ends.append("a little", slider, "all");
      row.append(ends);
    }
    if (mask !== KEEP) {
      const select = document.createElement("select");
      select.setAttribute("aria-label", `Style of part ${PARTS.indexOf(mask) + 1}`);
      select.append(...paintings.map(one => new Option(one, one)));
      choice.regions[mask] ??= anotherPainting();
      select.value = choice.regions[mask];
      select.onchange = () => { choice.regions[mask] = select.value; remember(); };
      row.append(select);
    }
    return row;
  }));
  if (next) {
    const more = document.createElement("button");
    more.type = "button";
    more.id = "more-parts";
    more.textContent = "Another style for a part";
    more.disabled = !choice.photo || !paintings.length;
    more.onclick = trying(() => {
      if (!picture(next)) choice.regions[next] = anotherPainting(); // else it is a part of another photo
      return beginBrush(next);
    });
    $("parts").append(more);
  }
}

// The canvas and `brushed` change together, and only once the mask is loaded. Before that, another call would
// take the empty canvas for a mask without strokes.
let brushing = 0; // a number that grows whenever the visitor begins or ends to brush
async function beginBrush(mask) {
  const number = ++brushing, {version, size: [width, height]} = picture(choice.photo);
  if (brushed) await finishBrush();
  const image = new Image();
  if (maskOf(mask)) {
    image.src = viewOf(mask);
    await image.decode();
  }
  if (number !== brushing || picture(choice.photo)?.version !== version) return; // the visitor chose something else
  const scale = Math.min(1, MASK_SIDE / Math.max(width, height));
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  strokes = [];
  brushed = mask;
  brushedOver = version;
  erasing = false;
  if (image.src) {
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set([...colour(), pixels.data[at]], at);
    pen.putImageData(pixels, 0, 0);
  }
  $("brush-what").textContent = mask === KEEP ? "Brush over what stays as it is" : "Brush over the part";
  render();
  canvas.focus({preventScroll: true});
  $("frame").scrollIntoView({block: "nearest"});
}
const colour = () => brushed === KEEP ? [220, 70, 40] : [40, 110, 220];

// Draw a stroke from `from` to (x, y), or a dot without `from`; positions are shares of the canvas.
function dab(x, y, from = null) {
  pen.globalCompositeOperation = erasing ? "destination-out" : "source-over";
  pen.strokeStyle = `rgb(${colour()})`;
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = brushSize();
  pen.beginPath();
  pen.moveTo((from?.x ?? x) * canvas.width, (from?.y ?? y) * canvas.height);
  pen.lineTo(x * canvas.width + (from ? 0 : 0.01), y * canvas.height); // a stroke of length 0 would leave no dot
  pen.stroke();
}
const brushSize = () => Number($("brush-size").value) * Math.max(canvas.width, canvas.height) / 1000;

function moveCursor() {
  const box = canvas.getBoundingClientRect(), size = brushSize() * box.width / canvas.width;
  Object.assign($("cursor").style, {left: `${where.x * 100}%`, top: `${where.y * 100}%`, width: `${size}px`, height: `${size}px`});
  $("cursor").hidden = !brushed;
}
function positionOf(event) {
  const box = canvas.getBoundingClientRect();
  return {x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height};
}
const snapshot = () => { strokes.push(pen.getImageData(0, 0, canvas.width, canvas.height)); strokes = strokes.slice(-12); };

// A stroke belongs to one pointer, `finger`. Other fingers and other buttons of the mouse paint nothing.
canvas.onpointerdown = event => {
  if (finger !== null || event.button !== 0) return;
  finger = event.pointerId;
  canvas.setPointerCapture(event.pointerId);
  snapshot();
  last = positionOf(event);
  dab(last.x, last.y);
};
canvas.onpointermove = event => {
  if (finger !== null && event.pointerId !== finger) return;
  Object.assign(where, positionOf(event));
  moveCursor();
  if (!last) return;
  dab(where.x, where.y, last);
  last = {...where};
};
canvas.onpointerup = canvas.onpointercancel = event => {
  if (event.pointerId !== finger) return;
  last = finger = null;
  keepMaskSoon();
};
canvas.onkeydown = event => {
  const step = brushSize() / 2, moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  if (event.key in moves) {
    const [dx, dy] = moves[event.key];
    where.x = Math.min(1, Math.max(0, where.x + dx * step / canvas.width));
    where.y = Math.min(1, Math.max(0, where.y + dy * step / canvas.height));
  } else if (event.key === " ") { snapshot(); dab(where.x, where.y); keepMaskSoon(); }
  else if (event.key === "+" || event.key === "-") $("brush-size").value = Number($("brush-size").value) + (event.key === "+" ? 8 : -8);
  else if (event.key === "Escape") { $("brush-done").click(); return; }
  else return;
  event.preventDefault();
  moveCursor();
};
canvas.onfocus = moveCursor;

function keepMaskSoon() {
  clearTimeout(sending);
  sending = setTimeout(keepMaskByItself, 500);
}
const keepMaskByItself = automatic(() => keepMask(brushed));

async function keepMask(mask) {
  clearTimeout(sending);
  if (!mask) return;
  const paper = document.createElement("canvas"), {width, height} = canvas;
  Object.assign(paper, {width, height});
  const pixels = pen.getImageData(0, 0, width, height);
  let painted = 0;
  for (let at = 0; at < pixels.data.length; at += 4) {
    const inside = pixels.data[at + 3];
    painted = Math.max(painted, inside);
    pixels.data.set([inside, inside, inside, 255], at);
  }
  if (painted < 128) { forgetMask(mask); return; }
  paper.getContext("2d").putImageData(pixels, 0, 0);
  const over = brushedOver, blob = await new Promise(done => paper.toBlob(done, "image/png"));
  if (!state.pictures.some(one => one.version === over)) return; // the photo was removed meanwhile
  keepPicture(await ask(`/pictures?role=mask&name=${mask}&over=${over}`, {method: "POST", body: blob}));
}

const forgotten = new Set(); // versions of deleted masks, which events that were sent before still contain
function forgetMask(mask) {
  if (!maskOf(mask)) return;
  forgotten.add(maskOf(mask).version);
  state.pictures = state.pictures.filter(one => one.name !== mask);
  ask(`/pictures/${mask}`, {method: "DELETE"}).catch(() => {});
}

function erase(value) {
  erasing = value;
  $("brush-add").setAttribute("aria-pressed", String(!value));
  $("brush-erase").setAttribute("aria-pressed", String(value));
}
$("brush-add").onclick = () => erase(false);
$("brush-erase").onclick = () => erase(true);
$("brush-undo").onclick = () => { const before = strokes.pop(); if (before) { pen.putImageData(before, 0, 0); keepMaskSoon(); } };
$("brush-clear").onclick = () => { snapshot(); pen.clearRect(0, 0, canvas.width, canvas.height); keepMaskSoon(); };
$("brush-size").oninput = moveCursor;
// Send the mask, unless nothing is brushed, and then end brushing. The instant picture keeps one of the parts.
async function finishBrush() {
  const mask = brushed;
  await keepMask(mask);
  if (mask !== KEEP && !picture(mask)) delete choice.regions[mask];
  if (brushed === mask) endBrush();
  changed(mask === KEEP);
}
function endBrush() {
  clearTimeout(sending);
  brushed = last = finger = null;
  $("cursor").hidden = true;
}
$("brush-done").onclick = trying(async () => {
  brushing += 1;
  await finishBrush();
});

// --- What the server sends -------------------------------------------------------------------------

let begun = false; // whether the page has made its first choices; before that it paints no instant picture
function receive(received) {
  const before = state;
  state = {...received, pictures: received.pictures.filter(one => !forgotten.has(one.version))};
  const run = received.run;
  if (run && before.run?.id !== run.id) { commandOf = ""; earlierChosen = null; if (busy() || run.pictures.length) shown = "run"; }
  if (run && run.state !== previousState) {
    previousState = run.state;
    announce({waiting: "The painting waits for its turn.", painting: "Painting.", paused: "Paused.", stopped: "Stopped.",
              done: `The painting is finished. ${run.warning}`, failed: `The painting failed: ${run.why}`}[run.state] ?? "");
  } else if (run?.state === "painting" && run.total && run.step) announce(`${Math.floor(4 * run.step / run.total) * 25} percent painted.`);
  if (replaceMissing() && begun) changed(true, false);
  else render();
}

function listen() {
  const events = new EventSource("/events");
  let first = true;
  const told = async event => {
    receive(JSON.parse(event.data));
    if (!first) return;
    first = false;
    try {
      if (!state.pictures.length) {
        choosePhoto((await addSample("chelsea", "photo")).name);
        choice.styles = {[(await addSample("starry_night", "painting")).name]: 0.5};
      }
    } finally { begun = true; }
    if (choice.kind === "gallery") renderGallery();
    changed(true, !state.run); // if there is a run, as after a reload, the run stays in view
  };
  // Not `trying`, which would wipe the message of an earlier error, several times a second.
  events.onmessage = event => told(event).catch(error => problem(error.message));
  events.onerror = async () => {
    if (events.readyState !== EventSource.CLOSED) {
      problem(`${LOST} This page tries again.`);
      return;
    }
    // Refused, and the browser does not say why: there are too many tabs, or nst-jax does not know this page.
    await ask("/about").then(
      () => problem("This page is not kept up to date; close some of its tabs and reload it."),
      error => problem(error.message));
  };
  events.onopen = () => { if (complaint.startsWith(LOST)) problem(""); };
}

// --- Start of the page -----------------------------------------------------------------------------

function fill() {
  $("recipe").append(...about.recipes.map(one => new Option(`${one.name} (${one.updates})`, one.name)));
  $("colors").append(...["", ...about.colors].map(name => new Option(COLOURS[name] ?? name, name)));
  $("size").append(...[[128, "128 px, a sketch"], [256, "256 px, small"], ["", "512 px, as usual"], [768, "768 px, large"], [1024, "1024 px, very large"]].map(([value, words]) => new Option(words, value)));
  $("size").value = "";
  for (const kind of about.films) {
    const link = document.createElement("a");
    Object.assign(link, {className: "button", textContent: `Film (${kind.toUpperCase()})`, download: `painting.${kind}`});
    link.dataset.kind = kind;
    $("films").append(link);
  }
}

$("after").onload = () => $("frame").style.setProperty("--ratio", $("after").naturalWidth / $("after").naturalHeight);
$("show-instant").onclick = () => show("instant");
$("show-run").onclick = () => show("run");
$("compare").oninput = render;
$("earlier").oninput = () => { earlierChosen = earlierStep() ?? null; render(); };
$("paint").onclick = paint;
$("pause").onclick = change("pause");
$("go-on").onclick = change("go_on");
$("stop").onclick = change("stop");
$("keep").onchange = () => change($("keep").checked ? "keep" : "unkeep")();
$("undo").onclick = undo;
$("start-from").onclick = startFrom;
$("no-start").onclick = () => { choice.init = null; remember(); render(); };
$("copy").onclick = trying(copyCommand);
$("of-paintings").onclick = () => { choice.kind = "paintings"; changed(); };
$("of-gallery").onclick = () => { choice.kind = "gallery"; if (!Object.keys(choice.named).length) choice.named = {waves: 0.5}; changed(); renderGallery(); };
for (const id of INPUTS) $(id).addEventListener("input", () => changed(["strength", "size", "colors", "realism"].includes(id), true, ["strength", "realism"].includes(id) ? REST : 0));
$("steps").addEventListener("change", trying(checkUpdates));
$("gallery").addEventListener("click", () => renderGallery());
addEventListener("resize", () => { gallerySource = ""; renderGallery(); if (brushed) moveCursor(); });

trying(async () => {
  about = await ask("/about");
  fill();
  recall();
  listen();
})();
