// The live page: one stream of snapshots and changes from /cache/live, and the few things that can be done by hand.
import { add, begin, draw, sums } from "./chart.js";
import { watch } from "./key.js";
import { follow, headers } from "./stream.js";
import { $, ago, bytes, count, make, millis, percent, put, quantile, rate, time } from "./words.js";

const SECONDS = 10; // for the table of types
const snapshots = [];

function show(snapshot) {
  const [own] = snapshot.instances;
  // Counts start from zero with a new instance.
  if (snapshots.at(-1)?.instances[0].id !== own.id) snapshots.length = 0;
  snapshots.push({ at: performance.now() / 1000, ...snapshot });
  while (snapshots.length > SECONDS + 1) snapshots.shift();
  add(snapshot.seconds);
  put("own-name", own.name);
  showHeadline(snapshot.headline);
  showNumbers(snapshot);
  draw(snapshot.events);
  showFlow(snapshot);
  showInstances(snapshot.instances);
  showTypes(snapshot);
  showMemory(snapshot.stats.memory);
  watch(snapshot);
  if (!$("policies").childElementCount) showPolicies().catch(() => {});
}

const LOOK = { good: ["good", "✓"], warning: ["warn", "!"], bad: ["bad", "✕"] };

function showHeadline({ state, short, text, meaning }) {
  const [look, icon] = LOOK[state];
  $("headline").className = `headline ${look}`;
  put("icon", icon);
  put("sentence", text);
  put("meaning", meaning);
  document.title = `${icon} ${short} · Aside`;
  // Its counts change every second; a screen reader is told of another state only.
  if ($("spoken").dataset.short !== state + short) {
    $("spoken").dataset.short = state + short;
    put("spoken", text);
  }
}

function showNumbers({ stats, arrivals }) {
  put("stale", count(stats.stale_served), stats.stale_served ? "bad" : stats.served_checked ? "good" : "");
  put("checked", stats.served_checked ? `of ${count(stats.served_checked)} answers that were compared with Postgres` : "no answer has been compared with Postgres yet");
  const promised = stats.max_staleness_ms;
  if (arrivals.changes) {
    put("arrival", millis(arrivals.median_ms));
    put("arrival-more", `median · 99 %: ${millis(arrivals.p99_ms)} · worst: ${millis(arrivals.worst_ms)} · promised: ${promised} ms`);
  }
  for (const [id, ms] of [["scale-median", arrivals.median_ms], ["scale-p99", arrivals.p99_ms], ["scale-worst", arrivals.worst_ms]]) {
    $(id).style.width = `${Math.min(100, (100 * ms) / promised)}%`;
  }
  const seen = sums();
  const asked = seen.load + seen.failed;
  if (seen.all) {
    put("without", percent((seen.all - asked) / seen.all));
    put("saved", `${count(seen.all - asked)} queries saved in the last five minutes`);
  }
}

function showFlow({ stats }) {
  const seen = sums(SECONDS);
  const answered = (n) => `answered ${rate(n / seen.seconds)}/s${seen.all ? `, ${percent(n / seen.all)}` : ""}`;
  const box = (id, state, look, share) => {
    $(id).classList.toggle("down", look === "bad");
    put($(id).querySelector(".state"), state, look);
    put($(id).querySelector(".share"), share);
  };
  const current = stats.is_current;
  box("flow-l1", current ? "✓ in use" : "! only stale answers, each flagged", current ? "good" : "warn", answered(seen.l1 + seen.joined + seen.stale));
  const [text, look] = redis(stats.l2_breaker, stats.memory.some(({ tier }) => tier === "l2"));
  const mark = { good: "✓", bad: "✕" }[look] ?? "–";
  box("flow-l2", current || look !== "good" ? `${mark} ${text}` : "! not used without Postgres", current || look !== "good" ? look : "warn", answered(seen.l2));
  box("flow-load", current ? `✓ up, ledger polled ${ago(stats.poll_age_ms)}` : `✕ unreachable, last polled ${ago(stats.poll_age_ms)}`, current ? "good" : "bad",
    seen.failed ? `${answered(seen.load)}; ${count(seen.failed)} failed` : answered(seen.load));
}

