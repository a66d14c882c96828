# Every target is what CI runs too. `make help` lists them.
GO     ?= go
GOFLAGS_BUILD = -trimpath -ldflags "-s -w"

# The tools of CI, pinned in tools/ci.mod; golangci-lint, pinned in tools/go.mod, needs another version of
# a module that one of them has too.
TOOL_CI = $(GO) tool -modfile=tools/ci.mod

# What a release is made of, and the image that is made of it.
PLATFORMS       ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
IMAGE           ?= latamctl:dev
IMAGE_PLATFORMS ?= linux/$(shell $(GO) env GOARCH)
comma := ,

.DEFAULT_GOAL := help
.PHONY: help build test check lint workflows tflint vet race fuzz stacks cloud crash fault headline kill abuse kubernetes cluster bench soak walk docs tidy clean \
  vuln licenses sbom release reproducible image push smoke scan

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/latamctl, a static binary
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_BUILD) -o bin/latamctl ./cmd/latamctl

test: ## every test
	$(GO) test ./...

check: vet lint race tidy ## what has to pass before a change lands: vet, lint, race detector, fuzz seeds, import levels, tidy modules

vet:
	$(GO) vet ./...

lint: workflows ## golangci-lint, the version pinned in tools/go.mod, and the workflows
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...

workflows: ## actionlint, the version pinned in tools/ci.mod
	$(TOOL_CI) actionlint

tflint: ## every stack by the rules that tflint has built in; it has to be on PATH
	@command -v tflint >/dev/null || { echo "tflint is not on PATH: $(GO) install github.com/terraform-linters/tflint@latest" >&2; exit 1; }
	$(GO) test -run '^TestStacksAreLinted$$' -count=1 ./stacks

# Under the race detector each program sleeps for a second before it ends, and the tests start many. Tests
# that show no race leave themselves out, or take smaller loads: in their packages it is raceDetector.
race: ## every test under the race detector, with the fuzz seeds and the import levels
	GORACE=atexit_sleep_ms=10 $(GO) test -race -timeout 30m ./...

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

# The tests of pkg/fault re-execute themselves as the program, so -tags fault builds one that can be broken.
FAULT = $(GO) test -tags fault -count=1 -v

fault: ## ingest among kills, broken writes, networks, clocks and disks, and five mistakes that have to be caught
	$(FAULT) -parallel 4 -timeout 20m ./pkg/fault
	$(GO) test -run '^TestServeDrainsWithoutAFailedRequest$$' -count=1 ./pkg/cli

headline: ## 200,000 messages, 300 kills of ingest and of the engine, duplicates, disorder, poison
	LATAM_HEADLINE_MESSAGES=200000 LATAM_HEADLINE_KILLS=300 $(FAULT) -run '^TestHeadline$$' -timeout 40m ./pkg/fault

kill: ## latamctl is killed, and interrupted, at 60 points of an apply each (make test does 4)
	LATAM_KILL_POINTS=60 $(GO) test -run '^Test(KilledParent|InterruptAnywhere)$$' -count=1 -timeout 30m ./pkg/stack/terraform

abuse: ## attacks at full size: 500 slow clients, 5,000 connections, 200,000 hostile requests
	LATAM_ABUSE_SLOW_CONNS=500 LATAM_ABUSE_FLOOD_CONNS=5000 LATAM_ABUSE_REQUESTS=200000 LATAM_ABUSE_LOG_REQUESTS=50000 \
	  $(GO) test -run '^Test(SlowClients|Flood|Oversize|Abuse|Overload|WidestScans|StoreThat|CursorsEnd|HostileRequestsInTheLog)' -count=1 -v -timeout 30m ./services/query
	$(GO) test -run '^Test(Slow|ConnectionCap|SizeAbuse|Smuggling|HTTP2|OnlyLocalHosts|HostsOverTheWire|PagesOfOther)' -count=1 ./pkg/web

kubernetes: ## build a real control plane into the cache, for make cluster; it takes some minutes, once
	GO=$(GO) tools/kubernetes/build

cluster: kubernetes ## releases and manifests on a real control plane
	LATAM_CLUSTER=1 $(GO) test -run '^TestCluster$$' -count=1 -v -timeout 20m ./pkg/deploy

