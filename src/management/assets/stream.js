// The stream of /cache/live, and the token that the listener may ask for.
import { $ } from "./words.js";

const token = () => sessionStorage.getItem("management-token");
export const headers = () => (token() ? { authorization: `Bearer ${token()}` } : {});

const SILENCE = 4000; // without a snapshot for so long, the page may show an old state

// Calls `heard[event](data)` for each event, without end.
export async function follow(heard) {
  for (;;) {
    const line = new AbortController();
    try {
      const response = await fetch("cache/live", { headers: headers(), cache: "no-store", signal: line.signal });
      if (response.status === 401) await ask();
      else if (!response.ok) throw new Error(`status ${response.status}`);
      else {
        await read(response.body, line, heard);
        // The listener ends each stream after a minute.
        continue;
      }
    } catch (error) {
      say(`not connected (${line.signal.reason?.message ?? error.message}), trying again`, "bad");
    }
    line.abort();
    await new Promise((later) => setTimeout(later, 1000));
  }
}

async function read(body, line, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const silence = setTimeout(() => line.abort(new Error("it is silent")), SILENCE);
    const { value, done } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const field = (name) => event.split("\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
      const kind = field("event");
      if (!(kind in heard)) continue;
      heard[kind](JSON.parse(field("data")));
      if (kind === "snapshot") say("live", "good");
    }
  }
}

function say(text, state) {
  $("connection").textContent = text;
  $("connection").className = `dot ${state}`;
  document.body.classList.toggle("cut-off", state !== "good");
}

// Returns when a token was entered.
function ask() {
  say("a token is needed", "warn");
  $("token-wrong").textContent = token() ? "The listener did not accept this token." : "";
  $("token-form").hidden = false;
  $("token").focus();
  return new Promise((entered) => {
    $("token-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem("management-token", $("token").value);
      $("token").value = "";
      $("token-form").hidden = true;
      entered();
    };
  });
}
