// What the live lab draws of losses and samples, one canvas a function. `shown` holds what came from the kernel.
const DASHES = [[], [7, 3], [2, 3], [10, 3, 2, 3], [4, 6], [1, 2]]; // of the tasks' curves: colour is not the only cue

const TICKS = [-5, -4, -3, -2, -1, 0, 1, 2, 3, 4].flatMap((power) => [10 ** power, 3 * 10 ** power]); // of a loss
const lossWords = (loss) => (Math.abs(loss) < 0.1 || Math.abs(loss) >= 100 ? loss.toPrecision(2) : loss.toFixed(2));

function painter(canvases, shown) {
  const { loss, samples } = canvases;
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
    const ends = [shown.points, shown.otherPoints].map((points) => (points.length ? points[points.length - 1].step : 0));
    const last = Math.max(50, ...ends, ...earlier.map((row) => row[0]));
    const smooth = (point) => (shown.linear ? point.mean : point.smooth), scaled = shown.linear ? (loss) => loss : Math.log;
    let low = shown.linear ? 0 : Math.log(0.3), high = shown.linear ? 1 : Math.log(3);
    const stretch = (value) => {
      if (value < low) low = value;
      if (value > high) high = value;
    };
    for (const point of [...shown.points, ...shown.otherPoints]) smooth(point).filter(Number.isFinite).forEach(stretch);
    for (const row of earlier) row.slice(1).filter((loss) => loss !== null).map(scaled).filter(Number.isFinite).forEach(stretch);
    const margin = shown.linear ? 0.05 * (high - low) : 0.15;
    low -= margin;
    high += margin;
    const toX = (step) => left + ((right - left) * step) / last, toY = (value) => bottom - ((bottom - top) * (value - low)) / (high - low);
    pen.fillStyle = shown.colours.ink;
    pen.textAlign = "right";
    const notch = 10 ** Math.floor(Math.log10((high - low) / 2));
    const ticks = shown.linear ? Array.from({ length: 25 }, (_, k) => (Math.ceil(low / notch) + k) * notch) : TICKS;
    for (const tick of ticks) {
      const y = toY(scaled(tick));
      if (y < top || y > bottom) continue;
      line(pen, [left, y], [right, y], shown.colours.faint, 0.5);
      pen.fillText(String(Number(tick.toPrecision(2))), left - 5, y + 4, left - 6);
    }
    pen.textAlign = "center";
    const room = (last * 60) / (right - left), unit = 10 ** Math.floor(Math.log10(room)); // steps that a number takes
    const by = unit * [1, 2, 5, 10].find((k) => k * unit >= room);
    for (let step = 0; step <= last; step += by) pen.fillText(String(step), toX(step), height - 5);
    pen.save();
    pen.beginPath();
    pen.rect(left, top, right - left, bottom - top);
    pen.clip();
    for (const step of shown.now.changes || []) line(pen, [toX(step), top], [toX(step), top + 9], shown.colours.ink, 1);
    shown.fixed.earlier.forEach((run, k) => shown.fixed.tasks.forEach((_, t) => {
      pen.globalAlpha = 0.45;
      trace(pen, run.points.map((row) => [toX(row[0]), toY(scaled(row[t + 1] ?? NaN))]), hue(t), 1, [2, 2 + k * 2]);
    }));
    const thinned = (points) => {
      const thin = Math.max(1, Math.floor(points.length / 700));
      return points.filter((_, k) => k % thin === 0 || k === points.length - 1);
    };
    const some = thinned(shown.points), places = (points, t) => points.map((point) => [toX(point.step), toY(smooth(point)[t])]);
    if (shown.otherPoints.length) drawFork(pen, thinned(shown.otherPoints), places);
    shown.fixed.tasks.forEach((_, t) => {
      pen.globalAlpha = 0.25;
      trace(pen, some.map((point) => [toX(point.step), toY(scaled(point.losses[t]))]), hue(t), 0.8);
      pen.globalAlpha = 1;
      trace(pen, places(some, t), hue(t), 2.2, DASHES[t % DASHES.length]);
    });
    pen.restore();
    pen.textAlign = "left";
    const end = shown.points[shown.points.length - 1];
    if (end) {
      const at = smooth(end).map((value) => (Number.isFinite(value) ? toY(value) : top + 10));
      const order = shown.fixed.tasks.map((_, t) => t).sort((a, b) => at[a] - at[b]);
      order.forEach((t, k) => { if (k) at[t] = Math.max(at[t], at[order[k - 1]] + 14); });
      const over = Math.max(0, at[order[order.length - 1]] + 4 - bottom);
      for (const t of order) {
        pen.fillStyle = hue(t);
        pen.fillText(`${shown.fixed.tasks[t]} ${lossWords(shown.linear ? end.mean[t] : Math.exp(end.smooth[t]))}`, right + 4, at[t] + 4 - over, width - right - 4);
      }
    }
    pen.fillStyle = shown.colours.ink;
    pen.fillText("loss", left + 4, top + 10);
  }

  function drawFork(pen, other, places) { // what the copy does that was not changed, and the difference
    const from = shown.now.forkedAt, here = shown.points.filter((point) => point.step >= from), there = other.filter((point) => point.step >= from);
    shown.fixed.tasks.forEach((_, t) => {
      const round = [...places(here, t), ...places(there, t).reverse()].filter(([, y]) => Number.isFinite(y));
      if (!round.length) return;
      Object.assign(pen, { globalAlpha: 0.2, fillStyle: hue(t) });
      pen.beginPath();
      round.forEach(([x, y], k) => pen[k ? "lineTo" : "moveTo"](x, y));
      pen.fill();
      pen.globalAlpha = 0.8;
      trace(pen, places(there, t), hue(t), 1.2, [1, 3]);
    });
    pen.globalAlpha = 1;
  }

  function drawSamples() {
    const { pen, width, height } = draft(samples);
    if (!shown.fixed || !shown.images) return;
    pen.textAlign = "left";
    if (shown.images.some(Boolean)) drawImages(pen, width, height);
    else if (shown.fixed.samples.length && shown.fixed.samples[0].row) drawRows(pen, width, height);
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

  function drawRows(pen, width, height) { // of a table: what is given, and each task's answer beside what is true
    const { tasks } = shown.fixed, across = Math.min(tasks.length, 3), lines = Math.ceil(tasks.length / across), step = 15 * (lines + 1) + 6;
    shown.fixed.samples.slice(0, Math.max(1, Math.floor(height / step))).forEach(({ row, truth }, k) => {
      const { answers = {}, right = {} } = shown.look ? shown.look[k] : {}, y = k * step + 12;
      pen.font = "11px system-ui, sans-serif";
      pen.fillStyle = shown.colours.ink;
      pen.fillText(Object.entries(row).map(([name, value]) => `${name} ${value}`).join(", "), 0, y, width);
      tasks.forEach((task, n) => {
        if (!(task in truth || task in answers)) return;
        const mark = right[task] === undefined ? "" : right[task] ? "✓ " : "✗ ";
        pen.fillStyle = hue(n);
        pen.fillText(`${mark}${task} ${answers[task] ?? "?"} (${truth[task] ?? "unknown"})`, ((n % across) * width) / across, y + 15 * (1 + Math.floor(n / across)), width / across - 4);
      });
    });
  }

  function drawImages(pen, width, height) {
    const side = Math.min((width - 8) / 3, (height - 58) / 3), step = side + 4, label = 16;
    const corner = (k) => [(k % 3) * step, Math.floor(k / 3) * (side + label + 3) + label];
    const scales = shown.fixed.samples.map(({ size }) => (size ? side / Math.max(...size) : 0));
    pen.imageSmoothingEnabled = false;
    shown.images.forEach((image, k) => image && pen.drawImage(image, ...corner(k), image.width * scales[k], image.height * scales[k]));
    const rectangle = (k, [x0, y0, x1, y1], colour, dash, thick) => {
      const [x, y] = corner(k), scale = scales[k];
      Object.assign(pen, { strokeStyle: colour, lineWidth: thick });
      pen.setLineDash(dash);
      pen.strokeRect(x + x0 * scale, y + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale);
      pen.setLineDash([]);
    };
    shown.fixed.samples.forEach(({ given, boxes = [] }, k) => {
      if (given) pen.fillText(given, corner(k)[0], corner(k)[1] + 14, side); // a line of text among images
      boxes.forEach((box) => rectangle(k, box, "#e69f00", [3, 3], 1.4));
    });
    if (!shown.look) return;
    shown.look.forEach(({ says = "", right = null, boxes = [] }, k) => {
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

  function resized(changes) { // of the canvases
    for (const { target, contentRect } of changes) if (contentRect) sizes.set(target, contentRect);
  }

  return { drawLoss, drawSamples, resized, draft, hue, trace };
}
