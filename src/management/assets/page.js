// The live page: one stream of snapshots and changes from /cache/live, and the three things that can be done by hand.

const SECONDS = 10; // what the table shows
const KEPT = 120; // what the lines show
const $ = (id) => document.getElementById(id);
const token = () => sessionStorage.getItem("management-token");
const headers = () => (token() ? { authorization: `Bearer ${token()}` } : {});
const snapshots = [];

// ---- the stream

const SILENCE = 4000; // without a snapshot for so long, what is shown may be true no longer

async function follow() {
  for (;;) {
    const line = new AbortController();
    try {
      const response = await fetch("cache/live", { headers: headers(), cache: "no-store", signal: line.signal });
      if (response.status === 401) return ask();
      if (!response.ok) throw new Error(`status ${response.status}`);
      if (!$("policies").childElementCount) await showPolicies();
      await read(response.body, line);
    } catch (error) {
      say(`not connected (${line.signal.reason?.message ?? error.message}), trying again`, "bad");
    }
    line.abort();
    await new Promise((later) => setTimeout(later, 1000));
  }
}

async function read(body, line) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const silence = setTimeout(() => line.abort(new Error("it is silent")), SILENCE);
    const { value, done } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const field = (name) => event.split("\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
      if (field("event") === "snapshot") {
        show(JSON.parse(field("data")));
        say("live", "good");
      }
      if (field("event") === "change") showChange(JSON.parse(field("data")));
    }
  }
}

function say(text, state) {
  $("connection").textContent = text;
  $("connection").className = state;
  document.body.classList.toggle("cut-off", state !== "good");
}

function ask() {
  say("a token is needed", "warn");
  $("token-form").hidden = false;
  $("token-form").onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("management-token", $("token").value);
    $("token-form").hidden = true;
    follow();
  };
}

// ---- what it shows

function show(snapshot) {
  const [own] = snapshot.instances;
  // Counts begin anew with a new instance.
  if (snapshots.at(-1)?.instances[0].id !== own.id) snapshots.length = 0;
  snapshots.push({ at: performance.now() / 1000, ...snapshot });
  while (snapshots.length > KEPT + 1) snapshots.shift();
  const { stats } = snapshot;
  put("is-current", stats.is_current ? "in use" : "not in use", stats.is_current ? "good" : "bad");
  put("poll-age", stats.poll_age_ms === null ? "never" : `${stats.poll_age_ms} ms ago`);
  put("breaker", ...redis(stats.l2_breaker, stats.memory.some(({ tier }) => tier === "l2")));
  put("floors", count(stats.floors));
  put("checked", count(stats.served_checked));
  put("stale", count(stats.stale_served), stats.stale_served ? "bad" : "good");
  showFlow();
  showPatterns(snapshot);
  showInstances(snapshot.instances);
  showMemory(stats.memory);
}

// The breaker learns only from calls, so an idle instance knows it from the polls of the memory.
function redis(breaker, memoryKnown) {
  if (breaker === null) return ["none", ""];
  if (breaker !== "closed") return ["skipped", "bad"];
  return memoryKnown ? ["in use", "good"] : ["doesn’t answer", "warn"];
}

function put(id, text, state = "") {
  $(id).textContent = text;
  $(id).className = state;
}

const TIERS = {
  l1: ["l1_hit"], l2: ["l2_hit"], joined: ["collapsed"], other: ["stale", "not_cached", "failed"],
};
const tierOf = (outcome) => Object.keys(TIERS).find((tier) => TIERS[tier].includes(outcome)) ?? "load";

// Reads by tier between two snapshots, of one pattern or of all.
function reads(from, to, pattern) {
  const sum = { l1: 0, l2: 0, joined: 0, load: 0, other: 0 };
  for (const name of pattern ? [pattern] : Object.keys(to.stats.patterns)) {
    const before = from.stats.patterns[name]?.outcomes ?? {};
    for (const [outcome, n] of Object.entries(to.stats.patterns[name].outcomes)) sum[tierOf(outcome)] += n - (before[outcome] ?? 0);
  }
  return { ...sum, all: Object.values(sum).reduce((a, b) => a + b, 0) };
}

function lately() {
  const to = snapshots.at(-1);
  const from = snapshots.findLast((one) => to.at - one.at >= SECONDS) ?? snapshots[0];
  return { from, to, seconds: Math.max(to.at - from.at, 1) };
}

