// How the page writes counts and times.

export const $ = (id) => document.getElementById(id);

// An instance of another version may not say all that is shown.
export const count = (n) => (n ?? "–").toLocaleString("en");
export const rate = (n) => (n >= 10 || n === 0 ? count(Math.round(n)) : n.toFixed(1));
export const percent = (part) => `${(100 * part).toFixed(1)} %`;
export const bytes = (n) => (n >= 1 << 20 ? `${(n / (1 << 20)).toFixed(1)} MiB` : n >= 1024 ? `${(n / 1024).toFixed(0)} KiB` : `${n} bytes`);
export const millis = (ms) => time(1000 * ms);
export const ago = (ms) => (ms == null ? "never" : `${millis(ms)} ago`);

export function time(us) {
  if (us >= 120e6) return `${Math.round(us / 60e6)} min`;
  const short = (n) => (n >= 100 ? Math.round(n) : Number(n.toPrecision(2)));
  return us >= 1e6 ? `${short(us / 1e6)} s` : us >= 1000 ? `${short(us / 1000)} ms` : `${Math.round(us)} µs`;
}

export function put(id, text, state = "") {
  const place = typeof id === "string" ? $(id) : id;
  if (place.textContent !== text) place.textContent = text;
  place.classList.remove("good", "warn", "bad");
  if (state) place.classList.add(state);
}

export function make(kind, properties = {}, ...inside) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...inside);
  return made;
}

// The value that this part of the reads did not exceed, by the same interpolation as histogram_quantile of Prometheus.
export function quantile(counts, bounds, part) {
  const all = counts.reduce((a, b) => a + b, 0);
  if (!all) return null;
  const rank = part * all;
  let below = 0;
  for (let at = 0; at < counts.length; at += 1) {
    if (below + counts[at] >= rank && counts[at]) {
      const lower = at ? bounds[at - 1] : 0;
      return at < bounds.length ? lower + ((bounds[at] - lower) * (rank - below)) / counts[at] : bounds.at(-1);
    }
    below += counts[at];
  }
  return bounds.at(-1);
}
