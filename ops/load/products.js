// Load by k6 (make load): reads by a popularity that falls off, with the tags of earlier answers as browsers have them, and one change in a
// hundred, which is read back with its token. Each answer is checked, and the run fails when a threshold does.
import http from "k6/http";
import { check } from "k6";
import { Counter, Rate } from "k6/metrics";

const BASE = __ENV.BASE || "http://127.0.0.1:3000";
const hits = new Rate("tier_answered");
const unchanged = new Counter("not_modified");
const stale = new Counter("older_than_written");

export const options = {
  scenarios: {
    shop: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || 300),
      timeUnit: "1s",
      duration: `${__ENV.SECONDS_OF_LOAD || 20}s`,
      preAllocatedVUs: 50,
      maxVUs: 200,
    },
  },
  thresholds: {
    checks: ["rate==1"],
    http_req_failed: ["rate==0"],
    tier_answered: ["rate>0.5"],
    older_than_written: ["count==0"],
    dropped_iterations: ["count==0"],
  },
  summaryTrendStats: ["med", "p(99)", "max"],
};

// The ids come from the service: the hundred most viewed.
export function setup() {
  const top = http.get(`${BASE}/products/top?limit=100`).json("items");
  return top.map((product) => product.id);
}

const tags = {};

export default function (ids) {
  const id = ids[Math.floor(ids.length * Math.random() ** 3)];
  if (Math.random() < 0.01) change(id);
  else read(id);
}

function read(id) {
  const url = `${BASE}/products/${id}`;
  const headers = tags[id] ? { "If-None-Match": tags[id] } : {};
  const answer = http.get(url, { headers, tags: { name: "GET /products/{id}" } });
  check(answer, { "a product, or the one that is known": ({ status }) => status === 200 || status === 304 });
  hits.add(/; hit/.test(answer.headers["Cache-Status"] || ""));
  if (answer.status === 304) unchanged.add(1);
  else tags[id] = answer.headers.Etag;
}

function change(id) {
  const [url, price_cents] = [`${BASE}/products/${id}`, 1 + Math.floor(Math.random() * 10000)];
  const json = { "Content-Type": "application/merge-patch+json" };
  const written = http.patch(url, JSON.stringify({ price_cents }), { headers: json, tags: { name: "PATCH /products/{id}" } });
  check(written, { "a change is acknowledged": ({ status }) => status === 200 });
  const token = { "Consistency-Token": written.headers["Consistency-Token"] };
  const after = http.get(url, { headers: token, tags: { name: "GET /products/{id}" } });
  // Others may have written since, so versions are compared and not prices.
  if (after.json("version") < written.json("version")) stale.add(1);
}
