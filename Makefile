# Every task of the project has a name here; `make` lists them.
.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' Makefile)

# Set but empty is not set, here too.
override CARGO := $(or $(CARGO),cargo)

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  run, test and demo find or install Postgres and Redis by themselves: see the head of scripts/services.sh"

run: ## a seeded service on 127.0.0.1:3000, with what to open; Ctrl-C ends it
	@scripts/run.sh

test: ## the whole test suite with all its set-up; one part of it: make test ARGS="name"
	@scripts/test.sh $(ARGS)

consistency: ## three instances under faults, 300,000 requests, not one stale answer; another run: make consistency ARGS="--seed 7"
	@scripts/consistency.sh --release --operations 300000 --faults 60 $(ARGS)

demo: ## a tour that proves each step: L1, L2, a write on one instance seen by another, Redis killed; the live page in a browser
	@scripts/demo.sh $(ARGS)

bare: ## run and test as a newcomer does: a bare Debian root, a fresh clone, as root and as a user; needs root, takes half an hour
	@scripts/bare.sh $(ARGS)

features: ## whether the crate of the cache compiles with no feature, with each alone, and with all of them
	@scripts/features.sh

memcached: ## the cache's tests over a real Memcached too, which `make test` does where there is one
	@scripts/memcached.sh

pgbouncer: ## the core of the suite behind a PgBouncer in transaction mode, as the role of the service
	@scripts/pgbouncer.sh

fuzz: ## bytes that nobody expects, ten minutes for each of nine parsers of bytes from elsewhere; shorter: make fuzz SECONDS=60
	@scripts/fuzz.sh $(SECONDS)

supply: ## licences, advisories and a bill of materials of all dependencies; needs cargo-deny and cargo-cyclonedx
	@scripts/supply.sh

token: ## a token of the demonstration's tenant for an hour; needs JWT_SECRET: make token ARGS="--tenant acme"
	@$(CARGO) run --quiet --locked --bin aside -- token $(ARGS)

browser: ## the live page and the explorer in a real browser; pictures in target/browser/
	@scripts/browser.sh

api-check: ## two minutes of requests that the API's document allows, and of others, with every check that Schemathesis has
	@scripts/api-check.sh

client: ## clients in TypeScript and Python, by three generators from the OpenAPI document, run against two instances
	@scripts/client.sh

load: ## reads and changes of products by k6 for twenty seconds, against a seeded service; another: make load SECONDS=60
	@scripts/load.sh $(SECONDS)

adopt: ## a new crate that caches an entity of yours, with its tests: make adopt NAME=patient DIR=../patients; with the cache's source: COPY=yes
	@scripts/adopt.sh $(if $(NAME),--name "$(NAME)") $(if $(PLURAL),--plural "$(PLURAL)") $(if $(filter yes,$(COPY)),--copy) $(if $(DIR),"$(DIR)")

varnish: ## the service behind a real Varnish: purges, stale answers, hit ratio, checked; three minutes; docs/l3.md
	@scripts/varnish.sh

# Cheap checks first; the tests last, so that a run ends with their summary. The checker's short form runs with what is built for them. The
# copy's path goes through `..`, as paths do that are given to `make adopt`.
check: ## what CI runs: format, lint, clippy, features, documentation, tour, browser, client, a copy, checker, soak, fuzzing, tests
	$(CARGO) fmt --all --check
	@scripts/lint.sh
	$(CARGO) clippy --locked --workspace --all-targets --test mutants -- -D warnings
	@scripts/features.sh --short
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	@scripts/demo.sh --ci
	@scripts/browser.sh
	@scripts/client.sh
	@rm -rf .run/adopt && scripts/adopt.sh --test --copy --name lab_result .run/../.run/adopt
	@scripts/consistency.sh --seconds 75
	@scripts/chaos.sh --debug soak --seconds 40
	@scripts/fuzz.sh 3
	@scripts/memcached.sh --obtain
	@scripts/pgbouncer.sh --obtain
	@scripts/test.sh

model: ## the protocol's model in every order of its steps: ten minutes; docs/model.md
	$(CARGO) test --locked --release --package model runs::long_runs -- --ignored --nocapture

PROVE ?= all
prove: ## mutation testing: breaks every rule in turn and expects its tests to catch it; the central ones: make prove PROVE=quick; one: PROVE=floor-check
	@scripts/prove.sh $(PROVE)

omissions: ## plants two hundred omissions, and counts which of them the dependency check finds: some minutes; docs/omissions.md
	@scripts/omissions.sh

bench: ## how fast, against constant bytes, Redis passed through, a textbook and no cache: four minutes; docs/speed.md; a trial: make bench ARGS=--short
	@scripts/bench.sh $(ARGS)

peers: ## the service against programs that know nothing of it: hits, misses, writes; seven minutes; benches/peers/README.md
	@scripts/peers.sh hits
	@scripts/peers.sh miss
	@scripts/peers.sh writes

instructions: ## how many instructions an L1 hit takes, counted by valgrind
	@scripts/instructions.sh

costs: ## what the protocol costs, as ratios, all in one run: six minutes; docs/costs.md; a trial: make costs ARGS=--short
	@scripts/costs.sh $(ARGS)

chaos: ## a minute under load while Redis and Postgres are frozen and killed: table, picture, verdict
	@scripts/chaos.sh

resilience: ## that minute, then refused requests and the speed of the others, against a service without a cache: five minutes; docs/resilience.md
	@scripts/chaos.sh all

redis-sentinel: ## a throw-away Redis primary with two replicas and three Sentinels, to try things out; Ctrl-C ends them
	@scripts/consistency.sh --redis sentinel --serve

redis-cluster: ## a throw-away Redis Cluster of six nodes, to try things out; Ctrl-C ends it
	@scripts/consistency.sh --redis cluster --serve

fleet: ## three instances behind a balancer on 127.0.0.1:3000; Ctrl-C ends them
	@scripts/fleet.sh

compose: ## docker-compose.yml with all profiles by a container engine: checked, ended, brought up again, removed; images that are here already: make compose ARGS=--no-build
	@scripts/compose.sh $(ARGS)

rolling: ## three instances behind a balancer are restarted one after the other under load: no request fails; docs/rolling.md
	@scripts/fleet.sh roll $(ARGS)

failover: ## two minutes under load while primaries of Redis fall, behind Sentinels and in a Cluster; docs/failover.md
	@scripts/chaos.sh failover

regions: ## two regions in small: how long the far one goes on with what is old, at 0, 50 and 150 ms between them; docs/windows.md
	@scripts/chaos.sh regions

soak: ## twenty minutes of random faults, then a look for leaks; shorter: make soak ARGS="--seconds 60"
	@scripts/chaos.sh soak $(ARGS)

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## prose, lock files, scripts, Dockerfile, compose file, workflows, manifests of Kubernetes, alert rules and OpenAPI document
	@scripts/lint.sh

openapi: ## regenerate openapi/openapi.json from the code
	@mkdir -p openapi
	$(CARGO) run --locked --quiet -- openapi > openapi/openapi.json.new
	mv openapi/openapi.json.new openapi/openapi.json

clean: ## remove everything that was built or installed here
	$(CARGO) clean
	rm -rf .run
