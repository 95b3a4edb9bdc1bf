// The part of the lab that is folded away at first: a fork, a guess, who gained from a step, the run as code.
function makeWhy(root, shown, { act, redraw }) {
  const part = make("details", root, {}, "why");
  make("summary", part, { textContent: "see why" });
  const row = make("div", part, {}, "row");
  const button = (textContent, title, clicked, parent = row) => {
    const made = make("button", parent, { textContent, title, type: "button" });
    made.addEventListener("click", clicked);
    return made;
  };
  const fork = button("Fork", "continue as two copies on the same batches: yours, and one that keeps the present settings", () => act(shown.now.forked ? "join" : "fork"));
  const across = makeChoice(row, "trail: across", [], (name) => choose(0, name)), up = makeChoice(row, "up", [], (name) => choose(1, name));
  button("Copy this run as code", "copy a cell that repeats this run", () => act("code"));
  const guessRow = make("div", part, {}, "row"), said = make("span", guessRow);
  const places = [0, 1].map((k) => make("input", guessRow, { type: "number", step: "any", min: 0, ariaLabel: `guessed score ${k ? "up" : "across"}` }));
  button("Guess", "record this guess", () => guess(places.map((place) => Number(place.value || NaN))), guessRow);
  const gains = make("canvas", make("div", part, {}, "gains"), { role: "img", ariaLabel: "not measured yet" });
  const code = make("textarea", part, { readOnly: true, hidden: true, rows: 9, ariaLabel: "this run as code" });

  part.addEventListener("toggle", () => {
    act("gains", { on: part.open });
    redraw();
  });
  function choose(k, name) {
    shown.plane[k] = name;
    redraw();
  }
  function guess(values) {
    if (shown.plane.length === 2 && values.every(Number.isFinite)) act("guess", { scores: Object.fromEntries(shown.plane.map((name, k) => [name, values[k]])) });
  }

  return {
    gains,
    setUp() {
      shown.plane = shown.fixed.scoreNames.slice(0, 2);
      fork.hidden = gains.parentElement.hidden = !shown.fixed.ahead;
      guessRow.hidden = !shown.fixed.ahead || shown.plane.length < 2;
      said.textContent = `Predict first: where will the trail be in ${shown.fixed.ahead} steps? Click there, or type: `;
    },
    clicked(at) { if (part.open && !guessRow.hidden) guess(at); },
    follow() {
      fork.textContent = shown.now.forked ? "End the fork" : "Fork";
      if (!shown.plane.length && shown.trail.length) shown.plane = Object.keys(shown.trail[0][1]).slice(0, 2);
      const last = shown.trail[shown.trail.length - 1], names = last ? Object.keys(last[1]) : shown.fixed.scoreNames;
      for (const [k, chosen] of [across, up].entries()) {
        chosen.fill(names);
        chosen.show(shown.plane[Math.min(k, shown.plane.length - 1)]);
        chosen.choice.parentElement.hidden = names.length < 2;
      }
    },
    told({ what, answer }) {
      if (what !== "code") return;
      Object.assign(code, { value: answer, hidden: false });
      code.select();
      if (navigator.clipboard) navigator.clipboard.writeText(answer).catch(() => {}); // else it is selected
    },
  };
}
