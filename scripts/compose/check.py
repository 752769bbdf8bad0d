"""Checks a running docker-compose.yml from outside. scripts/compose.sh runs it and gives the addresses in
the environment; a service without an address was left out.

    check.py running     writes, and asks every service
    check.py restarted   looks whether the data outlived `down` and `up`
    check.py stripped    looks at the program that was copied out of the image

Every step polls until a deadline. When the deadline has passed, the run ends with a message.
"""

import http.client
import json
import math
import os
import re
import secrets
import struct
import sys
import threading
import time
import urllib.parse

# Milliseconds until a write must show on the other instances: the default of CACHE_MAX_STALENESS_MS.
MAX_STALENESS_MS = 500
# Seconds for everything that has no promised time: scrapes, batches of spans, purges.
DEADLINE = 60
# The load runs until all panels show figures, but not for longer than this.
LOAD_DEADLINE = 120

PRODUCT = "/products/1082185"
CUSTOMER = 749
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
STATE = os.path.join(os.environ["CHECK_FOLDER"], "state.json")


def address(name):
    return os.environ.get(name) or None


INSTANCES = [base for base in (address("APP_1"), address("APP_2"), address("APP_3")) if base]


class Reply:
    def __init__(self, reply):
        self.status = reply.status
        self.headers = {name.lower(): value for name, value in reply.getheaders()}
        self.body = reply.read()

    @property
    def json(self):
        return json.loads(self.body)


def request(base, path, method="GET", body=None, headers=None):
    headers = dict(headers or {})
    if body is not None:
        headers.setdefault("content-type", "application/merge-patch+json" if method == "PATCH" else "application/json")
        body = json.dumps(body)
    connection = http.client.HTTPConnection(base, timeout=20)
    try:
        connection.request(method, path, body, headers)
        return Reply(connection.getresponse())
    finally:
        connection.close()


def fail(message):
    sys.exit(f"    FAILED: {message}")


def passed(message):
    print(f"    ok  {message}", flush=True)


def expect(reply, status, what):
    if reply.status != status:
        fail(f"{what} was answered with {reply.status}, not {status}: {reply.body[:300]!r}")
    return reply


def eventually(what, attempt, seconds=DEADLINE):
    """Calls `attempt` until it returns something. The failure names what it raised last."""
    deadline, problem = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            found = attempt()
            if found:
                return found
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            problem = error
        time.sleep(0.2)
    fail(f"not within {seconds} s: {what}" + (f" (last problem: {problem!r})" if problem else ""))


def instances_are_ready():
    for number, base in enumerate(INSTANCES, 1):
        eventually(f"instance {number} is ready", lambda: request(base, "/readyz").status == 200)
    passed(f"{len(INSTANCES)} instances are ready")


def a_write_is_seen_through_the_others():
    for writer in INSTANCES:
        price = 1 + secrets.randbelow(10_000)
        for base in INSTANCES:  # Each instance holds the old version in memory.
            expect(request(base, PRODUCT), 200, "a read")
            expect(request(base, PRODUCT), 200, "a read")
        expect(request(writer, PRODUCT, "PATCH", {"price_cents": price}), 200, "a write")
        written, slowest = time.monotonic(), 0.0
        for reader in INSTANCES:
            while True:
                began = (time.monotonic() - written) * 1000
                found = expect(request(reader, PRODUCT), 200, "a read").json["price_cents"]
                if found == price:
                    break
                if reader == writer or began > MAX_STALENESS_MS:
                    fail(f"{began:.0f} ms after the write, {reader} still answers with the old price")
            slowest = max(slowest, began)
    passed(f"a write through each instance is seen through all others (the last one took {slowest:.0f} ms, allowed are {MAX_STALENESS_MS})")
    return price


