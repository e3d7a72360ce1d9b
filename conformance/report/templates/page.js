"use strict";
// Text goes in by textContent alone: whatever a report says is shown, and never becomes markup.
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const [RUN, ID, STATUS, PROFILE, DTYPE, R, CLAUSES, BLAMED, REQUIRED] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  for (const c of DATA.cases) c[ID] = DATA.ids[c[ID]];
  for (const c of DATA.cases) [CLAUSES, BLAMED].forEach((field) => { c[field] = DATA.sets[c[field]]; });
  for (const d of Object.values(DATA.details)) for (const field of ["reason", "note"]) if (field in d) d[field] = DATA.lines[d[field]];
  const MARKS = { pass: "✓", fail: "✗", error: "✗", timeout: "✗", xfail: "~", xpass: "!", "n/a": "–" };
  const KINDS = { pass: "pass", fail: "fail", error: "fail", timeout: "fail", xfail: "care", xpass: "care", "n/a": "none" };
  const FIRST = 8; // checks of a group that are shown at first
  const STEP = 200; // and with each "more"

  const by = (id) => document.getElementById(id);
  const status = (c) => DATA.statuses[c[STATUS]];
  const kind = (c) => KINDS[status(c)];
  const clauses = (c) => (c[BLAMED].length ? c[BLAMED] : c[CLAUSES]);
  const r = (c) => (c[R] === null ? null : c[R] === "inf" ? Infinity : Number(c[R]));
  const several = DATA.runs.length > 1;

  function el(tag, options = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  const prose = (text) => // a sentence with `code` in it
    text.split(/(`[^`]*`)/).map((part) => (/^`.*`$/s.test(part) ? el("code", {}, part.slice(1, -1)) : part));
  const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
  const shown = (x) => (x === null ? "" : x === Infinity ? "∞" : Math.abs(x) >= 1e4 || (x && Math.abs(x) < 1e-3) ? x.toExponential(1).replace("e+", "e") : String(Number(x.toPrecision(2))));

  function bar(x) {
    const fill = el("i");
    const node = el("span", { class: "bar", "aria-hidden": "true" }, fill);
    paint(node, x);
    return node;
  }
  function paint(node, x) { // the width says log r, from 0.001 to 1000
    const place = x === null ? 0 : Math.min(1, Math.max(0, (Math.log10(x) + 3) / 6));
    node.firstChild.style.width = `${100 * place}%`;
    node.classList.toggle("over", x !== null && x > 1);
    node.classList.toggle("beyond", x !== null && x > 1000);
    node.classList.toggle("empty", x === null);
  }

  // --- filters -----------------------------------------------------------------------------------------------------

  const form = by("filters");
  const NAMES = ["q", "clause", "run", "profile", "dtype"];
  const haystacks = DATA.cases.map((c, i) => {
    const d = DATA.details[i] || {};
    const words = [c[ID], DATA.runs[c[RUN]].name, status(c), DATA.profiles[c[PROFILE]][0], d.reason, d.note, ...(d.diagnosis || [])];
    return [...words, ...clauses(c).map((k) => DATA.clauses[k][0])].join("\n").toLowerCase();
  });

  function state() {
    const found = Object.fromEntries(NAMES.map((name) => [name, form.elements[name].value]));
    found.status = [...form.querySelectorAll("[name=status]:checked")].map((box) => box.value);
    return found;
  }
  function put(s) {
    for (const name of NAMES) {
      form.elements[name].value = s[name] || "";
      if (form.elements[name].selectedIndex === -1) form.elements[name].value = "";
    }
    for (const box of form.querySelectorAll("[name=status]")) box.checked = (s.status || []).includes(box.value);
  }
  function remember(s) {
    const words = new URLSearchParams();
    for (const name of NAMES) if (s[name]) words.set(name, s[name]);
    if (s.status.length) words.set("status", s.status.join(","));
    if (opened) words.set("open", opened);
    const hash = words.toString();
    try { history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search); } catch { location.hash = hash; }
  }
  function recall() {
    const words = new URLSearchParams(location.hash.slice(1));
    opened = words.get("open") || "";
    put({ ...Object.fromEntries(NAMES.map((name) => [name, words.get(name)])), status: (words.get("status") || "").split(",") });
  }
  const key = (c) => `${c[RUN]}:${c[ID]}`;
  let opened = "";

  // --- matrix: built once, its numbers follow the filters ----------------------------------------------------------

  const matrix = by("matrix");
  const rows = DATA.clauses.map(([slug, sentence], k) => {
    const head = el("button", { type: "button", class: "row", tabindex: "-1", onclick: () => choose(k, "") },
      el("span", { class: "slug" }, ...slug.split(/(?<=\.)/).flatMap((part) => [part, el("wbr")])), el("small", {}, ...prose(sentence)));
    const cells = DATA.runs.map((_, i) => {
      const mark = el("span", { class: "mark", "aria-hidden": "true" });
      const counts = el("span"), words = el("span", { class: "unseen" }), worst = el("span", { class: "r" }), line = bar(null);
      const button = el("button", { type: "button", class: "cell", tabindex: "-1", onclick: () => choose(k, i) }, mark, counts, words, line, worst);
      return { button, mark, counts, words, worst, line, td: el("td", {}, button) };
    });
    const tr = el("tr", {}, el("th", { scope: "row" }, head), ...cells.map((cell) => cell.td));
    return { tr, head, cells, slug, sentence };
  });

  function buildMatrix() {
    const losses = new Set(DATA.runs.map((run) => run.loss)).size > 1;
    const name = (run) => el("th", { scope: "col" }, el("span", { class: "name" }, run.name), " ", el("small", {}, run.framework + (losses ? ` · ${run.loss}` : "")));
    matrix.tHead.append(el("tr", {}, el("th", { scope: "col" }, "Clause"), ...DATA.runs.map(name)));
    matrix.classList.toggle("some", DATA.runs.length > 3);
    let stage = null, body = null;
    for (const row of rows) {
      const first = row.slug.split(".")[0];
      if (first !== stage) {
        stage = first;
        body = el("tbody", {}, el("tr", { class: "stage" }, el("th", { scope: "rowgroup", colspan: DATA.runs.length + 1 }, stage)));
        matrix.append(body);
      }
      body.append(row.tr);
    }
    rows[0]?.head.setAttribute("tabindex", "0");
    matrix.addEventListener("keydown", travel);
    matrix.addEventListener("focusin", (event) => settle(event.target));
  }
  function settle(button) { // one stop of the Tab key in the whole table: where it was last
    if (button.tagName !== "BUTTON") return;
    for (const other of matrix.querySelectorAll("button[tabindex='0']")) other.setAttribute("tabindex", "-1");
    button.setAttribute("tabindex", "0");
  }
  function travel(event) {
    const seen = rows.filter((row) => !row.tr.hidden).map((row) => [row.head, ...row.cells.filter((cell) => !cell.td.hidden).map((cell) => cell.button)]);
    const y = seen.findIndex((line) => line.includes(event.target));
    if (y < 0 || event.altKey || event.metaKey) return;
    const x = seen[y].indexOf(event.target), last = seen.length - 1, end = seen[y].length - 1;
    const to = {
      ArrowDown: [y + 1, x], ArrowUp: [y - 1, x], ArrowRight: [y, x + 1], ArrowLeft: [y, x - 1],
      Home: [event.ctrlKey ? 0 : y, 0], End: [event.ctrlKey ? last : y, end], PageDown: [Math.min(last, y + 10), x], PageUp: [Math.max(0, y - 10), x],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    seen[to[0]]?.[to[1]]?.focus();
  }
  function choose(k, run) { // a cell again: back to all
    const s = state(), slug = rows[k].slug;
    const same = s.clause === slug && s.run === String(run);
    put({ ...s, clause: same ? "" : slug, run: same ? "" : String(run) });
    update();
    if (!same) by("checks").scrollIntoView({ block: "start" });
  }

  function paintMatrix(s, tallies, shows) {
    rows.forEach((row, k) => {
      row.tr.hidden = !shows.has(k);
      const chosen = s.clause === row.slug;
      row.head.setAttribute("aria-pressed", String(chosen && s.run === ""));
      row.cells.forEach((cell, i) => {
        const t = tallies[k][i];
        const state = t.failed ? "fail" : t.xpass ? "xpass" : t.xfail ? "xfail" : t.passed ? "pass" : "n/a";
        cell.td.hidden = s.run !== "" && s.run !== String(i);
        cell.td.dataset.kind = KINDS[state];
        cell.mark.textContent = MARKS[state];
        cell.counts.textContent = t.ran ? `${t.passed}/${t.ran}` : "";
        const extra = [t.xfail && `${t.xfail} known to fail`, t.xpass && `${t.xpass} passing against expectation`].filter(Boolean).join(", ");
        cell.words.textContent = t.ran ? ` passed${extra ? `, ${extra}` : ""}${t.worst === null ? "" : ", worst r"} ` : "not asked";
        cell.worst.textContent = shown(t.worst);
        paint(cell.line, t.ran ? t.worst : null);
        cell.button.setAttribute("aria-pressed", String(chosen && s.run === String(i)));
      });
    });
    [...matrix.tHead.rows[0].cells].slice(1).forEach((th, i) => { th.hidden = s.run !== "" && s.run !== String(i); });
    for (const body of matrix.tBodies) body.hidden = [...body.rows].slice(1).every((tr) => tr.hidden);
    if (!matrix.querySelector("tr:not([hidden]) td:not([hidden]) button[tabindex='0'], tr:not([hidden]) th button[tabindex='0']")) {
      const first = rows.find((row) => !row.tr.hidden);
      if (first) settle(first.head);
    }
  }

  // --- checks ------------------------------------------------------------------------------------------------------

  function copier(text) {
    const button = el("button", { type: "button", class: "quiet" }, "Copy");
    button.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(text()); button.textContent = "Copied"; }
      catch { getSelection().selectAllChildren(button.closest(".code").querySelector("pre")); button.textContent = "Selected"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
    return button;
  }
  const code = (title, text, wraps) =>
    el("div", { class: "code" }, el("div", {}, el("h4", {}, title), copier(() => text)),
      el("pre", { tabindex: "0", role: "region", "aria-label": title, class: wraps && "wraps" }, el("code", {}, text)));

  function compared(expected, got) { // the digits that agree step back
    let n = 0;
    while (n < Math.min(expected.length, got.length) && expected[n] === got[n]) n += 1;
    if (n < 3) return [[expected], [got]];
    return [expected, got].map((text) => [el("span", { class: "same" }, text.slice(0, n)), el("span", { class: "differs" }, text.slice(n))]);
  }

  function unfold(c, i) {
    const d = DATA.details[i] || {}, body = el("div", { class: "body" });
    const about = clauses(c).slice(0, c[BLAMED].length ? 3 : 99);
    const term = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
    if (kind(c) !== "pass" && kind(c) !== "none")
      body.append(el("div", { class: "clauses" }, ...about.map((k) => el("p", {}, el("span", { class: "slug" }, DATA.clauses[k][0]), ...prose(DATA.clauses[k][1])))));
    if (d.diagnosis) body.append(el("div", { class: "diagnosis" }, el("h4", {}, "Diagnosis"), ...d.diagnosis.map((text) => el("p", {}, ...prose(text)))));
    const list = el("dl");
    if (d.known) list.append(term("known", d.known));
    if (d.note) list.append(term("catches", d.note));
    if (d.reason) list.append(term(kind(c) === "none" ? "not asked" : "reason", d.reason));
    if (d.expected) {
      const [expected, got] = compared(d.expected, d.got || "");
      list.append(term("at", el("span", { class: "value" }, (d.output || "") + (d.index || ""))));
      list.append(term("expected", el("span", { class: "value" }, ...expected)));
      list.append(term("got", el("span", { class: "value" }, ...got)));
    }
    if (d.bound) list.append(term("bound", el("span", { class: "value" }, d.bound)));
    if (r(c) !== null) list.append(term("r", el("span", { class: "rbar" }, el("span", { class: "value" }, shown(r(c))), bar(r(c)))));
    const others = c[CLAUSES].filter((k) => !(kind(c) === "fail" || kind(c) === "care") || !about.includes(k));
    if (others.length) list.append(term(c[BLAMED].length ? "rests on too" : "rests on", el("span", { class: "depends" }, others.map((k) => DATA.clauses[k][0]).join(", "))));
    body.append(list);
    if (d.again) body.append(code("Run just this again", `${DATA.runs[c[RUN]].command} ${d.again}`, true));
    if (d.script) body.append(code("Reproduce without the suite", d.script.map((n) => DATA.lines[n]).join("\n")));
    else if (d.script === null) body.append(el("p", { class: "legend" }, "The script is left out here to keep the page small: infonce-conformance report … --reproduce FOLDER writes it."));
    return body;
  }

  function check(i) {
    const c = DATA.cases[i], [slug, hash = ""] = c[ID].split(/(?=#)/), cut = hash.search("/");
    const name = cut < 0 ? [slug, el("span", {}, hash)] : [slug, el("span", {}, hash.slice(0, cut)), hash.slice(cut)];
    const details = el("details", { class: "check", "data-kind": kind(c) },
      el("summary", {},
        el("span", { class: "mark" }, `${MARKS[status(c)]} ${status(c)}`),
        el("span", { class: "id" }, ...name),
        several ? el("span", { class: "meta name" }, DATA.runs[c[RUN]].name) : null,
        el("span", { class: "meta dtype" }, c[DTYPE]),
        el("span", { class: "meta profile" }, DATA.profiles[c[PROFILE]][0] + (c[REQUIRED] ? "" : " (extra)")),
        bar(r(c)),
        el("span", { class: "r" }, r(c) === null ? "" : el("span", { class: "unseen" }, "r "), shown(r(c)))));
    const fill = () => { if (details.open && details.children.length === 1) details.append(unfold(c, i)); };
    if (opened === key(c)) { details.open = true; fill(); }
    details.addEventListener("toggle", () => {
      fill();
      if (details.open) opened = key(c);
      else if (opened === key(c)) opened = "";
      remember(state());
    });
    return el("li", {}, details);
  }

  function groupsOf(found) { // what fails by whom to blame, the rest by status
    const groups = new Map();
    for (const i of found) {
      const c = DATA.cases[i], failing = kind(c) === "fail";
      const name = failing ? `fail ${clauses(c).join(" ")}` : status(c);
      if (!groups.has(name)) groups.set(name, { failing, clauses: failing ? clauses(c) : [], status: status(c), rank: c[STATUS], members: [] });
      groups.get(name).members.push(i);
    }
    const worst = (i) => r(DATA.cases[i]) ?? Infinity;
    const extra = (g) => (g.failing && !g.members.some((i) => DATA.cases[i][REQUIRED]) ? 1 : 0);
    const all = [...groups.values()];
    for (const g of all) g.members.sort((a, b) => (g.failing ? worst(b) - worst(a) || a - b : 0) || (DATA.cases[a][ID] < DATA.cases[b][ID] ? -1 : 1));
    return all.sort((a, b) => b.failing - a.failing || extra(a) - extra(b) || (a.failing ? b.members.length - a.members.length : a.rank - b.rank));
  }
  const TITLES = { pass: "Passing", "n/a": "Not asked", xfail: "Known to fail", xpass: "Known to fail, and passing" };

  function group(g) {
    const list = el("ul");
    const words = g.failing ? "failing" : "";
    const title = g.failing ? g.clauses.slice(0, 4).map((k) => el("span", { class: "slug" }, DATA.clauses[k][0])) : [TITLES[g.status]];
    if (g.failing && g.clauses.length > 4) title.push(` and ${g.clauses.length - 4} more`);
    const head = el("header", {}, el("h3", {}, ...title, " ", el("b", {}, `${g.members.length.toLocaleString("en")} ${words}`)));
    if (g.failing && g.clauses.length === 1) head.append(el("p", {}, ...prose(DATA.clauses[g.clauses[0]][1])));
    const more = el("button", { type: "button", class: "quiet more" });
    let n = 0;
    const grow = (step) => {
      const before = n;
      list.append(...g.members.slice(n, n + step).map(check));
      n = Math.min(n + step, g.members.length);
      more.hidden = n === g.members.length;
      more.textContent = `Show ${Math.min(STEP, g.members.length - n)} more of ${g.members.length - n}`;
      if (before) list.children[before].querySelector("summary").focus();
    };
    const wanted = g.members.findIndex((i) => opened === key(DATA.cases[i]));
    grow(Math.max(FIRST, wanted + 1));
    more.addEventListener("click", () => grow(STEP));
    return el("section", { class: "group" }, head, list, more);
  }

  // --- everything follows the filters ------------------------------------------------------------------------------

  function update() {
    const s = state(), words = s.q.toLowerCase().split(/\s+/).filter(Boolean);
    const only = s.clause ? DATA.clauses.findIndex(([slug]) => slug === s.clause) : -1;
    const tallies = rows.map(() => DATA.runs.map(() => ({ passed: 0, ran: 0, failed: 0, xfail: 0, xpass: 0, worst: null })));
    const counts = Object.fromEntries(DATA.statuses.map((name) => [name, 0]));
    const found = [], shows = new Set();
    DATA.cases.forEach((c, i) => {
      if (s.profile && (s.profile === "required" ? !c[REQUIRED] : DATA.profiles[c[PROFILE]][0] !== s.profile)) return;
      if (s.dtype && c[DTYPE] !== s.dtype) return;
      const of = clauses(c), name = status(c), x = r(c);
      if (name !== "n/a") for (const k of of) {
        const t = tallies[k][c[RUN]];
        t.ran += 1;
        t.passed += name === "pass" || name === "xpass";
        t.failed += KINDS[name] === "fail";
        t.xfail += name === "xfail";
        t.xpass += name === "xpass";
        if (x !== null && (t.worst === null || x > t.worst)) t.worst = x;
      }
      if (s.run !== "" && String(c[RUN]) !== s.run) return;
      if (only >= 0 && !of.includes(only)) return;
      if (!words.every((word) => haystacks[i].includes(word))) return;
      counts[name] += 1;
      if (s.status.length && !s.status.includes(name)) return;
      found.push(i);
      for (const k of of) if (only < 0 || k === only) shows.add(k);
    });
    for (const label of by("statuses").children) {
      const name = label.querySelector("input").value;
      label.querySelector("b").textContent = counts[name].toLocaleString("en");
    }
    paintMatrix(s, tallies, shows);
    by("groups").replaceChildren(...groupsOf(found).map(group));
    by("groups").classList.toggle("alone", !several);
    by("no-checks").hidden = found.length > 0;
    by("no-clauses").hidden = shows.size > 0;
    by("sentence").hidden = only < 0;
    if (only >= 0) by("sentence").replaceChildren(el("span", { class: "slug" }, s.clause), "  ", ...prose(DATA.clauses[only][1]));
    by("found").textContent = `${found.length.toLocaleString("en")} of ${plural(DATA.cases.length, "check")}, ${plural(shows.size, "clause")}`;
    by("reset").disabled = !(words.length || s.status.length || NAMES.some((name) => s[name]));
    remember(s);
  }

  function options(select, entries) {
    select.append(...entries.map(([value, words]) => el("option", { value }, words)));
  }
  function fill() {
    const stages = Map.groupBy ? [...Map.groupBy(DATA.clauses, ([slug]) => slug.split(".")[0])] : [["clauses", DATA.clauses]];
    by("clause").append(...stages.map(([stage, list]) => el("optgroup", { label: stage }, ...list.map(([slug]) => el("option", { value: slug }, slug)))));
    options(by("run"), DATA.runs.map((run, i) => [i, run.name]));
    options(by("profile"), DATA.profiles.map(([name]) => [name, name]));
    options(by("dtype"), [...new Set(DATA.cases.map((c) => c[DTYPE]))].filter(Boolean).sort().map((name) => [name, name]));
    by("run-field").hidden = !several;
    const present = DATA.statuses.filter((_, n) => DATA.cases.some((c) => c[STATUS] === n));
    by("statuses").append(...present.map((name) =>
      el("label", {}, el("input", { type: "checkbox", name: "status", value: name }),
        el("span", { class: "mark", "data-kind": KINDS[name], "aria-hidden": "true" }, MARKS[name]), name, el("b"))));
  }

  // --- theme -------------------------------------------------------------------------------------------------------

  const THEMES = ["auto", "light", "dark"];
  function theme(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    by("theme").querySelector("span").textContent = name;
    try { localStorage.setItem("infonce-theme", name); } catch { /* a file may have no storage */ }
  }
  function themes() {
    let name = "auto";
    try { name = localStorage.getItem("infonce-theme"); } catch { /* a file may have no storage */ }
    theme(THEMES.includes(name) ? name : "auto");
    by("theme").hidden = false;
    by("theme").addEventListener("click", () => {
      const now = by("theme").querySelector("span").textContent;
      theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
    });
  }

  const filters = document.querySelector(".filters");
  new ResizeObserver(() => document.documentElement.style.setProperty("--filters", `${filters.offsetHeight}px`)).observe(filters);

  themes();
  fill();
  buildMatrix();
  recall();
  by("app").hidden = false;
  update();
  let soon = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(soon);
    if (event.target.id === "q") soon = setTimeout(update, 120);
    else update();
  });
  form.addEventListener("reset", () => { opened = ""; setTimeout(update); });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { if (location.hash !== "#checks") { recall(); update(); } });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox") return;
    event.preventDefault();
    by("q").focus();
    by("q").select();
  });
})();