function showFlow() {
  const { from, to, seconds } = lately();
  const seen = reads(from, to);
  for (const tier of ["all", "l1", "l2", "joined", "load", "other"]) {
    $(`flow-${tier}`).textContent = rate(seen[tier] / seconds);
    $(`flow-${tier}`).parentElement.style.setProperty("--part", seen.all ? (100 * seen[tier]) / seen.all : 0);
  }
}

function showPatterns({ stats, latency, bounds_us }) {
  const { from, to, seconds } = lately();
  for (const pattern of Object.keys(stats.patterns)) {
    const row = rowOf(pattern);
    const seen = reads(from, to, pattern);
    const counts = latency[pattern].map((n, at) => n - (from.latency[pattern]?.[at] ?? 0));
    const cells = [rate(seen.all / seconds), ratio(seen), null, quantile(counts, bounds_us, 0.5), quantile(counts, bounds_us, 0.99),
      rate(seen.load / seconds), bytes(stats.patterns[pattern].l1_bytes)];
    cells.forEach((text, at) => { if (text !== null) row.cells[at + 1].textContent = text; });
    row.querySelector("polyline").setAttribute("points", line(pattern));
  }
}

function rowOf(pattern) {
  const id = `pattern-${pattern}`;
  if ($(id)) return $(id);
  const row = $("patterns").insertRow();
  row.id = id;
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = pattern;
  row.append(head);
  for (let at = 0; at < 7; at += 1) row.insertCell();
  row.cells[3].innerHTML = '<svg viewBox="0 0 100 20" preserveAspectRatio="none" role="img" aria-label="hit ratio over two minutes"><polyline/></svg>';
  $("pattern").add(new Option(pattern));
  return row;
}

const hits = (seen) => (seen.all ? (seen.l1 + seen.l2) / seen.all : null);
const percent = (part) => `${(100 * part).toFixed(1)} %`;
const ratio = (seen) => (seen.all ? percent(hits(seen)) : "–");

// The hit ratio of each second that had reads; the last second is on the right.
function line(pattern) {
  const points = [];
  for (let at = 1; at < snapshots.length; at += 1) {
    const part = hits(reads(snapshots[at - 1], snapshots[at], pattern));
    if (part !== null) points.push(`${100 - (100 * (snapshots.length - 1 - at)) / KEPT},${19 - 18 * part}`);
  }
  return points.join(" ");
}

// The upper bound of the bucket in which this part of the reads ends.
function quantile(counts, bounds, part) {
  const all = counts.reduce((a, b) => a + b, 0);
  if (!all) return "–";
  let below = 0;
  const at = counts.findIndex((n) => (below += n) >= part * all);
  return at < bounds.length ? `≤ ${time(bounds[at])}` : `> ${time(bounds.at(-1))}`;
}

// An instance that has not been heard of for a few exchanges is gone, or has lost the database.
const SILENT_MS = 10_000;

function showInstances(instances) {
  $("instances").replaceChildren(...instances.map((one) => {
    const silent = one.heard_ms > SILENT_MS;
    const state = silent ? [instances[0].is_current ? `silent for ${time(1000 * one.heard_ms)}` : "not known: no database", "bad"] : [one.phase, one.phase === "ready" ? "good" : "warn"];
    const tiers = one.is_current ? ["in use", "good"] : ["not in use", "bad"];
    const memory = one.l2_memory ?? "unknown";
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: one.this ? `${one.name} (this one)` : one.name, title: `version ${one.version}` }));
    const cells = [[one.region, ""], state, tiers, [one.poll_age_ms == null ? "never" : `${one.poll_age_ms} ms ago`, ""],
      redis(one.l2_breaker ?? null, one.l2_memory != null), [memory, { warning: "warn", critical: "bad" }[memory] ?? ""], [count(one.reads), ""], [one.reads ? percent(one.hits / one.reads) : "–", ""],
      [count(one.stale_served), one.stale_served ? "bad" : ""]];
    for (const [text, look] of cells) Object.assign(row.insertCell(), { textContent: text, className: look });
    row.className = silent ? "silent" : "";
    return row;
  }));
}

