// The browser's half of the live lab: controls that answer at once, and four canvases. All else comes from the kernel.
const LEAST = -2, MOST = 1; // powers of ten on a weight's slider; one notch below the least is 0
const NOTCH = 0.05;
const HELD = 3000; // points of a curve; beyond, every second one is dropped

const toWeight = (value) => (value < LEAST - NOTCH / 2 ? 0 : 10 ** value);
const toSlider = (weight) => (weight > 0 ? Math.max(Math.log10(weight), LEAST) : LEAST - NOTCH);
const short = (value) => (value === 0 ? "0" : value >= 10 ? value.toFixed(0) : value.toPrecision(2));
const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

function render({ model, el }) {
  const root = make("div", el, {}, "mtl-lab");
  let seen = 0, stamp = 0, heard = performance.now(), fixed = null, now = {}, points = [], trail = [], boxes = null, images = null;
  let painted = new Map(), closed = false; // painted: stamp of a change → when it was made
  let inSight = 0, dialShows = ""; // until when the page comes back to the lab; what the dial was drawn from

  // ---- controls
  const ask = make("div", root, {}, "ask");
  const bar = make("div", root, {}, "row");
  const button = (text, what, title) => {
    const made = make("button", bar, { textContent: text, title, type: "button" });
    made.addEventListener("click", () => send({ t: "do", what: typeof what === "string" ? what : what() }));
    return made;
  };
  const go = button("Start", () => (now.running ? "pause" : "start"), "train, or stop after this step");
  go.className = "go";
  button("Step", "step", "pause and train for one step");
  button("Reset", "reset", "begin anew with the same seed");
  button("New seed", "seed", "begin anew with the next seed");
  button("Replay", "replay", "begin anew, and change what you changed, at the same steps");
  const methodLabel = make("label", bar, { textContent: "method " });
  const method = make("select", methodLabel);
  method.addEventListener("change", () => set({ method: method.value }));
  const state = make("div", bar, {}, "state");
  const trouble = make("div", root, { role: "alert" }, "trouble");
  const sliderRow = make("div", root, {}, "row sliders");
  const sliders = {};

  function slider(key, name, low, high, notch, shown, className = "", live = true, parent = sliderRow) {
    const label = make("label", parent, {}, className);
    make("b", label, { textContent: name });
    const input = make("input", label, { type: "range", min: low, max: high, step: notch, ariaLabel: name });
    const output = make("output", label);
    const tell = () => {
      output.textContent = shown(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", tell);
    input.addEventListener(live ? "input" : "change", () => key(Number(input.value)));
    let heldUntil = 0;
    input.addEventListener("input", () => { heldUntil = performance.now() + 700; });
    return { input, show: (value) => { if (performance.now() > heldUntil) { input.value = value; tell(); } } };
  }

  const more = make("details", root);
  make("summary", more, { textContent: "the data" });
  const dataRow = make("div", more, {}, "row");
  const sceneLabel = make("label", dataRow, { textContent: "scene class " });
  const sceneClass = make("select", sceneLabel, { title: "texture competes with detection, count is related to it, random cannot be learned" });
  sceneClass.addEventListener("change", () => set({ data: { scene_class: sceneClass.value } }));
  const percent = (value) => `${Math.round(100 * value)} %`;
  const knobs = {};
  const missing = () => set({ data: { missing: { classify: Number(knobs.noClass.input.value), detect: Number(knobs.noBoxes.input.value) } } });
  knobs.noClass = slider(missing, "no class label", 0, 0.95, 0.05, percent, "classify", false, dataRow);
  knobs.noBoxes = slider(missing, "no boxes", 0, 0.95, 0.05, percent, "detect", false, dataRow);
  knobs.noise = slider((value) => set({ data: { label_noise: value } }), "wrong labels", 0, 0.9, 0.05, percent, "", false, dataRow);

  const pictures = make("div", root, {}, "pictures");
  const loss = make("canvas", make("div", pictures, {}, "loss"), { role: "img", ariaLabel: "loss of each task over the steps" });
  const scenes = make("canvas", make("div", pictures, {}, "scenes"), { role: "img", ariaLabel: "nine test scenes with true and predicted boxes" });
  const small = make("div", pictures, {}, "small");
  const dial = make("canvas", make("div", small), { role: "img" });
  const plane = make("canvas", make("div", small), { role: "img", ariaLabel: "trail of accuracy and average precision" });

  // ---- to the kernel
  const gone = "No answer from the kernel: it is busy, or it was stopped. Run the cell again if this stays.";
  function send(content) {
    try {
      model.send({ seen, ...content });
    } catch (error) { // the kernel was restarted
      trouble.textContent = gone;
    }
  }
  let waiting = null, lastSent = 0;
  function set(changes) {
    stamp += 1;
    painted.set(stamp, performance.timeOrigin + performance.now());
    root.dataset.asked = stamp;
    waiting = { changes: { ...(waiting ? waiting.changes : {}), ...changes }, stamp };
    const flush = () => {
      if (!waiting) return;
      send({ t: "set", ...waiting });
      waiting = null;
      lastSent = performance.now();
    };
    const early = 15 - (performance.now() - lastSent); // the newest wins: a drag gives more events than are useful
    if (early <= 0) flush();
    else setTimeout(flush, early);
  }

  // ---- from the kernel
  function addPoints(view) {
    const rows = floatsOf(view);
    for (let k = 0; k + 4 < rows.length; k += 5) {
      const [step, ...rest] = rows.subarray(k, k + 5);
      const last = points[points.length - 1];
      if (last && step <= last.step) continue;
      const smooth = [0, 1].map((t) => {
        const before = last ? last.smooth[t] : NaN, value = Math.log(Math.max(rest[t], 1e-6));
        if (Number.isNaN(rest[t])) return before;
        return Number.isNaN(before) ? value : before + Math.max(0.06, 1 / (points.length + 1)) * (value - before);
      });
      const changed = last && (rest[2] !== last.weights[0] || rest[3] !== last.weights[1]);
      points.push({ step, losses: [rest[0], rest[1]], weights: [rest[2], rest[3]], smooth, changed: changed || (last && last.method !== now.method), method: now.method });
    }
    if (points.length > HELD) points = points.filter((point, k) => point.changed || k % 2 === 0);
  }

  function heardFrom(content, buffers) {
    heard = performance.now();
    if (content.t === "refused") { trouble.textContent = content.why; return; }
    now = content;
    seen = content.n;
    if (content.t === "all") {
      if (content.inSight) inSight = performance.now() + 20000;
      fixed = content;
      points = [];
      trail = content.trail;
      const raw = bytesOf(buffers[2]), side = content.side;
      images = content.labels.map((_, k) => {
        const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
        const data = new ImageData(side, side);
        for (let p = 0; p < side * side; p++) data.data.set([...raw.subarray(3 * (k * side * side + p), 3 * (k * side * side + p) + 3), 255], 4 * p);
        canvas.getContext("2d").putImageData(data, 0, 0);
        return canvas;
      });
      setUp();
    } else if (!fixed) return; // a view that just came waits for everything
    addPoints(buffers[0]);
    if (buffers[1]) { boxes = bytesOf(buffers[1]); drawScenes(); }
    const scores = Object.values(content.scores);
    const last = trail[trail.length - 1];
    if (scores.length && content.t === "frame" && (!last || Math.abs(last[0] - scores[0]) + Math.abs(last[1] - scores[1]) > 5e-4)) trail.push(scores);
    if (trail.length > HELD) trail = trail.filter((_, k) => k % 2 === 0);
    showState();
    comeBack();
    drawLoss();
    drawDial();
    if (content.t === "all" || trail[trail.length - 1] !== last) drawPlane();
    if (content.stamp && painted.has(content.stamp) && (content.used || !content.running)) {
      const asked = painted.get(content.stamp);
      painted = new Map([...painted].filter(([k]) => k > content.stamp));
      requestAnimationFrame(() => { // what was drawn is about to be seen
        const at = performance.timeOrigin + performance.now();
        Object.assign(root.dataset, { answered: content.stamp, toWeight: (content.used - asked).toFixed(1), toPixels: (at - asked).toFixed(1) });
      });
    }
    root.dataset.frames = Number(root.dataset.frames || 0) + 1;
    if (buffers[1]) root.dataset.looks = Number(root.dataset.looks || 0) + 1;
  }

  function setUp() {
    ask.textContent = fixed.ask;
    if (!sliders.classify) {
      for (const task of fixed.tasks) {
        sliders[task] = slider((value) => set({ [task]: toWeight(value) }), task, LEAST - NOTCH, MOST, NOTCH, (value) => short(toWeight(value)), task);
      }
      sliders.rate = slider((value) => set({ rate: toWeight(value) }), "rate", LEAST - NOTCH, MOST, NOTCH, (value) => `× ${short(toWeight(value))}`);
      for (const name of fixed.methods) make("option", method, { value: name, textContent: name === "StaticWeights" ? "static weights" : name });
      for (const name of fixed.sceneClasses) make("option", sceneClass, { value: name, textContent: name });
    }
    drawScenes();
  }

  function showState() {
    go.textContent = now.running ? "❚❚ Pause" : "▶ Start";
    for (const task of fixed.tasks) sliders[task].show(toSlider(now.weights[task]));
    sliders.rate.show(toSlider(now.rate));
    if (document.activeElement !== method) method.value = now.method;
    if (document.activeElement !== sceneClass) sceneClass.value = now.data.scene_class;
    const lack = typeof now.data.missing === "object" ? now.data.missing : { classify: now.data.missing, detect: now.data.missing };
    knobs.noClass.show(lack.classify || 0);
    knobs.noBoxes.show(lack.detect || 0);
    if (typeof now.data.label_noise === "number") knobs.noise.show(now.data.label_noise);
    const off = fixed.tasks.every((task) => now.weights[task] === 0);
    trouble.textContent = now.error ? `${now.error}. Press Reset to begin anew.` : off ? "Every weight is 0: nothing is learned." : "";
    const speed = now.running && now.speed ? `${Math.round(now.speed * now.batch)} images/s, ${(1000 / now.speed).toFixed(0)} ms a step` : "";
    state.textContent = `seed ${now.seed}, step ${now.step}${speed && ", "}${speed}`;
    Object.assign(root.dataset, { step: now.step, running: now.running, error: now.error });
  }

  function comeBack() { // after "Run All" JupyterLab has gone to the end of the page
    if (performance.now() < inSight) root.scrollIntoView({ block: "nearest" });
  }
  const acts = ["wheel", "keydown", "pointerdown", "touchmove"], leave = () => { inSight = 0; };
  for (const act of acts) document.addEventListener(act, leave, { capture: true, passive: true });

  // ---- drawing
  let colours = {};
  const sizes = new Map(); // to ask the page in each frame would make it lay itself out again
  function draft(canvas) {
    const known = sizes.get(canvas.parentElement) || canvas.parentElement.getBoundingClientRect();
    const width = Math.max(known.width, 10), height = Math.max(known.height, 10);
    return { pen: pencil(canvas, width, height), width, height };
  }

  function trace(pen, places, colour, width, dash = []) {
    Object.assign(pen, { strokeStyle: colour, lineWidth: width });
    pen.setLineDash(dash);
    pen.beginPath();
    let down = false;
    for (const [x, y] of places) {
      if (Number.isFinite(y)) pen[down ? "lineTo" : "moveTo"](x, y);
      down = Number.isFinite(y);
    }
    pen.stroke();
    pen.setLineDash([]);
  }

  function drawLoss() {
    const { pen, width, height } = draft(loss);
    const left = 36, right = width - 92, top = 8, bottom = height - 20;
    const earlier = fixed.earlier.flatMap((run) => run.points);
    const last = Math.max(50, points.length ? points[points.length - 1].step : 0, ...earlier.map((row) => row[0]));
    let low = Math.log(0.3), high = Math.log(3);
    const stretch = (log) => {
      if (log < low) low = log;
      if (log > high) high = log;
    };
    for (const point of points) point.smooth.forEach(stretch);
    for (const row of earlier) if (row[1] > 0 && row[2] > 0) [row[1], row[2]].map(Math.log).forEach(stretch);
    low -= 0.15;
    high += 0.15;
    const toX = (step) => left + ((right - left) * step) / last, toY = (log) => bottom - ((bottom - top) * (log - low)) / (high - low);
    pen.fillStyle = colours.ink;
    pen.textAlign = "right";
    for (const tick of [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30]) {
      const y = toY(Math.log(tick));
      if (y < top || y > bottom) continue;
      line(pen, [left, y], [right, y], colours.faint, 0.5);
      pen.fillText(String(tick), left - 5, y + 4);
    }
    pen.textAlign = "center";
    const room = (last * 60) / (right - left), unit = 10 ** Math.floor(Math.log10(room)); // steps that a number takes
    const by = unit * [1, 2, 5, 10].find((k) => k * unit >= room);
    for (let step = 0; step <= last; step += by) pen.fillText(String(step), toX(step), height - 5);
    pen.save();
    pen.beginPath();
    pen.rect(left, top, right - left, bottom - top);
    pen.clip();
    for (const point of points) if (point.changed) line(pen, [toX(point.step), top], [toX(point.step), top + 9], colours.ink, 1);
    fixed.earlier.forEach((run, k) => [1, 2].forEach((t) => {
      pen.globalAlpha = 0.45;
      trace(pen, run.points.map((row) => [toX(row[0]), toY(Math.log(row[t] ?? NaN))]), colours.tasks[t - 1], 1, [2, 2 + k * 2]);
    }));
    const thin = Math.max(1, Math.floor(points.length / 700));
    const some = points.filter((_, k) => k % thin === 0 || k === points.length - 1);
    [0, 1].forEach((t) => {
      pen.globalAlpha = 0.25;
      trace(pen, some.map((point) => [toX(point.step), toY(Math.log(point.losses[t]))]), colours.tasks[t], 0.8);
      pen.globalAlpha = 1;
      trace(pen, some.map((point) => [toX(point.step), toY(point.smooth[t])]), colours.tasks[t], 2.2, t ? [7, 3] : []);
    });
    pen.restore();
    pen.textAlign = "left";
    const end = points[points.length - 1];
    if (end) {
      const at = end.smooth.map((log) => (Number.isFinite(log) ? toY(log) : top + 10));
      if (Math.abs(at[0] - at[1]) < 14) at[at[0] < at[1] ? 1 : 0] = Math.min(...at) + 14;
      fixed.tasks.forEach((task, t) => {
        pen.fillStyle = colours.tasks[t];
        pen.fillText(`${task} ${Math.exp(end.smooth[t]).toFixed(2)}`, right + 4, Math.min(at[t] + 4, bottom));
      });
    }
    pen.fillStyle = colours.ink;
    pen.fillText("loss", left + 4, top + 10);
  }

  function drawDial() {
    const shows = JSON.stringify([now.cosine, now.norms, now.weights]);
    if (shows === dialShows) return;
    dialShows = shows;
    const { pen, width, height } = draft(dial);
    if (width < 170) pen.font = "10px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillStyle = colours.ink;
    pen.fillText("pull on the shared encoder", width / 2, 12);
    if (now.cosine === null || now.cosine === undefined) return;
    const angle = Math.acos(Math.max(-1, Math.min(1, now.cosine))), x = width / 2, y = height - 54, reach = Math.min(height - 74, width * 0.42);
    const lengths = fixed.tasks.map((task) => now.norms[task] * now.weights[task]), longest = Math.max(...lengths, 1e-12);
    const ways = [[-Math.sin(angle / 2), -Math.cos(angle / 2)], [Math.sin(angle / 2), -Math.cos(angle / 2)]];
    const tip = (k) => ways[k].map((part) => (part * reach * lengths[k]) / longest);
    const sum = [0, 1].map((c) => tip(0)[c] + tip(1)[c]), size = Math.hypot(...sum), squeeze = Math.min(1, reach / Math.max(size, 1e-9));
    pen.globalAlpha = 0.5;
    arrow(pen, [x, y], sum.map((part) => part * squeeze), colours.ink, 6);
    pen.globalAlpha = 1;
    [0, 1].forEach((k) => arrow(pen, [x, y], tip(k), colours.tasks[k], 3.5));
    const degrees = Math.round((angle * 180) / Math.PI);
    const word = now.cosine < -0.1 ? "they pull against each other" : now.cosine > 0.1 ? "they pull together" : "they hardly touch";
    const ratio = lengths[0] / lengths[1], who = ratio > 1 ? 0 : 1, times = Math.max(ratio, 1 / ratio);
    pen.fillStyle = colours.ink;
    pen.fillText(`${degrees}°, cosine ${now.cosine.toFixed(2)}`, x, height - 34);
    pen.fillText(word, x, height - 19);
    if (Number.isFinite(times)) {
      pen.fillStyle = colours.tasks[who];
      pen.fillText(`${fixed.tasks[who]} pulls ${times >= 10 ? times.toFixed(0) : times.toFixed(1)} × as hard`, x, height - 4);
    }
    dial.ariaLabel = `angle between the gradients ${degrees} degrees, ${word}`;
  }

  function drawPlane() {
    const { pen, width, height } = draft(plane);
    const left = 34, right = width - 10, top = 18, bottom = height - 30;
    const toX = (v) => left + (right - left) * v, toY = (v) => bottom - (bottom - top) * v;
    pen.fillStyle = colours.ink;
    for (const tick of [0, 0.5, 1]) {
      line(pen, [toX(tick), top], [toX(tick), bottom], colours.faint, 0.5);
      line(pen, [left, toY(tick)], [right, toY(tick)], colours.faint, 0.5);
      pen.textAlign = "center";
      pen.fillText(String(tick), toX(tick), bottom + 13);
      pen.textAlign = "right";
      pen.fillText(String(tick), left - 4, toY(tick) + 4);
    }
    pen.textAlign = "left";
    pen.fillStyle = colours.tasks[1];
    pen.fillText("AP of detect", left, top - 6);
    pen.textAlign = "right";
    pen.fillStyle = colours.tasks[0];
    pen.fillText("accuracy of classify", right, height - 4);
    fixed.earlier.forEach((run, k) => {
      pen.globalAlpha = 0.5;
      trace(pen, run.trail.map(([a, b]) => [toX(a), toY(b)]), colours.ink, 1, [2, 2 + k * 2]);
      const end = run.trail[run.trail.length - 1];
      pen.fillStyle = colours.ink;
      if (end) pen.fillText(`${k + 1} (${run.name})`, Math.max(toX(end[0]), left + 90), toY(end[1]) - 4);
    });
    pen.globalAlpha = 1;
    trace(pen, trail.map(([a, b]) => [toX(a), toY(b)]), colours.ink, 1.5);
    trail.forEach(([a, b], k) => {
      pen.globalAlpha = k === trail.length - 1 ? 1 : 0.4;
      pen.fillStyle = "#009e73";
      pen.beginPath();
      pen.arc(toX(a), toY(b), k === trail.length - 1 ? 6 : 2.5, 0, 7);
      pen.fill();
    });
    pen.globalAlpha = 1;
  }

  function drawScenes() {
    const { pen, width, height } = draft(scenes);
    if (!fixed || !images) return;
    const side = Math.min((width - 8) / 3, (height - 58) / 3), step = side + 4, scale = side / fixed.side, label = 16;
    pen.imageSmoothingEnabled = false;
    pen.textAlign = "left";
    const corner = (k) => [(k % 3) * step, Math.floor(k / 3) * (side + label + 3) + label];
    images.forEach((image, k) => pen.drawImage(image, ...corner(k), side, side));
    const rectangle = (k, [x0, y0, x1, y1], colour, dash, thick) => {
      const [x, y] = corner(k);
      Object.assign(pen, { strokeStyle: colour, lineWidth: thick });
      pen.setLineDash(dash);
      pen.strokeRect(x + x0 * scale, y + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
      pen.setLineDash([]);
    };
    for (const [k, x0, y0, x1, y1] of fixed.truth) rectangle(k, [x0, y0, x1, y1], "#e69f00", [3, 3], 1.4);
    if (!boxes) return;
    const count = images.length;
    for (let k = 0; k < count; k++) {
      const guess = boxes[2 * k], sure = boxes[2 * k + 1] / 255, right = guess === fixed.labels[k];
      pen.fillStyle = right ? "#009e73" : colours.tasks[1];
      const [x, y] = corner(k);
      pen.fillText(`${right ? "✓" : "✗"} ${fixed.classes[guess] ?? "-"} ${sure.toFixed(2).replace("0.", ".")}`, x, y - 4, side);
    }
    for (let at = 2 * count; at + 6 < boxes.length; at += 7) {
      const [k, x0, y0, x1, y1, digit, score] = boxes.subarray(at, at + 7);
      const box = [x0, y0, x1, y1].map((v) => (v * fixed.side) / 255), [x, y] = corner(k);
      rectangle(k, box, "#56b4e9", [], 1.8);
      const text = `${digit} ${(score / 255).toFixed(1).replace("0.", ".")}`;
      pen.fillStyle = "rgba(0,0,0,.65)";
      const wide = pen.measureText(text).width + 4, high = Math.max(y, y + box[1] * scale - 13);
      pen.fillRect(x + box[0] * scale, high, wide, 13);
      pen.fillStyle = "#fff";
      pen.fillText(text, x + box[0] * scale + 2, high + 10.5);
    }
  }

  function drawAll(changes) {
    for (const { target, contentRect } of changes) if (contentRect) sizes.set(target, contentRect);
    if (!fixed || closed) return;
    colours = findColours(root);
    dialShows = "";
    drawLoss();
    drawDial();
    drawPlane();
    drawScenes();
  }

  // ---- life
  model.on("msg:custom", heardFrom);
  colours = findColours(root);
  const heart = setInterval(() => {
    send({ t: "beat" });
    if (performance.now() - heard > 4000) trouble.textContent = gone;
  }, 1000);
  const end = onChange(root, drawAll);
  send({ t: "hello" });
  return () => {
    closed = true;
    clearInterval(heart);
    end();
    for (const act of acts) document.removeEventListener(act, leave, { capture: true });
    model.off("msg:custom", heardFrom);
  };
}

export default { render };
