"""What a shared cache in front of the service must do, asked of a real Varnish. Run by scripts/varnish.sh, which says where all is in the
environment. Nothing here waits for a fixed time: each step asks until it is so, and ends the run when it isn't in time."""

import csv
import gzip
import http.client
import json
import os
import re
import signal
import statistics
import sys
import time
import urllib.parse

PURGES = 50
READS = 15_000
# Figures are told for so many.
PART = 5_000
# One write for so many reads.
READS_PER_WRITE = 50
# In per cent: so much of the last part Varnish answers fresh, or something keeps it from holding pages. 48 were measured.
LEAST_FRESH = 30
# In seconds: by then what was written shows, also on a busy machine. The figures say how long it took.
IN_TIME = 10


class Place:
    """Somebody who answers HTTP, over one connection."""

    def __init__(self, url, calling_from=None):
        self.address = urllib.parse.urlsplit(url).netloc
        self.calling_from = calling_from
        self.line = None

    def ask(self, method, path, body=None, headers=None):
        for again in (True, False):
            try:
                if self.line is None:
                    self.line = http.client.HTTPConnection(self.address, timeout=20, source_address=self.calling_from)
                self.line.request(method, path, body, headers or {})
                reply = self.line.getresponse()
                return Reply(reply.status, dict((name.lower(), value) for name, value in reply.getheaders()), reply.read())
            except (http.client.HTTPException, OSError):
                self.line = None
                if not again:
                    raise

    def get(self, path, headers=None):
        return self.ask("GET", path, headers=headers)

    def send(self, method, path, body):
        return self.ask(method, path, json.dumps(body), {"content-type": "application/json"})


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def hit(self):
        return "varnish; hit" in self.headers.get("cache-status", "")

    @property
    def ttl(self):
        found = re.search(r"varnish; hit; ttl=(-?\d+)", self.headers.get("cache-status", ""))
        return int(found.group(1)) if found else None

    @property
    def fresh(self):
        return self.hit and self.ttl > 0

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:200]!r}"


front, back, other = (Place(os.environ[name]) for name in ("FRONT", "BACK", "OTHER"))


def check(right, what, reply=""):
    if not right:
        sys.exit(f"FAILED: {what}\n{reply}")


def until(seconds, what, attempt):
    """Asks again and again; brings what came, and how long it took."""
    begun = time.monotonic()
    while True:
        found = attempt()
        took = time.monotonic() - begun
        if found:
            return found, took
        if took > seconds:
            sys.exit(f"FAILED: not within {seconds} s: {what}")
        time.sleep(0.002)


def done(what, figure=""):
    print(f"  ok  {what}{': ' if figure else ''}{figure}", flush=True)


def metric(name):
    total = 0.0
    for url in os.environ["MANAGEMENT"].split(","):
        text = Place(url).get("/metrics").body.decode()
        total += sum(float(line.split()[-1]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))
    return total


def price(reply):
    return reply.json()["price_cents"]


def products():
    with gzip.open("data/sample/order_items.csv.gz", "rt") as file:
        return [row["product_id"] for row in csv.DictReader(file)]


def is_kept(path):
    """Asks until Varnish answers by itself: the purges of what was before may come in between."""
    return until(20, f"{path} is served by Varnish", lambda: (reply := front.get(path)).fresh and reply)[0]


def serves():
    reply = is_kept("/products/1082185")
    check(reply.status == 200 and "etag" in reply.headers and "age" in reply.headers, "a hit has the service's headers", reply)
    check("xkey" not in reply.headers and "cdn-cache-control" not in reply.headers, "tags are Varnish's own", reply)
    check(reply.headers["cache-control"].startswith("public, max-age=5"), "browsers are told what the service says", reply)
    check("x-request-id" not in reply.headers, "a hit isn't called by the request that fetched it", reply)
    same = front.get("/products/1082185", {"if-none-match": reply.headers["etag"]})
    check(same.status == 304 and same.hit, "Varnish answers 304 by itself", same)
    token = front.get("/products/1082185", {"consistency-token": reply.headers["consistency-token"]})
    check(token.status == 200 and not token.hit, "who asks for something newer is passed on", token)
    done("a product page is served by Varnish, 304 included")