function showMemory(memory) {
  const list = $("memory");
  list.replaceChildren(...memory.map(({ tier, node, used_bytes, limit_bytes, state }) => {
    const part = limit_bytes ? Math.min(100, (100 * used_bytes) / limit_bytes) : 0;
    const item = document.createElement("li");
    const name = tier === "l1" ? "L1, this process" : `Redis ${node}`;
    const size = limit_bytes ? `${bytes(used_bytes)} of ${bytes(limit_bytes)}: ${part.toFixed(0)} %, ${state}` : `${bytes(used_bytes)}; no limit is set`;
    item.className = { normal: "good", warning: "warn", critical: "bad" }[state];
    item.innerHTML = '<p><span></span><span></span></p><div class="bar" role="meter" aria-valuemin="0" aria-valuemax="100"><i></i></div>';
    [...item.querySelectorAll("span")].forEach((span, at) => { span.textContent = [name, size][at]; });
    const bar = item.querySelector(".bar");
    bar.setAttribute("aria-label", name);
    bar.setAttribute("aria-valuenow", part.toFixed(0));
    bar.querySelector("i").style.width = `${part}%`;
    return item;
  }));
  if (!memory.some(({ tier }) => tier === "l2")) {
    list.append(Object.assign(document.createElement("li"), { className: "warn", textContent: "There is no Redis, or it doesn’t say how full it is." }));
  }
}

function showChange({ name, missed }) {
  const list = $("changes");
  list.querySelector(".empty")?.remove();
  const item = document.createElement("li");
  item.textContent = `${new Date().toLocaleTimeString()}  ${name ?? `${missed} more`}`;
  list.prepend(item);
  while (list.childElementCount > 100) list.lastChild.remove();
}

async function showPolicies() {
  const policies = await (await fetch("cache/policies", { headers: headers() })).json();
  const names = Object.keys(policies[0] ?? {});
  const cells = (values, kind) => values.map((value) => Object.assign(document.createElement(kind), { textContent: value }));
  const row = (values, kind) => { const tr = document.createElement("tr"); tr.append(...cells(values, kind)); return tr; };
  $("policies-head").replaceChildren(row(names.map((name) => name.replaceAll("_", " ")), "th"));
  // What has a part of its own, {"regional": "no_store"}, is told in words.
  const words = (value) => (value && typeof value === "object" ? Object.entries(value).flat().join(", ").replaceAll("_", " ") : value);
  $("policies").replaceChildren(...policies.map((policy) => row(names.map((name) => words(policy[name])), "td")));
}

// An instance of another version may not say all that is shown.
const count = (n) => (n ?? "–").toLocaleString("en");
const rate = (n) => (n >= 10 || n === 0 ? count(Math.round(n)) : n.toFixed(1));
const three = (n) => Number(n.toPrecision(3));
const time = (us) => (us >= 1e6 ? `${three(us / 1e6)} s` : us >= 1000 ? `${three(us / 1000)} ms` : `${us} µs`);
const bytes = (n) => (n >= 1 << 20 ? `${(n / (1 << 20)).toFixed(1)} MiB` : `${(n / 1024).toFixed(0)} KiB`);

// ---- by hand

async function order(question, path, body) {
  if (await sure(question)) await tell(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

async function tell(path, request = {}) {
  $("done").textContent = "…";
  try {
    const response = await fetch(path, { ...request, headers: { ...headers(), ...request.headers } });
    $("done").textContent = await response.text();
  } catch (error) {
    $("done").textContent = `No answer (${error.message}): whether it was done isn’t known.`;
  }
}

function sure(question) {
  $("sure-text").textContent = question;
  $("sure").returnValue = "no";
  $("sure").showModal();
  return new Promise((answer) => {
    $("sure").onclose = () => answer($("sure").returnValue === "yes");
  });
}

$("warm").onclick = () => order("Load the most viewed products into the tiers? It costs Postgres a few queries.", "cache/warm", null);
$("invalidate-form").onsubmit = (event) => {
  event.preventDefault();
  const pattern = $("pattern").value;
  order(`Invalidate everything under “${pattern}” on every instance? The next reads of it go to Postgres.`, "cache/invalidate", { pattern });
};
$("entry-form").onsubmit = (event) => {
  event.preventDefault();
  tell(`cache/entry?name=${encodeURIComponent($("entry-name").value)}`);
};

follow();