def an_order_is_placed_once():
    order = {"customer_id": CUSTOMER, "items": [{"product_id": int(PRODUCT.rsplit("/", 1)[1]), "quantity": 1}]}
    key = {"idempotency-key": f'"compose-{secrets.token_hex(8)}"'}
    first = expect(request(INSTANCES[0], "/orders", "POST", order, key), 201, "an order").json
    again = expect(request(INSTANCES[1], "/orders", "POST", order, key), 201, "the same order").json
    if first["id"] != again["id"]:
        fail(f"one Idempotency-Key made the orders {first['id']} and {again['id']}")
    passed("an order that was sent to two instances with one Idempotency-Key exists once")
    return first["id"]


class Load:
    """Reads, writes and wrong requests on all instances, so that every panel has figures."""

    def __init__(self):
        self.ends = threading.Event()
        self.failures = []
        top = expect(request(INSTANCES[0], "/products/top?limit=50"), 200, "the most viewed products").json["items"]
        self.paths = [f"/products/{item['id']}" for item in top] + ["/products?limit=20", f"/orders?customer_id={CUSTOMER}"]
        self.threads = [threading.Thread(target=self.run, args=(base,), daemon=True) for base in INSTANCES for _ in range(2)]

    def run(self, base):
        number = 0
        while not self.ends.is_set():
            number += 1
            path = self.paths[secrets.randbelow(len(self.paths))]
            try:
                reply = request(base, path)
                if reply.status == 200 and number % 20 == 0 and re.fullmatch(r"/products/\d+", path):
                    reply = request(base, path, "PATCH", {"price_cents": 1 + secrets.randbelow(10_000)})
                if number % 50 == 0:
                    request(base, "/products/0")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{base}{path}: {error!r}")
                return
            if reply.status != 200:
                self.failures.append(f"{base}{path}: {reply.status}")
                return
            time.sleep(0.005)

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.ends.set()
        for thread in self.threads:
            thread.join()