def purges(ids):
    """Writes on one instance; Varnish asks another one. Each page was a hit before, and shows the new price afterwards."""
    first, new = [], []
    for number, id in enumerate(ids[:PURGES]):
        path, listed = f"/products/{id}", f"/products/batch?ids={id}"
        is_kept(path), is_kept(listed)
        wanted = 100_000 + number
        check(other.send("PATCH", path, {"price_cents": wanted}).status == 200, "a write")
        begun = time.monotonic()
        # Soft: the first one who asks after the purge gets what was there, flagged by its lifetime, and has it fetched again.
        until(IN_TIME, f"{path} is purged", lambda: not (reply := front.get(path)).fresh or price(reply) == wanted)
        first.append(time.monotonic() - begun)
        until(IN_TIME, f"{path} is new", lambda: price(front.get(path)) == wanted)
        until(IN_TIME, f"{listed} is new", lambda: front.get(listed).json()["items"][0]["price_cents"] == wanted)
        new.append(time.monotonic() - begun)
    for what, times in (("stale in Varnish", first), ("page and list show the new price", new)):
        times = [1000 * one for one in times]
        done(f"after a write, {what}, {PURGES} times", f"median {statistics.median(times):.0f} ms, max {max(times):.0f} ms")


def lists():
    path = "/products?category=TROPICAL%20FRUIT&limit=100"
    before = is_kept(path).json()["items"]
    new = dict(before[0], name="New in the list", stock=1)
    for name in ("id", "view_count", "version", "updated_at"):
        new.pop(name, None)
    created = other.send("POST", "/products", new)
    check(created.status == 201, "a product is created", created)
    id = created.json()["id"]
    if len(before) < 100:
        shown, took = until(IN_TIME, "the list shows it", lambda: any(item["id"] == id for item in front.get(path).json()["items"]))
        done("a list shows a new product", f"{1000 * took:.0f} ms")
    check(other.ask("DELETE", f"/products/{id}").status == 204, "it is removed")
    until(IN_TIME, "the list doesn't show it", lambda: all(item["id"] != id for item in front.get(path).json()["items"]))
    until(IN_TIME, "its page is gone", lambda: front.get(f"/products/{id}").status == 404)
    done("a removed product is gone, from its page and its list")


def orders():
    placed = front.send("POST", "/orders", {"customer_id": 749, "items": [{"product_id": 1082185, "quantity": 1}]})
    check(placed.status == 201, "an order is placed through Varnish", placed)
    for path in (f"/orders/{placed.json()['id']}", "/orders?customer_id=749"):
        for _ in range(3):
            reply = front.get(path)
            check(reply.status == 200 and not reply.hit, "an order is never stored", reply)
            check("stored" not in reply.headers["cache-status"].split("varnish")[1], "nor said to be", reply)
    authorized = front.get("/products/1082185", {"authorization": "Bearer somebody"})
    check(not authorized.hit, "who says who he is is passed on", authorized)
    done("orders and requests with Authorization are passed, never stored")


def forbidden():
    stranger = Place(os.environ["FRONT"], ("127.0.0.2", 0)).ask("PURGE", "/", headers={"xkey-softpurge": "*"})
    check(stranger.status == 405, "only who may purges", stranger)
    check(front.ask("PURGE", "/").status == 400, "a purge without tags does nothing")
    reply = front.ask("PURGE", "/", headers={"xkey-softpurge": "product:nothing"})
    check(reply.status == 200 and reply.headers["x-purged"] == "0", "a purge says how many it met", reply)
    done("who may not purge is refused, a purge without tags does nothing, and each says how many it met")


def softly(tag):
    reply = front.ask("PURGE", "/", headers={"xkey-softpurge": tag})
    check(reply.status == 200 and reply.headers["x-purged"] != "0", "a purge", reply)


def revalidates(id):
    """A soft purge: the old answer at once, while one fetch refreshes it."""
    path = f"/products/{id}"
    is_kept(path)
    # Nothing else purges meanwhile.
    until(30, "purges have settled", lambda: quiet(path))
    os.kill(int(os.environ["BACK_PROCESS"]), signal.SIGSTOP)
    softly(f"product:{id}")
    begun = time.monotonic()
    replies = [front.get(path) for _ in range(10)]
    took = time.monotonic() - begun
    os.kill(int(os.environ["BACK_PROCESS"]), signal.SIGCONT)
    check(all(reply.status == 200 and reply.hit and reply.ttl <= 0 for reply in replies), "stale while one fetches", replies[-1])
    check(took < 1, f"nobody waits for the service, which stands still ({took} s)")
    until(20, "it is fresh again", lambda: front.get(path).fresh)
    done("stale-while-revalidate: ten reads of what was purged while the service stands still", f"{1000 * took:.0f} ms together")


