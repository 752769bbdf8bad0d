// One key: its entries in the tiers side by side, and a change whose arrival at each instance is shown.
import { headers } from "./stream.js";
import { $, ago, bytes, make, millis, put } from "./words.js";

let snapshot = null;
let race = null; // the change that is being watched

async function lookUp() {
  const name = $("key-name").value.trim();
  const response = await fetch(`cache/entry?name=${encodeURIComponent(name)}`, { headers: headers() });
  const found = await response.json();
  if (!response.ok) {
    $("tiers").hidden = true;
    return put("key-verdict", found.detail ?? `status ${response.status}`, "warn");
  }
  show(found);
}

function show(found) {
  $("tiers").hidden = false;
  tier("tier-l1", found.l1, found, "Memory");
  if ("l2" in found) tier("tier-l2", found.l2, found, "Redis");
  else facts("tier-l2", [], "Only asked about products here, which are public.");
  const { floor } = found;
  const known = found.ledger > 0 ? `version ${found.ledger}` : "no recent change";
  facts("tier-ledger", [["in the ledger", found.ledger == null ? "–" : known], ["lowest version served", floor == null ? "any" : `${floor}`]],
    !("ledger" in found) ? "Only asked about products here, which are public."
      : found.ledger == null ? "Postgres does not answer. Nothing counts as fresh." : "Postgres holds the data and this version. Every instance polls it.");
  const by = found.l1?.served ? ["the entry in memory", found.l1] : found.l2?.served ? ["the entry in Redis", found.l2] : null;
  put("key-verdict", by ? `The next read is answered by ${by[0]}: it may be served, because ${why(by[1], found)}.`
    : `The next read goes to Postgres${found.l1 || found.l2 ? ", because no entry may be served" : ", because no tier has an entry"}.`, by ? "good" : "");
}

function tier(id, entry, found, name) {
  if (!entry) return facts(id, [], `${name} has no entry. A read goes on to the next tier.`);
  const version = entry.version == null ? "of other tags" : entry.version ? `${entry.version}` : "never changed";
  facts(id, [["version", version], ["read from Postgres", ago(entry.age_ms)], ["size", bytes(entry.bytes)]],
    `${entry.served ? "May" : "May not"} be served, because ${why(entry, found)}.`, entry.served ? "good" : "bad");
}

function facts(id, pairs, sentence, state = "") {
  $(id).querySelector("dl").replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  put($(id).querySelector("p"), sentence, state);
}

function why({ reason, version }, { floor }) {
  const poll = `the ledger was polled ${ago(snapshot?.stats.poll_age_ms)}`;
  const most = snapshot ? ` (at most ${snapshot.stats.max_staleness_ms} ms)` : "";
  const above = floor == null || version == null ? "no newer version is known" : `its version ${version} is not below ${floor}`;
  return {
    fresh: `${above} and ${poll}${most}`,
    invalidated: floor != null && version != null && version < floor ? `its version ${version} is below ${floor}` : "something that it depends on has changed since",
    expired: "it is older than its maximum age",
    not_current: `${poll}${most}`,
  }[reason] ?? reason;
}

// ---- the change

async function change() {
  const id = /^product:(\d+)$/.exec($("key-name").value.trim())?.[1];
  if (!id) return put("key-verdict", "Only the price of a product can be changed here: product:1082185.", "warn");
  $("change").disabled = true;
  try {
    const response = await fetch("cache/demonstration", { method: "POST", headers: { "content-type": "application/json", ...headers() }, body: `{"product": ${id}}` });
    const told = await response.json();
    if (!response.ok) return put("key-verdict", told.detail ?? `status ${response.status}`, "warn");
    race = told;
    watch(snapshot);
    await lookUp();
  } catch (error) {
    put("key-verdict", `No answer (${error.message}). The price may have changed.`, "warn");
  } finally {
    $("change").disabled = false;
  }
}

// Called with each snapshot: the instances tell when the change arrived.
export function watch(latest) {
  snapshot = latest;
  if (!race || !snapshot) return;
  const price = (cents) => (cents / 100).toLocaleString("en", { style: "currency", currency: race.currency });
  $("race").hidden = false;
  put("race-title", `${race.name}: ${price(race.price_cents_before)} → ${price(race.price_cents)}, committed in Postgres as version ${race.version}`);
  const promised = snapshot.stats.max_staleness_ms;
  $("race-rows").replaceChildren(...snapshot.instances.map((one) => {
    const own = one.timed && one.timed.tag === race.tag && one.timed.version >= race.version ? one.timed.after_ms : null;
    const said = own == null ? "not heard yet" : own === 0 ? "with the commit: it wrote" : `after ${millis(own)}, ${promised} promised`;
    const bar = make("i");
    bar.style.width = own == null ? "0" : `${Math.max(0.5, Math.min(100, (100 * own) / promised))}%`;
    if (own == null) bar.style.minWidth = "0";
    return make("li", {}, make("span", { textContent: one.this ? `${one.name} (this one)` : one.name }), make("div", { className: "bar" }, bar),
      make("b", { textContent: said, className: own == null ? "" : "good" }));
  }));
}

$("key-form").onsubmit = (event) => {
  event.preventDefault();
  lookUp().catch((error) => put("key-verdict", `No answer (${error.message}).`, "warn"));
};
$("change").onclick = change;