def prometheus_scrapes_and_rules_load(prometheus):
    def targets():
        found = request(prometheus, "/api/v1/targets?state=active").json["data"]["activeTargets"]
        return {target["labels"]["instance"]: target["health"] for target in found}

    wanted = {"app-1:3001": "up", "app-2:3001": "up"}
    eventually("Prometheus scrapes both instances", lambda: targets() == wanted)
    passed("Prometheus scrapes both instances")
    with open(os.path.join(ROOT, "ops/prometheus/alerts.yml"), encoding="utf-8") as file:
        names = re.findall(r"- alert: (\w+)", file.read())

    def evaluated():
        groups = request(prometheus, "/api/v1/rules").json["data"]["groups"]
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        return health == {name: "ok" for name in names}

    eventually("all alert rules are loaded and evaluated", evaluated)
    passed(f"all {len(names)} alert rules are loaded and evaluated without errors")
    alerts = request(prometheus, "/api/v1/alerts").json["data"]["alerts"]
    firing = sorted({alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"})
    if firing:
        fail(f"these alerts fire: {firing}")
    passed("no alert fires")


def dashboard():
    with open(os.path.join(ROOT, "ops/grafana/dashboards/cache.json"), encoding="utf-8") as file:
        return json.load(file)


def every_panel_has_figures(prometheus, load):
    queries = [(panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", [])]

    def empty():
        found = []
        for title, expression in queries:
            reply = request(prometheus, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
            series = reply.json["data"]["result"] if reply.status == 200 else []
            if not any(math.isfinite(float(one["value"][1])) for one in series):
                found.append(title)
        return found

    deadline = time.monotonic() + LOAD_DEADLINE
    while missing := empty():
        if load.failures:
            fail(f"a request failed under load: {load.failures[0]}")
        if time.monotonic() > deadline:
            fail(f"these panels show nothing after {LOAD_DEADLINE} s of load: {missing}")
        time.sleep(1)
    passed(f"the queries of all panels return figures under load ({len(queries)} queries)")


def traces_arrive(jaeger):
    for base in INSTANCES:
        for method, wanted in (("GET", {"GET /products/{id}", "cache read"}), ("PATCH", {"PATCH /products/{id}", "commit"})):
            trace = secrets.token_hex(16)
            body = {"price_cents": 1 + secrets.randbelow(10_000)} if method == "PATCH" else None
            parent = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
            expect(request(base, PRODUCT, method, body, parent), 200, "a traced request")

            def spans():
                found = request(jaeger, f"/api/traces/{trace}").json["data"]
                return wanted <= {span["operationName"] for one in found or [] for span in one["spans"]}

            eventually(f"the spans {sorted(wanted)} of a request to {base} arrive", spans)
    passed("the spans of a read and of a write through each instance arrive in the caller's trace")


def grafana_has_the_dashboard(grafana):
    eventually("Grafana is up", lambda: request(grafana, "/api/health").status == 200)
    title = dashboard()["title"]
    eventually(
        f"Grafana lists the dashboard {title}",
        lambda: any(found["title"] == title for found in request(grafana, "/api/search?type=dash-db").json),
    )
    passed(f"Grafana lists the dashboard {title}")


def the_balancer_answers(balancer):
    eventually("the balancer answers", lambda: request(balancer, PRODUCT).status == 200)
    passed("the balancer passes requests on")


def varnish_answers_and_is_purged(varnish):
    eventually("Varnish answers from its own cache", lambda: "varnish; hit" in request(varnish, PRODUCT).headers.get("cache-status", ""))
    price = 1 + secrets.randbelow(10_000)
    expect(request(INSTANCES[-1], PRODUCT, "PATCH", {"price_cents": price}), 200, "a write")
    eventually("Varnish has the new price", lambda: request(varnish, PRODUCT).json["price_cents"] == price)
    passed("Varnish answers from its own cache, and is purged by a write")


def running():
    instances_are_ready()
    a_write_is_seen_through_the_others()
    order = an_order_is_placed_once()
    if balancer := address("BALANCER"):
        the_balancer_answers(balancer)
    if varnish := address("VARNISH"):
        varnish_answers_and_is_purged(varnish)
    if prometheus := address("PROMETHEUS"):
        load = Load()
        with load:
            prometheus_scrapes_and_rules_load(prometheus)
            every_panel_has_figures(prometheus, load)
        if load.failures:
            fail(f"a request failed under load: {load.failures[0]}")
    if grafana := address("GRAFANA"):
        grafana_has_the_dashboard(grafana)
    if jaeger := address("JAEGER"):
        traces_arrive(jaeger)
    price = a_write_is_seen_through_the_others()
    with open(STATE, "w", encoding="utf-8") as file:
        json.dump({"price": price, "order": order}, file)


def restarted():
    with open(STATE, encoding="utf-8") as file:
        state = json.load(file)
    instances_are_ready()
    for base in INSTANCES:
        found = expect(request(base, PRODUCT), 200, "a read").json["price_cents"]
        if found != state["price"]:
            fail(f"the price is {found}, not {state['price']} as before")
        expect(request(base, f"/orders/{state['order']}"), 200, "the order of before")
    passed("the price and the order of before are still there")
    a_write_is_seen_through_the_others()


def stripped():
    """Reads the section table of a 64-bit ELF file, little endian: no symbols, no lines."""
    with open(os.path.join(os.environ["CHECK_FOLDER"], "aside"), "rb") as file:
        program = file.read()
    if program[:6] != b"\x7fELF\x02\x01":
        fail("the image's program is no 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", program, 0x28)
    size, count, names = struct.unpack_from("<HHH", program, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", program, table + number * size) for number in range(count)]
    start = headers[names][4]
    sections = {program[start + name :].split(b"\0", 1)[0].decode() for name, *_ in headers}
    extra = sorted(sections & {".symtab", ".debug_info", ".debug_line"})
    if extra or ".text" not in sections:
        fail(f"the image's program is not stripped: {extra}")
    passed(f"the image's program is stripped ({len(program) // 1_000_000} MB)")


if __name__ == "__main__":
    {"running": running, "restarted": restarted, "stripped": stripped}[sys.argv[1]]()
