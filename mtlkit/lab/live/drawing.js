// What the live lab draws, one canvas a function. `shown` holds what came from the kernel.
const DASHES = [[], [7, 3], [2, 3], [10, 3, 2, 3], [4, 6], [1, 2]]; // of the tasks' curves: colour is not the only cue

function painter(canvases, shown) {
  const { loss, samples, dial, plane } = canvases;
  let dialShows = ""; // what the dial was drawn from
  const sizes = new Map(); // to ask the page in each frame would make it lay itself out again
  function draft(canvas) {
    const known = sizes.get(canvas.parentElement) || canvas.parentElement.getBoundingClientRect();
    const width = Math.max(known.width, 10), height = Math.max(known.height, 10);
    return { pen: pencil(canvas, width, height), width, height };
  }

  const hue = (task) => shown.colours.tasks[task % shown.colours.tasks.length];

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
    const earlier = shown.fixed.earlier.flatMap((run) => run.points);
    const last = Math.max(50, shown.points.length ? shown.points[shown.points.length - 1].step : 0, ...earlier.map((row) => row[0]));
    let low = Math.log(0.3), high = Math.log(3);
    const stretch = (log) => {
      if (log < low) low = log;
      if (log > high) high = log;
    };
    for (const point of shown.points) point.smooth.forEach(stretch);
    for (const row of earlier) row.slice(1).filter((loss) => loss > 0).map(Math.log).forEach(stretch);
    low -= 0.15;
    high += 0.15;
    const toX = (step) => left + ((right - left) * step) / last, toY = (log) => bottom - ((bottom - top) * (log - low)) / (high - low);
    pen.fillStyle = shown.colours.ink;
    pen.textAlign = "right";
    for (const tick of [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30]) {
      const y = toY(Math.log(tick));
      if (y < top || y > bottom) continue;
      line(pen, [left, y], [right, y], shown.colours.faint, 0.5);
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
    for (const point of shown.points) if (point.changed) line(pen, [toX(point.step), top], [toX(point.step), top + 9], shown.colours.ink, 1);
    shown.fixed.earlier.forEach((run, k) => shown.fixed.tasks.forEach((_, t) => {
      pen.globalAlpha = 0.45;
      trace(pen, run.points.map((row) => [toX(row[0]), toY(Math.log(row[t + 1] ?? NaN))]), hue(t), 1, [2, 2 + k * 2]);
    }));
    const thin = Math.max(1, Math.floor(shown.points.length / 700));
    const some = shown.points.filter((_, k) => k % thin === 0 || k === shown.points.length - 1);
    shown.fixed.tasks.forEach((_, t) => {
      pen.globalAlpha = 0.25;
      trace(pen, some.map((point) => [toX(point.step), toY(Math.log(point.losses[t]))]), hue(t), 0.8);
      pen.globalAlpha = 1;
      trace(pen, some.map((point) => [toX(point.step), toY(point.smooth[t])]), hue(t), 2.2, DASHES[t % DASHES.length]);
    });
    pen.restore();
    pen.textAlign = "left";
    const end = shown.points[shown.points.length - 1];
    if (end) {
      const at = end.smooth.map((log) => (Number.isFinite(log) ? toY(log) : top + 10));
      const order = shown.fixed.tasks.map((_, t) => t).sort((a, b) => at[a] - at[b]);
      order.forEach((t, k) => { if (k) at[t] = Math.max(at[t], at[order[k - 1]] + 14); });
      const over = Math.max(0, at[order[order.length - 1]] + 4 - bottom);
      for (const t of order) {
        pen.fillStyle = hue(t);
        pen.fillText(`${shown.fixed.tasks[t]} ${Math.exp(end.smooth[t]).toFixed(2)}`, right + 4, at[t] + 4 - over, width - right - 4);
      }
    }
    pen.fillStyle = shown.colours.ink;
    pen.fillText("loss", left + 4, top + 10);
  }

  function drawDial() {
    const shows = JSON.stringify([shown.now.cosine, shown.now.norms, shown.now.weights]);
    if (shows === dialShows) return;
    dialShows = shows;
    const { pen, width, height } = draft(dial);
    if (width < 170) pen.font = "10px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillStyle = shown.colours.ink;
    pen.fillText("pull on the shared encoder", width / 2, 12);
    if (shown.now.cosine === null || shown.now.cosine === undefined) return;
    if (shown.fixed.tasks.length !== 2) { drawPulls(pen, width, height); return; }
    const angle = Math.acos(Math.max(-1, Math.min(1, shown.now.cosine))), x = width / 2, y = height - 54, reach = Math.min(height - 74, width * 0.42);
    const lengths = shown.fixed.tasks.map((task) => shown.now.norms[task] * shown.now.weights[task]), longest = Math.max(...lengths, 1e-12);
    const ways = [[-Math.sin(angle / 2), -Math.cos(angle / 2)], [Math.sin(angle / 2), -Math.cos(angle / 2)]];
    const tip = (k) => ways[k].map((part) => (part * reach * lengths[k]) / longest);
    const sum = [0, 1].map((c) => tip(0)[c] + tip(1)[c]), size = Math.hypot(...sum), squeeze = Math.min(1, reach / Math.max(size, 1e-9));
    pen.globalAlpha = 0.5;
    arrow(pen, [x, y], sum.map((part) => part * squeeze), shown.colours.ink, 6);
    pen.globalAlpha = 1;
    [0, 1].forEach((k) => arrow(pen, [x, y], tip(k), shown.colours.tasks[k], 3.5));
    const degrees = Math.round((angle * 180) / Math.PI);
    const word = shown.now.cosine < -0.1 ? "they pull against each other" : shown.now.cosine > 0.1 ? "they pull together" : "they hardly touch";
    const ratio = lengths[0] / lengths[1], who = ratio > 1 ? 0 : 1, times = Math.max(ratio, 1 / ratio);
    pen.fillStyle = shown.colours.ink;
    pen.fillText(`${degrees}°, cosine ${shown.now.cosine.toFixed(2)}`, x, height - 34);
    pen.fillText(word, x, height - 19);
    if (Number.isFinite(times)) {
      pen.fillStyle = shown.colours.tasks[who];
      pen.fillText(`${shown.fixed.tasks[who]} pulls ${times >= 10 ? times.toFixed(0) : times.toFixed(1)} × as hard`, x, height - 4);
    }
    dial.ariaLabel = `angle between the gradients ${degrees} degrees, ${word}`;
  }

  function drawPulls(pen, width, height) { // more than two arrows do not fit into a plane
    const lengths = shown.fixed.tasks.map((task) => shown.now.norms[task] * shown.now.weights[task]), longest = Math.max(...lengths, 1e-12);
    const step = Math.min(22, (height - 40) / shown.fixed.tasks.length), left = Math.min(90, width * 0.4);
    lengths.forEach((length, t) => {
      const y = 24 + t * step;
      pen.fillStyle = hue(t);
      pen.textAlign = "right";
      pen.fillText(shown.fixed.tasks[t], left - 6, y + step * 0.6, left - 8);
      pen.fillRect(left, y + 2, ((width - left - 8) * length) / longest, step - 6);
    });
    pen.fillStyle = shown.colours.ink;
    pen.textAlign = "center";
    if (shown.fixed.tasks.length > 1) pen.fillText(`mean cosine ${shown.now.cosine.toFixed(2)}`, width / 2, height - 4);
    dial.ariaLabel = `length of each task's weighted gradient: ${shown.fixed.tasks.map((task, t) => `${task} ${lengths[t].toFixed(2)}`).join(", ")}`;
  }

  function drawPlane() {
    const { pen, width, height } = draft(plane);
    const left = 34, right = width - 10, top = 18, bottom = height - 30;
    const all = [...shown.trail, ...shown.fixed.earlier.flatMap((run) => run.trail)], most = Math.max(1, ...all.flat()); // an error may be above 1
    const toX = (v) => left + ((right - left) * v) / most, toY = (v) => bottom - ((bottom - top) * v) / most;
    pen.fillStyle = shown.colours.ink;
    for (const tick of [0, most / 2, most].map((v) => Number(v.toPrecision(2)))) {
      line(pen, [toX(tick), top], [toX(tick), bottom], shown.colours.faint, 0.5);
      line(pen, [left, toY(tick)], [right, toY(tick)], shown.colours.faint, 0.5);
      pen.textAlign = "center";
      pen.fillText(String(tick), toX(tick), bottom + 13);
      pen.textAlign = "right";
      pen.fillText(String(tick), left - 4, toY(tick) + 4);
    }
    pen.textAlign = "left";
    pen.fillStyle = shown.colours.tasks[1];
    const [first, second] = shown.fixed.plane.map((name) => name.split("/").reverse().join(" of ").replace(/^ap\b/, "AP"));
    pen.fillText(second || first, left, top - 6, right - left);
    pen.textAlign = "right";
    pen.fillStyle = shown.colours.tasks[0];
    pen.fillText(second ? first : "time", right, height - 4, right - left);
    const placed = (path) => path.map(([a, b], k) => (second ? [toX(a), toY(b)] : [toX((k + 1) / path.length), toY(a)]));
    shown.fixed.earlier.forEach((run, k) => {
      pen.globalAlpha = 0.5;
      const path = placed(run.trail), end = path[path.length - 1];
      trace(pen, path, shown.colours.ink, 1, [2, 2 + k * 2]);
      pen.fillStyle = shown.colours.ink;
      if (end) pen.fillText(`${k + 1} (${run.name})`, Math.max(end[0], left + 90), end[1] - 4);
    });
    pen.globalAlpha = 1;
    const path = placed(shown.trail);
    trace(pen, path, shown.colours.ink, 1.5);
    path.forEach(([x, y], k) => {
      pen.globalAlpha = k === path.length - 1 ? 1 : 0.4;
      pen.fillStyle = "#009e73";
      pen.beginPath();
      pen.arc(x, y, k === path.length - 1 ? 6 : 2.5, 0, 7);
      pen.fill();
    });
    pen.globalAlpha = 1;
  }

  function drawSamples() {
    const { pen, width, height } = draft(samples);
    if (!shown.fixed || !shown.images) return;
    pen.textAlign = "left";
    if (shown.images[0]) drawImages(pen, width, height);
    else drawLines(pen, width, height);
  }

  function drawLines(pen, width, height) { // what is given, what the network writes, what is right
    const step = Math.min(40, height / shown.fixed.samples.length);
    shown.fixed.samples.forEach(({ given, right }, k) => {
      const says = shown.look ? shown.look[k].says : "", y = (k + 0.4) * step;
      pen.font = "11px ui-monospace, monospace";
      pen.fillStyle = shown.colours.ink;
      pen.fillText(given, 0, y, width * 0.55);
      pen.fillStyle = says === right ? "#009e73" : shown.colours.tasks[1];
      pen.fillText(`${says === right ? "✓" : "✗"} ${says}`, width * 0.57, y, width * 0.43);
      pen.fillStyle = shown.colours.ink;
      if (says !== right) pen.fillText(`   ${right}`, width * 0.57, y + 13, width * 0.43);
    });
  }

  function drawImages(pen, width, height) {
    const side = Math.min((width - 8) / 3, (height - 58) / 3), step = side + 4, label = 16;
    const corner = (k) => [(k % 3) * step, Math.floor(k / 3) * (side + label + 3) + label];
    const scales = shown.fixed.samples.map(({ size }) => side / Math.max(...size));
    pen.imageSmoothingEnabled = false;
    shown.images.forEach((image, k) => pen.drawImage(image, ...corner(k), image.width * scales[k], image.height * scales[k]));
    const rectangle = (k, [x0, y0, x1, y1], colour, dash, thick) => {
      const [x, y] = corner(k), scale = scales[k];
      Object.assign(pen, { strokeStyle: colour, lineWidth: thick });
      pen.setLineDash(dash);
      pen.strokeRect(x + x0 * scale, y + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
      pen.setLineDash([]);
    };
    shown.fixed.samples.forEach(({ boxes }, k) => boxes.forEach((box) => rectangle(k, box, "#e69f00", [3, 3], 1.4)));
    if (!shown.look) return;
    shown.look.forEach(({ says, right, boxes }, k) => {
      const [x, y] = corner(k);
      pen.fillStyle = right ? "#009e73" : right === false ? shown.colours.tasks[1] : shown.colours.ink;
      pen.fillText(`${right ? "✓ " : right === false ? "✗ " : ""}${says}`, x, y - 4, side);
      for (const [x0, y0, x1, y1, name] of boxes) {
        rectangle(k, [x0, y0, x1, y1], "#56b4e9", [], 1.8);
        pen.fillStyle = "rgba(0,0,0,.65)";
        const wide = pen.measureText(name).width + 4, high = Math.max(y, y + y0 * scales[k] - 13);
        pen.fillRect(x + x0 * scales[k], high, wide, 13);
        pen.fillStyle = "#fff";
        pen.fillText(name, x + x0 * scales[k] + 2, high + 10.5);
      }
    });
  }

  function resized(changes) { // of the canvases, or of the theme
    for (const { target, contentRect } of changes) if (contentRect) sizes.set(target, contentRect);
    dialShows = "";
  }

  return { drawLoss, drawDial, drawPlane, drawSamples, resized };
}
