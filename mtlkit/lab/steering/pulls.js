// What the live lab draws of gradients and scores: who pulls where, where the scores went, who gained from a step.
function pullPainter({ dial, plane, gains }, shown, { draft, hue, trace }) {
  let dialShows = ""; // what the dial was drawn from
  const titled = (pen, width, text) => {
    if (width < 170) pen.font = "10px system-ui, sans-serif";
    Object.assign(pen, { textAlign: "center", fillStyle: shown.colours.ink });
    pen.fillText(text, width / 2, 12, width);
  };
  const pull = (task) => (shown.now.norms[task] || 0) * (shown.now.weights[task] ?? 1);

  function drawDial() {
    const shows = JSON.stringify([shown.now.cosines, shown.now.norms, shown.now.weights]);
    if (shows === dialShows) return;
    dialShows = shows;
    const { pen, width, height } = draft(dial);
    titled(pen, width, "pull on the shared parameters");
    if (!shown.now.norms || !Object.keys(shown.now.norms).length) return;
    if (shown.fixed.tasks.length === 2 && shown.now.cosine !== null) drawAngle(pen, width, height);
    else drawMatrix(pen, width, height);
  }

  function drawAngle(pen, width, height) {
    const angle = Math.acos(Math.max(-1, Math.min(1, shown.now.cosine))), x = width / 2, y = height - 54, reach = Math.min(height - 74, width * 0.42);
    const lengths = shown.fixed.tasks.map(pull), longest = Math.max(...lengths, 1e-12);
    const ways = [[-Math.sin(angle / 2), -Math.cos(angle / 2)], [Math.sin(angle / 2), -Math.cos(angle / 2)]];
    const tip = (k) => ways[k].map((part) => (part * reach * lengths[k]) / longest);
    const sum = [0, 1].map((c) => tip(0)[c] + tip(1)[c]), size = Math.hypot(...sum), squeeze = Math.min(1, reach / Math.max(size, 1e-9));
    pen.globalAlpha = 0.5;
    arrow(pen, [x, y], sum.map((part) => part * squeeze), shown.colours.ink, 6);
    pen.globalAlpha = 1;
    [0, 1].forEach((k) => arrow(pen, [x, y], tip(k), hue(k), 3.5));
    const degrees = Math.round((angle * 180) / Math.PI);
    const word = shown.now.cosine < -0.1 ? "they pull against each other" : shown.now.cosine > 0.1 ? "they pull together" : "almost independent";
    const ratio = lengths[0] / lengths[1], who = ratio > 1 ? 0 : 1, times = Math.max(ratio, 1 / ratio);
    pen.fillStyle = shown.colours.ink;
    pen.fillText(`${degrees}°, cosine ${shown.now.cosine.toFixed(2)}`, x, height - 34, width);
    pen.fillText(word, x, height - 19, width);
    if (Number.isFinite(times)) {
      pen.fillStyle = hue(who);
      const pull = times < 1.05 ? "both pull equally hard"
        : `${shown.fixed.tasks[who]} pulls ${times >= 10 ? times.toFixed(0) : times.toFixed(1)} × harder`;
      pen.fillText(pull, x, height - 4, width);
    }
    dial.ariaLabel = `angle between the gradients ${degrees} degrees, ${word}`;
  }

  function drawMatrix(pen, width, height) { // a bar of length a task, and the cosine of each pair
    const tasks = shown.fixed.tasks, K = tasks.length, lengths = tasks.map(pull), longest = Math.max(...lengths, 1e-12);
    const step = Math.min(26, (height - 36) / K), left = Math.min(80, width * 0.34), cells = K > 1 ? Math.min(width - left - 44, K * 34) : 0;
    const bar = left + 4, room = Math.max(width - left - cells - 12, 20), cell = cells / Math.max(K - 1, 1);
    const said = [];
    tasks.forEach((task, t) => {
      const y = 20 + t * step, middle = y + step / 2 + 4;
      pen.fillStyle = hue(t);
      pen.textAlign = "right";
      pen.fillText(task, left, middle, left - 2);
      pen.fillRect(bar, y + step * 0.25, (room * lengths[t]) / longest, step * 0.5);
      for (let other = t + 1; other < K; other += 1) {
        const cosine = ((shown.now.cosines || {})[task] || {})[tasks[other]], x = width - cells + (other - 1) * cell;
        if (!Number.isFinite(cosine)) continue;
        said.push(`${task} and ${tasks[other]} ${cosine.toFixed(2)}`);
        pen.globalAlpha = 0.15 + 0.7 * Math.abs(cosine);
        pen.fillStyle = cosine < 0 ? "#d55e00" : "#0072b2";
        pen.fillRect(x + 1, y + 1, cell - 2, step - 2);
        pen.globalAlpha = 1;
        pen.textAlign = "center";
        pen.fillStyle = Math.abs(cosine) > 0.6 ? "#fff" : shown.colours.ink;
        pen.fillText(cosine.toFixed(2).replace("0.", "."), x + cell / 2, middle, cell - 3);
      }
    });
    pen.textAlign = "center";
    for (let other = 1; other < K; other += 1) { // whose column it is
      pen.fillStyle = hue(other);
      pen.fillText(tasks[other], width - cells + (other - 0.5) * cell, 20 + K * step + 4, cell - 2);
    }
    pen.fillStyle = shown.colours.ink;
    if (K > 1) pen.fillText("bars: gradient lengths; squares: cosine of two tasks", width / 2, height - 3, width);
    dial.ariaLabel = `length of each task's weighted gradient: ${tasks.map((task, t) => `${task} ${lengths[t].toFixed(2)}`).join(", ")}; cosines: ${said.join(", ") || "not measured yet"}`;
  }

  const inWords = (score) => score.split("/").reverse().join(" of ").replace(/^ap\b/, "AP");
  let frame = null; // of the plane: where its numbers lie

  function drawPlane() {
    plane.parentElement.hidden = !shown.plane.length;
    if (!shown.plane.length) return;
    const { pen, width, height } = draft(plane);
    const [first, second] = shown.plane, pick = (path) => path.map(([, scores]) => [scores[first], scores[second ?? first]]).filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b));
    const left = 34, right = width - 10, top = 18, bottom = height - 30;
    const own = pick(shown.trail), other = pick(shown.otherTrail), earlier = shown.fixed.earlier.map((run) => pick(run.trail));
    const guesses = shown.now.guesses || [], most = Math.max(1, ...[own, other, ...earlier].flat(2)); // an error may be above 1
    const toX = (v) => left + ((right - left) * v) / most, toY = (v) => bottom - ((bottom - top) * v) / most;
    frame = { read: (x, y) => [((x - left) / (right - left)) * most, ((bottom - y) / (bottom - top)) * most] };
    for (const tick of [0, most / 2, most].map((v) => Number(v.toPrecision(2)))) {
      pen.fillStyle = shown.colours.ink;
      line(pen, [toX(tick), top], [toX(tick), bottom], shown.colours.faint, 0.5);
      line(pen, [left, toY(tick)], [right, toY(tick)], shown.colours.faint, 0.5);
      pen.textAlign = "center";
      if (second) pen.fillText(String(tick), toX(tick), bottom + 13);
      pen.textAlign = "right";
      pen.fillText(String(tick), left - 4, toY(tick) + 4);
    }
    const colourOf = (score) => hue(Math.max(0, shown.fixed.tasks.findIndex((task) => score.startsWith(`${task}/`))));
    pen.textAlign = "left";
    pen.fillStyle = colourOf(second ?? first);
    pen.fillText(inWords(second ?? first), left, top - 6, right - left);
    pen.textAlign = "right";
    pen.fillStyle = second ? colourOf(first) : shown.colours.ink;
    pen.fillText(second ? inWords(first) : "time", right, height - 4, right - left);
    const placed = (path) => path.map(([a, b], k) => (second ? [toX(a), toY(b)] : [left + ((right - left) * (k + 1)) / path.length, toY(a)]));
    [...earlier, other].forEach((path, k) => {
      const places = placed(path), end = places[places.length - 1], run = shown.fixed.earlier[k];
      pen.globalAlpha = 0.5;
      trace(pen, places, shown.colours.ink, 1, [2, 2 + k * 2]);
      pen.fillStyle = shown.colours.ink;
      if (end) pen.fillText(run ? `${k + 1} (${run.name})` : "unchanged", Math.max(end[0], left + 90), end[1] - 4);
    });
    pen.globalAlpha = 1;
    const path = placed(own), end = path[path.length - 1];
    trace(pen, path, shown.colours.ink, 1.5);
    path.forEach(([x, y], k) => {
      pen.globalAlpha = k === path.length - 1 ? 1 : 0.4;
      pen.fillStyle = "#009e73";
      pen.beginPath();
      pen.arc(x, y, k === path.length - 1 ? 6 : 2.5, 0, 7);
      pen.fill();
    });
    pen.globalAlpha = 1;
    for (const [step, guessed, found, off] of second ? guesses : []) {
      if (guessed[first] === undefined || guessed[second] === undefined) continue;
      const at = [toX(guessed[first]), toY(guessed[second])];
      const there = found[first] !== undefined && Number.isFinite(off) && off !== null;
      if (there) line(pen, at, [toX(found[first]), toY(found[second])], shown.colours.ink, 1, [3, 2]);
      Object.assign(pen, { strokeStyle: "#b3508a", lineWidth: 2, fillStyle: shown.colours.ink, textAlign: at[0] > (left + right) / 2 ? "right" : "left" });
      pen.strokeRect(at[0] - 5, at[1] - 5, 10, 10);
      pen.fillText(!there ? `your guess for step ${step}` : `off by ${off.toFixed(2)}`, at[0] + (pen.textAlign === "left" ? 9 : -9), at[1] + 4);
    }
    plane.ariaLabel = end ? `scores: ${shown.plane.map((name) => `${inWords(name)} ${own[own.length - 1][shown.plane.indexOf(name)].toFixed(2)}`).join(", ")}` : "trail of the scores, not measured yet";
  }

  function drawGains() { // left of the middle a loss has fallen
    if (!gains.parentElement.offsetParent) return;
    const { pen, width, height } = draft(gains), found = shown.now.gains || {}, tasks = shown.fixed.tasks.filter((task) => found[task] && found[task].every(Number.isFinite));
    titled(pen, width, "change of each loss in one step, on that step's batch");
    const most = Math.max(1e-9, ...tasks.flatMap((task) => found[task].map(Math.abs))), left = Math.min(90, width * 0.3), right = width - 60, zero = (left + right) / 2;
    const step = Math.min(30, (height - 44) / Math.max(tasks.length, 1)), reach = (right - left) / 2;
    line(pen, [zero, 18], [zero, height - 22], shown.colours.faint, 1);
    tasks.forEach((task) => {
      const t = shown.fixed.tasks.indexOf(task), y = 20 + tasks.indexOf(task) * step, [predicted, happened] = found[task];
      pen.fillStyle = hue(t);
      pen.textAlign = "right";
      pen.fillText(task, left - 6, y + step * 0.55, left - 8);
      pen.fillRect(zero, y + step * 0.45, (reach * happened) / most, step * 0.35);
      Object.assign(pen, { strokeStyle: shown.colours.ink, lineWidth: 1.2 });
      pen.strokeRect(zero, y + step * 0.1, (reach * predicted) / most, step * 0.35);
      pen.textAlign = "left";
      pen.fillStyle = shown.colours.ink;
      pen.fillText(`${happened > 0 ? "+" : ""}${happened.toPrecision(2)}`, right + 4, y + step * 0.6, 54);
    });
    pen.textAlign = "center";
    pen.fillStyle = shown.colours.ink;
    pen.fillText(tasks.length ? "outlined: predicted by its gradient; filled: what happened; left is better" : "press Step, or wait", width / 2, height - 5, width);
    gains.ariaLabel = tasks.map((task) => `${task}: predicted ${found[task][0].toPrecision(2)}, actual ${found[task][1].toPrecision(2)}`).join("; ") || "not measured yet";
  }

  return { drawDial, drawPlane, drawGains, forget: () => { dialShows = ""; }, readPlane: (x, y) => frame && frame.read(x, y) };
}