def frozen(id):
    """The instance that purges stands still: Postgres ends its silent connection, and the other one takes over."""
    path, process = f"/products/{id}", int(os.environ["BACK_PROCESS"])
    is_kept(path)
    until(30, "purges have settled", lambda: quiet(path))
    os.kill(process, signal.SIGSTOP)
    check(other.send("PATCH", path, {"price_cents": 300_000}).status == 200, "a write")
    took = until(25, "the other instance purges", lambda: not front.get(path).fresh)[1]
    os.kill(process, signal.SIGCONT)
    until(20, "the new price shows", lambda: (reply := front.get(path)).status == 200 and price(reply) == 300_000)
    done("the instance that Varnish asks, and that may be the one that purges, is frozen: a write is purged after", f"{took:.1f} s")


def quiet(path):
    reply = front.get(path)
    return reply.fresh and reply.ttl < 290


def popular(ids):
    """The reads of real customers in the order in which they bought, with a write now and then to something just read."""
    seen = set()
    for part in range(READS // PART):
        fresh = stale = known = writes = 0
        for number, id in enumerate(ids[part * PART : (part + 1) * PART]):
            reply = front.get(f"/products/{id}")
            check(reply.status == 200, "a read", reply)
            fresh += reply.fresh
            stale += reply.hit and not reply.fresh
            known += id in seen
            seen.add(id)
            if number % READS_PER_WRITE == READS_PER_WRITE - 1:
                writes += 1
                check(other.send("PATCH", f"/products/{id}", {"price_cents": 200_000 + number}).status == 200, "a write")
        share = [f"{100 * count / PART:.1f} %" for count in (fresh, stale, known)]
        figure = f"{share[0]} fresh from Varnish, {share[1]} while it asked again; {share[2]} had been read before"
        check(part < READS // PART - 1 or 100 * fresh / PART >= LEAST_FRESH, f"{LEAST_FRESH} % of the last part are fresh from Varnish", figure)
        done(f"reads {part * PART + 1} to {(part + 1) * PART} in the order of real purchases, {writes} writes", figure)


def outlasts_errors():
    """The service is alive but answers 503: what is held is answered for as long as stale-if-error says, then the service's own words."""
    place = Place(os.environ["FAILING_FRONT"])
    until(20, "it is found to be alive", lambda: place.get("/kept").hit)
    check(place.get("/other").status == 200 and not place.get("/other").hit, "no-store wins over CDN-Cache-Control")
    check(Place(os.environ["FAILING_BACK"]).ask("POST", "/break").status == 200, "it breaks when it is told to")
    begun, longest = time.monotonic(), 0.0
    while (reply := place.get("/kept")).status == 200:
        longest = time.monotonic() - begun
        check(longest < 40, "stale-if-error ends", reply)
        time.sleep(0.05)
    check(reply.status == 503 and b"unavailable" in reply.body, "then what the service says", reply)
    check(longest > 18, f"for as long as it says, not {longest} s")
    done("stale-if-error: a living service answers 503, a page of 1 + 10 + 10 s was answered for", f"{longest:.0f} s, then its 503")


def survives(id):
    """The service is killed: what was purged is still answered, for as long as stale-if-error says."""
    path = f"/products/{id}"
    is_kept(path)
    os.kill(int(os.environ["BACK_PROCESS"]), signal.SIGKILL)
    softly(f"product:{id}")
    begun = time.monotonic()
    reply = front.get(path)
    check(reply.status == 200 and reply.hit and reply.ttl <= 0, "answered while the service is dead", reply)
    check(front.get("/products/1?nothing").status in (400, 503), "what Varnish doesn't hold is refused")
    longest = 0.0
    while (reply := front.get(path)).status == 200:
        longest = time.monotonic() - begun
        check(longest < 90, "stale-if-error ends", reply)
        time.sleep(0.05)
    check(reply.status == 503, "then refused", reply)
    check(longest > 60, f"for as long as it says, not {longest} s")
    done("stale-if-error: the service killed, a purged page was answered for", f"{longest:.0f} s, then 503")


if __name__ == "__main__":
    bought = products()
    chosen = list(dict.fromkeys(bought))
    serves()
    forbidden()
    popular(bought)
    purges(chosen)
    lists()
    orders()
    revalidates(chosen[PURGES + 1])
    frozen(chosen[PURGES + 3])
    until(10, "one instance purges", lambda: metric("cdn_purger_active") == 1)
    until(10, "nothing waits to be purged", lambda: metric("cdn_purge_lag_seconds") == 0)
    done("purges", f"{metric('cdn_purges_total'):.0f} requests with {metric('cdn_purged_tags_total'):.0f} tags, by one of two instances")
    outlasts_errors()
    survives(chosen[PURGES + 2])