// The breaker learns only from calls, so an idle instance knows it from the polls of the memory.
function redis(breaker, memoryKnown) {
  if (breaker == null) return ["there is none", ""];
  if (breaker !== "closed") return ["down, skipped", "bad"];
  return memoryKnown ? ["up", "good"] : ["does not answer", "bad"];
}

function lately() {
  const to = snapshots.at(-1);
  const from = snapshots[0];
  return { from, to, seconds: Math.max(to.at - from.at, 1) };
}

function cell(row, column, text, look = "") {
  const made = row.insertCell();
  made.textContent = text;
  made.className = look;
  made.dataset.column = column;
}

function showTypes({ stats, latency, bounds_us }) {
  const { from, to, seconds } = lately();
  const rows = Object.entries(stats.patterns).map(([name, now]) => {
    const before = from.stats.patterns[name] ?? { reads: 0, hits: 0, outcomes: {} };
    const [reads, hits] = [now.reads - before.reads, now.hits - before.hits];
    const loads = (of) => Object.entries(of.outcomes).reduce((sum, [outcome, n]) => (isLoad(outcome) ? sum + n : sum), 0);
    const counts = latency[name].map((n, at) => n - (from.latency[name]?.[at] ?? 0));
    const part = (of) => { const us = quantile(counts, bounds_us, of); return us === null ? "–" : time(us); };
    const row = make("tr", { id: `type-${name}` }, make("th", { scope: "row", textContent: name }));
    cell(row, "reads/s", rate(reads / seconds));
    cell(row, "hit ratio", reads ? percent(hits / reads) : "–");
    cell(row, "median", part(0.5));
    cell(row, "99 %", part(0.99));
    cell(row, "loads/s", rate((loads(now) - loads(before)) / seconds));
    cell(row, "in memory", bytes(now.l1_bytes));
    return row;
  });
  $("types").replaceChildren(...rows);
  if (!$("pattern").length) $("pattern").append(...Object.keys(to.stats.patterns).map((name) => new Option(name)));
}

const isLoad = (outcome) => !["l1_hit", "l2_hit", "collapsed", "stale", "not_cached", "failed"].includes(outcome);

// An instance that has not been heard of for a few exchanges is gone, or has lost the database.
const SILENT_MS = 10_000;

function stateOf(one, mayKnow) {
  if (one.heard_ms > SILENT_MS) return mayKnow ? [`silent for ${millis(one.heard_ms)}`, "bad"] : ["not known: no database", "warn"];
  if (one.phase !== "ready") return [one.phase, "warn"];
  if (!one.is_current) return ["unavailable", "bad"];
  return redis(one.l2_breaker, one.l2_memory != null)[1] === "bad" ? ["degraded", "warn"] : ["ready", "good"];
}

function showInstances(instances) {
  $("instances").replaceChildren(...instances.map((one) => {
    const silent = one.heard_ms > SILENT_MS;
    const row = make("tr", { className: silent ? "silent" : "" }, make("th", { scope: "row", textContent: one.this ? `${one.name} (this one)` : one.name, title: `version ${one.version}` }));
    const [l2, look] = redis(one.l2_breaker, one.l2_memory != null);
    cell(row, "state", ...stateOf(one, instances[0].is_current));
    cell(row, "last poll of the ledger", ago(one.poll_age_ms));
    cell(row, "Redis", one.l2_memory === "critical" || one.l2_memory === "warning" ? `${l2}, memory ${one.l2_memory}` : l2, look);
    cell(row, "reads", count(one.reads));
    cell(row, "from the tiers", one.reads ? percent(one.hits / one.reads) : "–");
    cell(row, "stale", count(one.stale_served), one.stale_served ? "bad" : "good");
    return row;
  }));
}