soak: ## 10 million messages through the log, the faults at their full size, LATAM_SOAK_MINUTES (default 60) of all of them mixed
	LATAM_SOAK_MESSAGES=10000000 $(GO) test -run '^TestSoak$$' -count=1 -v -timeout 30m ./pkg/engine/topiclog
	LATAM_F01_MESSAGES=200000 LATAM_F01_KILLS=300 LATAM_F02_SEEDS=10 LATAM_F03_MESSAGES=100000 LATAM_F07_DELIVERIES=1000000 \
	  LATAM_F08_MESSAGES=50000 LATAM_F10_MESSAGES=100000 LATAM_F10_STOPS=100 LATAM_F12_MESSAGES=500000 LATAM_F12_KILLS=100 \
	  LATAM_OUTAGES=40 LATAM_F06_SECONDS=360 $(FAULT) -parallel 4 -timeout 3h -skip '^(TestF17|TestHeadline)' ./pkg/fault
	LATAM_F08_RATE=1 $(FAULT) -run '^TestF08PoisonDoesNotSlowTheOthers$$' -timeout 20m ./pkg/fault
	LATAM_SOAK_MINUTES=$${LATAM_SOAK_MINUTES:-60} $(FAULT) -run '^TestF17Soak$$' -timeout 4h ./pkg/fault
	LATAM_EMULATOR_FLIGHTS=20000 $(GO) test -run '^TestGooglesEmulators$$' -count=1 -timeout 20m ./pkg/cli

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
	$(GO) test -run '^TestLicenses' -count=1 ./release -update

tidy: ## fail when go.mod is not tidy
	$(GO) mod tidy -diff
	$(GO) mod verify

vuln: ## known vulnerabilities in what the program calls; VULNDB is another database, such as file:///srv/vulndb
	$(TOOL_CI) govulncheck $(if $(VULNDB),-db $(VULNDB)) ./cmd/latamctl

licenses: ## the licence of every module in the program is one that docs/licenses.md allows
	$(GO) test -run '^TestLicenses' -count=1 ./release

sbom: build ## dist/latamctl.cdx.json: the parts of bin/latamctl as CycloneDX
	@mkdir -p dist
	GO=$(GO) tools/sbom bin/latamctl dist/latamctl.cdx.json

release: ## dist: the program for PLATFORMS, the parts of each, licences, checksums
	@rm -rf dist && mkdir -p dist
	@set -e; for p in $(PLATFORMS); do \
	  out=dist/latamctl_$${p%/*}_$${p#*/}; echo "$$out"; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -buildvcs=true $(GOFLAGS_BUILD) -o $$out ./cmd/latamctl; \
	  GO=$(GO) tools/sbom $$out $$out.cdx.json; \
	done
	@$(GO) version -m dist/latamctl_$(subst /,_,$(firstword $(PLATFORMS))) | awk '$$1 == "mod" { print $$3 }' > dist/version
	@GO=$(GO) tools/notices > dist/latamctl_licenses.txt
	@cd dist && sha256sum latamctl_* > checksums.txt && cat version checksums.txt

reproducible: ## the last commit, built in two folders, gives the same bytes; COLD=1 compiles all of it twice
	COLD=$(COLD) tools/reproducible

# The times in the image are the commit's, so that the same commit gives the same image.
DOCKER_BUILD = SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) docker buildx build --platform $(IMAGE_PLATFORMS) \
  --provenance=false --build-arg VERSION=$$(cat dist/version) --build-arg REVISION=$$(git rev-parse HEAD) \
  --build-arg CREATED=$$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)

image: ## the image IMAGE (default latamctl:dev) for the docker of this machine
	@$(MAKE) --no-print-directory release PLATFORMS="$(subst $(comma), ,$(IMAGE_PLATFORMS))"
	$(DOCKER_BUILD) --tag $(IMAGE) --load .

push: ## push IMAGE with the programs of make release; its digest goes to dist/image.digest
	$(DOCKER_BUILD) --output type=image,name=$(IMAGE),push=true,rewrite-timestamp=true --metadata-file dist/image.json .
	@sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]*\)".*/\1/p' dist/image.json > dist/image.digest
	@grep . dist/image.digest

smoke: ## run IMAGE without root, rights and a writable disk, until its health check passes
	tools/smoke-image $(IMAGE)

scan: ## what Artifact Registry finds in IMAGE, by digest; fails on FAIL_ON (default CRITICAL HIGH)
	tools/scan-image $(IMAGE)

clean: ## remove what the build made
	rm -rf bin dist
