# Every target is what CI runs too. `make help` lists them.
GO     ?= go
GOFLAGS_BUILD = -trimpath -ldflags "-s -w"

.DEFAULT_GOAL := help
.PHONY: help build test check lint tflint vet race fuzz stacks cloud crash kill abuse kubernetes cluster bench soak walk docs tidy clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/latamctl, a static binary
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o bin/latamctl ./cmd/latamctl

test: ## every test
	$(GO) test ./...

check: vet lint race tidy ## what has to pass before a change lands: vet, lint, race detector, fuzz seeds, import levels, tidy modules

vet:
	$(GO) vet ./...

lint: ## golangci-lint, the version pinned in tools/go.mod
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...

tflint: ## every stack by the rules that tflint has built in; it has to be on PATH
	@command -v tflint >/dev/null || { echo "tflint is not on PATH: $(GO) install github.com/terraform-linters/tflint@latest" >&2; exit 1; }
	$(GO) test -run '^TestStacksAreLinted$$' -count=1 ./stacks

race: ## every test under the race detector, with the fuzz seeds and the import levels
	$(GO) test -race ./...

fuzz: ## fuzz each target for FUZZTIME (default 20s)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-20s} $$pkg || exit 1; \
	  done; done

stacks: ## the tests that stacks bring along, validation, adoption of the bucket; make test plans each stack once
	LATAM_CLOUD=1 $(GO) test -count=1 -timeout 20m ./stacks

cloud: ## every stack with real terraform and stand-ins of its providers, from an empty project to none
	LATAM_CLOUD=1 $(GO) test -run '^TestCloud' -count=1 -v -timeout 40m ./pkg/cli

crash: ## 200 kills of the whole program under load (make test does 20)
	LATAM_CRASH_KILLS=200 $(GO) test -run '^TestCrash' -count=1 -v -timeout 60m ./pkg/cli

kill: ## latamctl is killed, and interrupted, at 60 points of an apply each (make test does 4)
	LATAM_KILL_POINTS=60 $(GO) test -run '^Test(KilledParent|InterruptAnywhere)$$' -count=1 -timeout 30m ./pkg/stack/terraform

abuse: ## attacks at full size: 500 slow clients, 5,000 connections, 200,000 hostile requests
	LATAM_ABUSE_SLOW_CONNS=500 LATAM_ABUSE_FLOOD_CONNS=5000 LATAM_ABUSE_REQUESTS=200000 LATAM_ABUSE_LOG_REQUESTS=50000 \
	  $(GO) test -run '^Test(SlowClients|Flood|Oversize|Abuse|Overload|WidestScans|StoreThat|CursorsEnd|HostileRequestsInTheLog)' -count=1 -v -timeout 30m ./services/query
	$(GO) test -run '^Test(Slow|ConnectionCap|SizeAbuse|Smuggling|HTTP2|OnlyLocalHosts|HostsOverTheWire|PagesOfOther)' -count=1 ./pkg/web

kubernetes: ## build a real control plane into the cache, for make cluster; it takes some minutes, once
	GO=$(GO) tools/kubernetes/build

cluster: kubernetes ## releases and manifests on a real control plane; it needs etcd on PATH
	LATAM_CLUSTER=1 $(GO) test -run '^TestCluster$$' -count=1 -v -timeout 20m ./pkg/deploy

soak: ## 10 million messages through the log: memory and disk stay flat
	LATAM_SOAK_MESSAGES=10000000 $(GO) test -run '^TestSoak$$' -count=1 -v -timeout 30m ./pkg/engine/topiclog

walk: ## a million rows walked by cursor and exported: the same rows, flat memory
	LATAM_WALK_ROWS=1000000 $(GO) test -run '^TestWalkAndExport' -count=1 -v -timeout 30m ./services/query

bench: build ## benchmarks of the code, then of the engines
	$(GO) test -run '^$$' -bench . -benchmem ./pkg/dataset ./pkg/store ./pkg/engine/... ./services/...
	bin/latamctl bench engine
	bin/latamctl bench api --compare

docs: ## write the generated pages and the outputs of examples
	$(GO) test -run '^(TestGenerated|TestPagesOfTheAPI)' -count=1 ./pkg/cli -update
	$(GO) test -count=1 ./services/query/openapi -update
	$(GO) test -run '^TestGenerated' -count=1 ./pkg/estimate -update

tidy: ## fail when go.mod is not tidy
	$(GO) mod tidy -diff
	$(GO) mod verify

clean: ## remove what the build made
	rm -rf bin dist