function showMemory(memory) {
  const items = memory.map(({ tier, node, used_bytes, limit_bytes, state }) => {
    const part = limit_bytes ? Math.min(100, (100 * used_bytes) / limit_bytes) : 0;
    const own = tier === "l1";
    const name = own ? "L1, this process" : `Redis ${node}`;
    // L1 evicts by itself, so only a full Redis is a matter for people.
    const size = limit_bytes ? `${bytes(used_bytes)} of ${bytes(limit_bytes)}: ${part.toFixed(0)} %${own ? "" : `, ${state}`}` : `${bytes(used_bytes)}; no limit is set`;
    const bar = make("div", { className: "bar" }, make("i", { className: tier }));
    for (const [name, value] of Object.entries({ role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": part.toFixed(0) })) bar.setAttribute(name, value);
    bar.setAttribute("aria-label", name);
    bar.firstChild.style.width = `${part}%`;
    return make("li", { className: own ? "" : { normal: "", warning: "warn", critical: "bad" }[state] }, make("p", {}, make("span", { textContent: name }), make("span", { textContent: size })), bar);
  });
  if (!memory.some(({ tier }) => tier === "l2")) items.push(make("li", { className: "warn", textContent: "There is no Redis, or it does not report its memory." }));
  $("memory").replaceChildren(...items);
}

function showChange({ name, missed }) {
  const list = $("changes");
  list.querySelector(".empty")?.remove();
  list.prepend(make("li", { textContent: `${new Date().toLocaleTimeString()}  ${name ?? `${missed} more`}` }));
  while (list.childElementCount > 100) list.lastChild.remove();
}

async function showPolicies() {
  const policies = await (await fetch("cache/policies", { headers: headers() })).json();
  const names = Object.keys(policies[0] ?? {});
  // A part with a value of its own, {"regional": "no_store"}, is told in words.
  const words = (value) => (value && typeof value === "object" ? Object.entries(value).flat().join(", ").replaceAll("_", " ") : value);
  const row = (values, kind) => make("tr", {}, ...values.map((value) => make(kind, { textContent: value ?? "–" })));
  $("policies-head").replaceChildren(row(names.map((name) => name.replaceAll("_", " ")), "th"));
  $("policies").replaceChildren(...policies.map((policy) => row(names.map((name) => words(policy[name])), "td")));
}

// ---- by hand

async function order(question, path, body, said) {
  if (!(await sure(question))) return;
  put("done", "…");
  try {
    const response = await fetch(path, { method: "POST", headers: { "content-type": "application/json", ...headers() }, body: JSON.stringify(body) });
    const told = await response.json();
    put("done", response.ok ? said(told) : (told.detail ?? `status ${response.status}`));
  } catch (error) {
    put("done", `No answer (${error.message}). It may have been done.`);
  }
}

function sure(question) {
  put("sure-text", question);
  $("sure").returnValue = "no";
  $("sure").showModal();
  return new Promise((answer) => {
    $("sure").onclose = () => answer($("sure").returnValue === "yes");
  });
}

$("warm").onclick = () => order("Load the most viewed products into the tiers? It costs Postgres a few queries.", "cache/warm", null,
  ({ warmed, failed, duration_ms }) => `${count(warmed)} entries warmed in ${millis(duration_ms)}${failed ? `, ${failed} warmers failed` : ""}.`);
$("invalidate-form").onsubmit = (event) => {
  event.preventDefault();
  const pattern = $("pattern").value;
  order(`Invalidate everything under “${pattern}” on every instance? The next reads of it go to Postgres.`, "cache/invalidate", { pattern },
    ({ invalidated }) => `Invalidated: ${invalidated.join(", ")}.`);
};

follow({ history: begin, snapshot: show, change: showChange });
