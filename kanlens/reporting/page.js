"use strict";
function erf(x) { // a series without cancellation: exp(-x^2) times positive terms
  const square = x * x;
  if (!(square < 36)) return Math.sign(x);
  let sum = x, before = NaN;
  for (let k = 1, term = x; sum !== before; k++) {
    before = sum;
    term *= (2 * square) / (2 * k + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-square) * sum;
}
(() => {
  const get = (id) => document.getElementById(id);
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const make = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };

  // Numbers as people read them, like those that are on the page already.
  const DIGITS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
  const raised = (text) => text.replace(/./g, (c) => (c === "-" ? "\u207b" : DIGITS[c]));
  function number(value, digits = 4) {
    if (!Number.isFinite(value)) return "\u2013";
    const size = Math.abs(value), sign = value < 0 ? "\u2212" : "";
    if (size === 0) return "0";
    const [head, power] = size.toExponential(digits - 1).split("e");
    if (power < -3 || power > 5) return `${sign}${Number(head)}\u00d710${raised(String(Number(power)))}`;
    const places = Math.max(0, digits - 1 - power);
    const shown = { minimumFractionDigits: places, maximumFractionDigits: places };
    return sign + size.toLocaleString("en-US", shown);
  }
  const signed = (value) => (value > 0 ? "+" : "") + number(value, 3);
  const unit = (text, name) => (name ? `${text}\u00a0${name}` : text);
  function percent(value) {
    if (!Number.isFinite(value)) return "\u2013";
    if (value > 0 && value < 0.0005) return "<0.1%";
    if (value < 1 && value > 0.9995) return ">99.9%";
    return `${(100 * value).toFixed(1)}%`;
  }

  // Tables: headers sort, long ones can be searched.
  function parse(text) {
    const plain = text.trim().replace(/[,<>+]/g, "").replace(/\u2212/g, "-");
    const found = /^(-?[\d.]+)(\u00d710)?([\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)?/.exec(plain);
    if (!found) return NaN;
    if (!found[3]) return Number(found[1]);
    const power = found[3].replace(/./g, (c) => (c === "\u207b" ? "-" : DIGITS.indexOf(c)));
    return (found[2] ? Number(found[1]) : 1) * 10 ** Number(power);
  }
  const words = new Intl.Collator("en", { numeric: true });
  const following = { none: "ascending", ascending: "descending", descending: "none" };
  function sortable(table) {
    const body = table.tBodies[0], original = [...body.rows];
    const heads = table.tHead ? [...table.tHead.rows[0].cells] : [];
    if (original.length < 2) return;
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = make("button", head.textContent, "sort");
      button.type = "button";
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      const text = (row) => row.cells[column].textContent.trim();
      const numbers = head.classList.contains("n");
      button.addEventListener("click", () => {
        const next = following[head.getAttribute("aria-sort")];
        all("[aria-sort]", table).forEach((one) => one.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const keyed = original.map((row) => [numbers ? parse(text(row)) : text(row), row]);
        if (next !== "none") {
          keyed.sort(([a], [b]) => {
            if (!numbers) return sign * words.compare(a, b);
            return isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : sign * (a - b); // missing ones last
          });
        }
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }
  function searchable(table) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length <= 12) return;
    const label = make("label", "Filter rows ", "filter");
    const box = make("input"), count = make("span", "", "small");
    box.type = "search";
    count.setAttribute("role", "status");
    label.append(box);
    const bar = make("p", undefined, "filters");
    bar.append(label, count);
    table.parentElement.before(bar);
    box.addEventListener("input", () => {
      const wanted = box.value.trim().toLowerCase();
      rows.forEach((row) => (row.hidden = !row.textContent.toLowerCase().includes(wanted)));
      count.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    });
  }
  all(".table > table").forEach((table) => {
    if (!table.classList.contains("fixed")) sortable(table);
    searchable(table);
  });
  all(".table").filter((box) => !all("button", box).length).forEach((box) => { // they may scroll
    const before = (one) => one.compareDocumentPosition(box) & Node.DOCUMENT_POSITION_FOLLOWING;
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", all("h2, h3, summary", box.closest("section") || document)
      .filter(before).map((one) => one.textContent).pop() || "Table");
  });

  // Curves: the nearest point is told, for a pointer or arrow keys.
  const SVG = "http://www.w3.org/2000/svg";
  function values(text) {
    const [places, ...steps] = text.split(" ").map(Number);
    let sum = 0;
    return steps.map((step) => ((sum += step) / 10 ** places).toFixed(places).replace("-", "\u2212"));
  }
  const plain = (text) => Number(text.replace("\u2212", "-"));
  function readable(picture) {
    const curves = all(".curve", picture).map((part) => {
      const path = all("path", part)[0], box = path && path.getBBox();
      const x = values(part.dataset.x), y = values(part.dataset.y);
      const scale = (text, start, size) => {
        const at = text.map(plain), low = Math.min(...at), width = Math.max(...at) - low || 1;
        return at.map((value) => start + ((value - low) / width) * size);
      };
      if (!box) return null;
      const across = scale(x, box.x, box.width);
      const up = scale(y, -box.y - box.height, box.height).map((value) => -value);
      const date = (day) => new Date(plain(day) * 864e5).toISOString().slice(0, 10);
      return { x: part.dataset.dates ? x.map(date) : x, y, across, up, name: part.dataset.name, of: part.dataset.of };
    }).filter(Boolean);
    if (!curves.length) return;
    const svg = all("svg", picture)[0], dot = document.createElementNS(SVG, "circle");
    const told = make("p", "", "told");
    told.setAttribute("role", "status");
    dot.setAttribute("r", 2.6);
    dot.setAttribute("class", "dot");
    svg.append(dot);
    picture.after(told);
    let curve = 0, point = -1;
    function tell() {
      const { x, y, across, up, name, of } = curves[curve];
      dot.setAttribute("cx", across[point]);
      dot.setAttribute("cy", up[point]);
      dot.style.visibility = "visible";
      told.textContent = `${name} ${x[point]}: ${y[point]}${of ? ` (${of})` : ""}`;
    }
    function hide() {
      dot.style.visibility = "hidden";
      told.textContent = "";
    }
    picture.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let least = Infinity;
      curves.forEach(({ across, up }, k) => across.forEach((x, i) => {
        const left = Math.min(across[0], across[across.length - 1]);
        const beside = at.x < left - 8 || at.x > Math.max(across[0], across[across.length - 1]) + 8;
        const far = beside ? Infinity : Math.abs(x - at.x) + Math.abs(up[i] - at.y) / 20;
        if (far < least) [least, curve, point] = [far, k, i];
      }));
      if (least < 30) tell();
      else hide();
    });
    picture.addEventListener("pointerleave", hide);
    picture.addEventListener("blur", hide);
    picture.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], PageDown: [0, 1], PageUp: [0, -1] };
      const step = steps[event.key], last = () => curves[curve].x.length - 1;
      if (!step || event.target !== picture) return;
      event.preventDefault();
      const [along, over] = step;
      curve = (curve + over + curves.length) % curves.length;
      point = point < 0 ? Math.floor(last() / 2) : point + along * Math.max(1, Math.round(last() / 50));
      point = Math.min(Math.max(point, 0), last());
      tell();
    });
  }
  all(".picture").forEach(readable);

  // The network: zoom, and what leads through a node or an edge.
  function follow(map) {
    const parts = all("[data-e]", map).map((part) => {
      const [level, first, second] = part.dataset.e.split("-").map(Number);
      return { part, level, first, second };
    });
    const edges = parts.filter((one) => one.second !== undefined);
    const id = (level, unit) => `${level} ${unit}`;
    function through({ level, first, second }) { // nodes and edges from inputs to outputs
      const up = new Set([id(second === undefined ? level : level + 1, second ?? first)]);
      const down = new Set([id(level, first)]), top = Math.max(...edges.map((one) => one.level));
      const on = (one) => one.second === undefined
        ? up.has(id(one.level, one.first)) || down.has(id(one.level, one.first))
        : one.level >= level + (second !== undefined)
          ? up.has(id(one.level, one.first))
          : one.level === level
            ? one.first === first && one.second === second
            : down.has(id(one.level + 1, one.second));
      for (let k = level; k <= top; k++) {
        edges.filter((one) => one.level === k && up.has(id(k, one.first)))
          .forEach((one) => up.add(id(k + 1, one.second)));
      }
      for (let k = level - 1; k >= 0; k--) {
        edges.filter((one) => one.level === k && down.has(id(k + 1, one.second)))
          .forEach((one) => down.add(id(k, one.first)));
      }
      return on;
    }
    const clear = () => map.classList.remove("traced");
    const show = (event) => {
      const found = event.target.closest("[data-e]");
      const chosen = parts.find((one) => one.part === found);
      if (!chosen) return clear();
      const on = through(chosen);
      parts.forEach((one) => one.part.classList.toggle("on", on(one)));
      map.classList.add("traced");
    };
    map.addEventListener("pointerover", show);
    map.addEventListener("focusin", show);
    map.addEventListener("pointerleave", clear);
    map.addEventListener("focusout", clear);
    const links = all("a", map); // one tab stop; arrow keys go on from there
    links.forEach((link, k) => {
      link.setAttribute("tabindex", k ? -1 : 0);
      link.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        const next = links[k + step];
        if (!next) return;
        event.preventDefault();
        links.forEach((one) => one.setAttribute("tabindex", one === next ? 0 : -1));
        next.focus();
      });
    });
  }
  function zoomable(picture) {
    const [svg] = all("svg", picture), bar = make("p", undefined, "filters");
    if (!svg) return;
    const natural = parseFloat(svg.style.width);
    let zoom = 1;
    function to(size) {
      zoom = Math.min(Math.max(size, 0.5), 8);
      const before = svg.clientWidth, middle = picture.clientWidth / 2;
      const width = zoom === 1 ? natural : Math.min(natural, picture.clientWidth) * zoom;
      svg.style.width = `${width}px`;
      svg.style.maxWidth = zoom === 1 ? "" : "none";
      svg.style.minWidth = zoom === 1 ? svg.dataset.least : "0";
      picture.scrollLeft = ((picture.scrollLeft + middle) * svg.clientWidth) / before - middle;
      said.textContent = zoom === 1 ? "" : percent(zoom);
    }
    svg.dataset.least = svg.style.minWidth;
    const said = make("span", "", "small");
    said.setAttribute("role", "status");
    const ways = { "+": 1.5, "-": 1 / 1.5, 0: 0 };
    [["+", "Larger"], ["-", "Smaller"], ["0", "Reset"]].forEach(([key, text]) => {
      const button = make("button", text);
      button.type = "button";
      button.addEventListener("click", () => to(ways[key] ? zoom * ways[key] : 1));
      bar.append(button);
    });
    bar.append(said);
    picture.before(bar);
    picture.addEventListener("keydown", (event) => {
      if (!(event.key in ways) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      to(ways[event.key] ? zoom * ways[event.key] : 1);
    });
    picture.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      to(zoom * 2 ** (-event.deltaY / 300));
    }, { passive: false });
    follow(svg);
  }
  all("#network .picture").forEach(zoomable);

  // The model: sums of piecewise polynomials and elementary functions, and their products.
  const source = get("panel");
  if (!source) return;
  const nested = ([size, ...rest], next) =>
    size === undefined ? next() : Array.from({ length: size }, () => nested(rest, next));
  const panel = JSON.parse(source.textContent, (key, value) => {
    if (!value || !value.float64) return value;
    const bytes = Uint8Array.from(atob(value.float64), (c) => c.charCodeAt(0));
    let place = 0;
    const numbers = new DataView(bytes.buffer);
    return nested(value.shape, () => numbers.getFloat64(8 * place++, true));
  });
  const [low, high, shift, scale, outShift, outScale] = panel.network.scaling;
  function layer(one, u) {
    const y = one.bias.slice();
    (one.breaks || []).forEach((breaks, i) => {
      let piece = 0;
      while (piece < breaks.length && u[i] >= breaks[piece]) piece++;
      const powers = one.powers[i][piece], t = u[i] - breaks[Math.max(piece - 1, 0)];
      for (let out = 0; out < y.length; out++) {
        let sum = 0;
        for (let k = powers.length - 1; k >= 0; k--) sum = sum * t + powers[k][out];
        y[out] += sum;
      }
    });
    for (const { g, inputs, a, b, weights } of one.terms) {
      inputs.forEach((i, k) => {
        const value = FUNCTIONS[g](a[k] * u[i] + b[k]);
        weights[k].forEach((weight, out) => { if (weight) y[out] += weight * value; });
      });
    }
    const product = (members) => members.reduce((made, m) => made * y[m], 1);
    return one.members.map((members, k) => product(members) * one.scale[k] + one.shift[k]);
  }
  function predict(x) {
    let u = x.map((value, i) => {
      let held = low[i] !== null && value < low[i] ? low[i] : value;
      if (high[i] !== null && held > high[i]) held = high[i];
      return (held - shift[i]) / scale[i];
    });
    for (const one of panel.network.layers) u = layer(one, u);
    return u.map((value, k) => value * outScale[k] + outShift[k]);
  }
  function chances(logits) {
    const full = logits.length === 1 ? [0, logits[0]] : logits, top = Math.max(...full);
    const sizes = full.map((value) => Math.exp(value - top)), sum = sizes.reduce((a, b) => a + b);
    return sizes.map((size) => size / sum);
  }

  // What each of n features did: the Shapley values of a function of which ones are there.
  const EXACT = 8;
  function shares(n, value) {
    const found = new Array(n).fill(0);
    if (n <= EXACT) {
      const values = Array.from({ length: 1 << n }, (_, set) => value((i) => (set >> i) & 1));
      const weights = [1 / n];
      for (let size = 1; size < n; size++) weights.push((weights[size - 1] * size) / (n - size));
      values.forEach((before, set) => {
        let size = 0;
        for (let i = 0; i < n; i++) size += (set >> i) & 1;
        for (let i = 0; i < n; i++) {
          if (!((set >> i) & 1)) found[i] += weights[size] * (values[set | (1 << i)] - before);
        }
      });
      return found;
    }
    let fore = value(() => 0), back = fore;
    for (let k = 0; k < n; k++) {
      const next = value((i) => i <= k), last = value((i) => i >= n - 1 - k);
      found[k] += (next - fore) / 2;
      found[n - 1 - k] += (last - back) / 2;
      fore = next;
      back = last;
    }
    return found;
  }

  // How far the page is from Python.
  const told = panel.check.y.flat(), size = Math.max(...told.map(Math.abs)) || 1;
  const off = Math.max(...panel.check.x.flatMap(predict).map((value, k) => {
    const gap = Math.abs(value - told[k]) / size;
    return Number.isNaN(gap) ? Infinity : gap;
  }));
  const badge = get("badge"), rows = panel.check.y.length;
  badge.dataset.value = off;
  const far = off === 0 ? "0" : number(off, 1);
  badge.textContent = off < 1e-9
    ? `The model runs in this browser. Its outputs differ from Python (same weights, float64) by at ` +
      `most ${far} of the largest output, on ${rows} rows: inside the data, at knots, at both ` +
      "ends of the ranges and beyond."
    : `Do not trust these numbers: this browser differs from Python by ${far} of the largest output.`;
  badge.classList.toggle("bad", !(off < 1e-9));

  // The what-if panel.
  const classes = panel.labels.length > 0;
  const x = panel.reference.slice();
  let explained = panel.target;
  const controls = panel.controls.map((one, k) => {
    const box = all(`[data-control="${k}"]`)[0];
    const [slider] = all("[type=range]", box), [beyond] = all(".beyond", box);
    return { ...one, field: get(`set-${k}`), slider, beyond };
  });
  const same = (a, b) => a.every((value, k) => value === b[k]);
  const at = (one, where) => one.columns.map((column) => where[column]);
  const code = (one, where) => one.codes.findIndex((values) => same(values, at(one, where)));
  function position(one, k) {
    if (k <= 0) return one.low;
    if (k >= one.steps) return one.high;
    const value = Number((one.low + ((one.high - one.low) * k) / one.steps).toFixed(one.places));
    return Math.min(Math.max(value, one.low), one.high);
  }
  function word(one, where) {
    const value = where[one.columns[0]];
    if (one.blank && where[one.columns[1]] === 1) return "missing";
    if (!one.codes) {
      const text = number(value);
      return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
    }
    const k = code(one, where);
    return k < 0 ? "as in the row" : one.labels[k];
  }
  function show(one, typing) {
    const value = x[one.columns[0]];
    if (one.codes) {
      const k = code(one, x);
      one.field.value = k < 0 ? "" : k;
      return;
    }
    if (!typing) one.field.value = word(one, x) === "missing" ? "" : Number(value.toPrecision(6));
    const width = one.high - one.low;
    one.slider.value = width ? Math.round(((value - one.low) / width) * one.steps) : 0;
    one.slider.setAttribute("aria-valuetext", unit(word(one, x), one.unit));
    one.beyond.hidden = !(value < one.low || value > one.high);
  }
  function set(one, values, typing) {
    one.columns.forEach((column, k) => (x[column] = values[k]));
    show(one, typing);
    render();
  }
  function fill(row, text) {
    row.forEach((value, column) => (x[column] = value));
    controls.forEach((one) => show(one));
    get("from").textContent = text;
    render();
  }

  const ordered = (outputs) => (panel.ordered ? [...outputs].sort((a, b) => a - b) : outputs);

  // Values outside the data: of one column, and of two that no row comes near together.
  const { names, places, rows: kept, expected, range } = panel.support;
  const rank = (value, i) => kept.reduce((sum, row) => sum + (row[i] < value) + (row[i] <= value), 0) / 2;
  const ranks = kept.map((row) => row.map(rank)), most = Math.sqrt(expected * kept.length) + 1e-7;
  function unsupported() { // in the words of kanlens.predict
    const off = (i) => range[0][i] !== null && (x[i] < range[0][i] || x[i] > range[1][i]);
    const alone = places.map((place) => place.some(off)), own = x.map(rank);
    const near = places.map((place) => ranks.map((row) => place.every((i) => Math.abs(row[i] - own[i]) <= most)));
    const counts = near.map((rows) => rows.filter(Boolean).length), pairs = [];
    names.forEach((a, i) => names.slice(0, i).forEach((b, j) => {
      const judged = !alone[i] && !alone[j] && counts[i] * counts[j] >= expected * kept.length;
      if (judged && kept.length && !near[i].some((one, row) => one && near[j][row])) pairs.push([j, i]);
    }));
    pairs.sort(([a, b], [c, d]) => a - c || b - d);
    const single = names.filter((_, i) => alone[i]), both = pairs.map(([a, b]) => `${names[a]} x ${names[b]}`);
    const told = [
      [single, `${single.length} of ${names.length} features`],
      [both, `${both.length} pair${both.length === 1 ? "" : "s"}`],
    ];
    return told.filter(([found]) => found.length)
      .map(([found, text]) => `${text} (${found.slice(0, 5).join(", ")})`).join(" and ");
  }

  function answer(now, before) {
    const [label, value, more, beyond] = all("p", get("answer"));
    const output = panel.outputs[explained], here = now[explained], there = before[explained];
    get("answer").dataset.value = now.join(" ");
    if (classes) {
      const k = now.length === 1 ? 1 : explained;
      label.textContent = `Probability of ${panel.labels[k]}`;
      value.textContent = percent(chances(now)[k]);
      const reference = `${percent(chances(before)[k])}, ${number(there)}`;
      more.textContent = `${output.unit} ${number(here)}; reference ${reference}`;
    } else {
      label.textContent = output.name;
      value.textContent = Number.isFinite(here) ? unit(number(here), output.unit) : "not finite";
      more.textContent = `reference ${number(there)}, change ${signed(here - there)}`;
      if (panel.response) {
        const times = number(Math.exp(here - there), 3);
        more.append(make("br"), `${panel.response} ${number(Math.exp(here))}, ${times} times that of the reference`);
      }
    }
    if (panel.widths && Number.isFinite(here)) {
      const k = panel.widths.length > 1 ? explained : 0, half = panel.widths[k];
      const likely = panel.labels.filter((_, place) => chances(now)[place] >= half);
      const [lower, upper] = panel.ends.map((from) => ordered(now)[from[k]]);
      const ends = panel.response
        ? [Math.max(0, Math.exp(lower) - half), Math.exp(upper) + half] : [lower - half, upper + half];
      const interval = `interval: ${ends.map((end) => number(end)).join(" to ")}`;
      more.append(make("br"), `90% ${classes ? `set: ${likely.join(", ") || "none"}` : interval}`);
    }
    const far = unsupported();
    beyond.textContent = far && `Outside the data: ${far}`;
    if (!get("outputs")) return;
    const [p, q] = [now, before].map(classes ? chances : ordered);
    const logits = now.length === 1 ? [-now[0], now[0]] : now;
    [...get("outputs").rows].forEach((row, k) => {
      row.cells[1].textContent = classes ? percent(p[k]) : unit(number(p[k]), panel.outputs[k].unit);
      row.cells[1].dataset.value = p[k];
      row.cells[2].textContent = classes ? percent(q[k]) : number(q[k]);
      if (classes) row.cells[3].textContent = number(logits[k]);
      row.classList.toggle("chosen", classes && p[k] === Math.max(...p));
    });
  }
  const SHOWN = 12;
  function effects() { // [name, what changed, effect] of every changed feature, the largest first
    const changed = controls.filter((one) => !same(at(one, x), at(one, panel.reference)));
    const mixed = (there) => {
      const row = panel.reference.slice();
      changed.forEach((one, i) => there(i) && one.columns.forEach((k) => (row[k] = x[k])));
      return predict(row)[explained];
    };
    const found = changed.length ? shares(changed.length, mixed) : [];
    const parts = changed.map((one, i) => {
      return [one.name, `${word(one, panel.reference)} \u2192 ${word(one, x)}`, found[i]];
    });
    return parts.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2]));
  }
  function explain(count, defined) {
    if (!defined) return "The model is not finite on some combinations of the two rows.";
    if (!count) return "Every feature is at the reference. Change one to see its contribution.";
    const { name, unit: measured } = panel.outputs[explained];
    const features = `each of ${count} changed feature${count > 1 ? "s" : ""}`;
    const how = count <= EXACT
      ? "exact Shapley values, from every combination of the two rows."
      : "the mean of changing them in the order of the columns and in reverse, since Shapley " +
        `values of more than ${EXACT} features take too many combinations.`;
    const other = classes ? "odds" : panel.response;
    const factor = other ? ` The exp of a contribution is a factor of the ${other}.` : "";
    return `Contribution of ${features} to ${name}${measured ? ` (${measured})` : ""}: ${how}${factor}`;
  }
  function fall(now, before) {
    const lines = effects(), count = lines.length;
    const rest = lines.splice(SHOWN).reduce((sum, [, , effect]) => sum + effect, 0);
    if (count > SHOWN) lines.push([`${count - SHOWN} others`, "", rest]);
    const ends = [before];
    lines.forEach(([, , effect], i) => ends.push(ends[i] + effect));
    const least = Math.min(...ends), width = Math.max(...ends) - least || 1;
    const row = (name, detail, from, to, kind) => {
      const line = make("tr", undefined, kind), head = make("th"), mark = make("span");
      head.scope = "row";
      head.append(make("span", name));
      if (detail) head.append(make("span", detail, "detail"));
      mark.style.marginLeft = `${(100 * (Math.min(from, to) - least)) / width}%`;
      mark.style.width = `${(100 * Math.abs(to - from)) / width}%`;
      const bar = make("td", undefined, "bar"), ended = kind === "end";
      bar.append(mark);
      const effect = make("td", ended ? number(to) : signed(to - from), "n");
      effect.dataset.value = ended ? to : to - from;
      line.append(head, bar, effect);
      return line;
    };
    const defined = ends.every(Number.isFinite), made = defined ? lines : [];
    get("fall").replaceChildren(
      row("Reference", "", before, before, "end"),
      ...made.map(([name, detail, effect], i) => {
        return row(name, detail, ends[i], ends[i + 1], effect < 0 ? "minus" : "plus");
      }),
      row("Now", "", now, now, "end"));
    const [caption] = all("caption", get("fall").parentElement);
    caption.textContent = explain(count, defined);
  }
  function render() {
    const now = predict(x), before = predict(panel.reference);
    answer(now, before);
    fall(now[explained], before[explained]);
  }

  controls.forEach((one) => {
    if (one.codes) {
      one.field.addEventListener("change", () => set(one, one.codes[one.field.value]));
      return;
    }
    const given = (value) => (one.blank ? [value, 0] : [value]);
    one.slider.addEventListener("input", () => {
      set(one, given(position(one, Number(one.slider.value))));
    });
    one.field.addEventListener("input", () => {
      const value = one.field.valueAsNumber;
      if (Number.isFinite(value)) set(one, given(value), true);
      else if (one.blank && !one.field.validity.badInput) set(one, one.blank, true);
    });
    one.field.addEventListener("change", () => show(one));
  });
  get("reset").addEventListener("click", () => fill(panel.reference, ""));
  if (get("explained")) {
    get("explained").addEventListener("change", (event) => {
      explained = Number(event.target.value);
      render();
    });
  }
  all("[data-row]").forEach((button) => {
    button.addEventListener("click", () => {
      fill(panel.rows[button.dataset.row], all("h3", button.closest("article"))[0].textContent);
      all("#what-if h2")[0].focus({ preventScroll: true });
      get("what-if").scrollIntoView();
    });
  });
  all("#what-if .dead").forEach((one) => (one.hidden = true));
  all(".live").forEach((one) => (one.hidden = false));
  fill(panel.reference, "");
})();
