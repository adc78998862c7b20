# make build   the program, bin/limber, the ONNX Runtime library it loads, and the launcher, bin/limber-boot
# make demo    all of it on this desk: broker, agent, cameras, a load that comes and goes
# make test    every test, with the race detector but for what runs alone
# make torture what takes longer: real agents, members and load, thousands of kills (90 minutes)
# make check   what CI runs: format, vet, the cgo-free arm64 build, the tests, the demo
# make deb     the packages for amd64 and arm64, in bin; the same commit makes the same bytes
# make package-test  what a package is held to: built twice, installed, upgraded, removed (Debian, root)
# make arm64   the arm64 library, with which make test runs an arm64 build under emulation
# make bench   the ratios against named baselines (minutes; a quiet machine, please)
# make picture  the README's picture of the page, as the demo shows itself on it (chromium, npm)
# make data    CIFAR-10, for `limber family eval` on all 10,000 test images
# make clean   what was built; `make clean-all` also what was fetched

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: build demo test torture check deb package-test arm64 bench picture data clean clean-all runtime tuf

build: runtime
	@$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/limber ./agent/cmd/limber
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/limber-boot ./agent/cmd/limber-boot

demo: build
	@bin/limber demo $(DEMO_ARGS)

# Tests that wait are parallel, and so are packages, those first that take longest. A
# process under the race detector would sleep for a second before it ends. A test leaves
# much behind and ends soon: the collector need not come as often as in a program that
# stays, but where memory is measured.
TESTED  = GORACE=atexit_sleep_ms=0 $(GO) test -race -parallel 4
MODULE  = github.com/limber-edge/limber
SLOWEST = agent/cmd/limber agent agent/dash agent/fleet/controller broker-config/brokercheck store agent/update \
	family/workshop firmware/repo

# Nothing in these packages nor in their tests runs beside anything else, which is what
# the race detector looks for, and it makes their arithmetic take five to ten times as
# long. make torture has it nevertheless.
ALONE = agent/fleet/rollout agent/frame agent/governor/replay family/ofa family/onnx

test: runtime tuf
	GOGC=400 $(GO) test $(addprefix $(MODULE)/,$(ALONE))
	GOGC=400 $(TESTED) -p 3 -timeout 10m $(addprefix $(MODULE)/,$(SLOWEST)) \
		$$($(GO) list ./... | grep -vxF $(ALONE:%=-e $(MODULE)/%))

# Within two hours on two processors, and told as it goes. Packages with tests behind the
# build tag come one at a time, as they measure; then what a device holds is looked at, and
# fleets, which have more goroutines than the race detector takes; and last devices are killed KILLS times each, and
# brokers with them, two storms at once. A step that fails does not keep the others from running.
# LIMBER_SEED=... repeats the plan of a run.
KILLS   ?= 1000
FLEETS   = ^TestAThousandBirths|^TestAFleetOutlives|^TestTwoHundredDevices
TORTURE  = -tags torture -v -timeout 75m
TORTURED = $(addprefix ./,$(sort $(dir $(shell git grep -l '^//go:build.*torture' -- '*_test.go'))))

torture: runtime tuf
	@failed=0; \
	echo "torture, 1 of 3: $(TORTURED)"; \
	$(TESTED) $(TORTURE) -p 1 -skip '^TestPackage|^TestR6_|^TestN2_KillsUnderTraffic|$(FLEETS)' $(TORTURED) $(ALONE:%=./%) || failed=1; \
	echo "torture, 2 of 3: 410,000 jobs and 1,000 connections, 1,000 devices"; \
	$(GO) test $(TORTURE) -p 1 -run '^TestR6_|$(FLEETS)' ./agent ./agent/sim || failed=1; \
	echo "torture, 3 of 3: $(KILLS) kills of each device"; \
	LIMBER_KILLS=$(KILLS) $(TESTED) $(TORTURE) -parallel 2 -run '^TestN2_KillsUnderTraffic' ./agent || failed=1; \
	exit $$failed

check: runtime
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted"; exit 1; }
	$(GO) mod verify
	$(GO) vet ./...
	CGO_ENABLED=0 GOARCH=arm64 $(GO) build ./...
	$(MAKE) build arm64 test
	bin/limber demo --json

# Debian: gcc-aarch64-linux-gnu and qemu-user. Where they are missing the test
# says so and is skipped.
arm64:
	@! command -v qemu-aarch64 >/dev/null || family/ort/fetch.sh arm64

# DEBS=amd64 leaves the other out, for which it needs gcc-aarch64-linux-gnu.
DEBS ?= amd64 arm64

deb: runtime
	@for arch in $(DEBS); do firmware/packaging/deb.sh $$arch || exit 1; done

# Debian: debootstrap, lintian, systemd, qemu-user and a mirror. What is missing is said.
package-test: runtime arm64
	$(GO) test -tags torture -v -count=1 -timeout 60m -run '^TestPackage' ./firmware/packaging ./agent/cmd/limber

# The parity checkpoint, where it lies beside the project, has the shape of the
# published ImageNet supernet.
SUPERNET ?= $(wildcard ../shared/data/parity/mbv3_w1.0/supernet.pth)

# The published levels of Dynamic-OFA label the members of the recorded traces.
TRACES    = $(wildcard agent/governor/replay/testdata/*.txt)
TOP1      = 0.74202,0.74968,0.76134,0.7754,0.78346,0.7903
DEADLINES = 6.3,9.5,12.6,19

bench: build
	bin/limber bench core $(if $(SUPERNET),--supernet $(SUPERNET)) $(BENCH_ARGS)
	bin/limber bench memory $(if $(SUPERNET),--supernet $(SUPERNET)) $(BENCH_ARGS)
	bin/limber bench e2e $(BENCH_ARGS)
	bin/limber bench overload $(BENCH_ARGS)
	bin/limber bench shadow $(BENCH_ARGS)
	bin/limber bench outbox $(BENCH_ARGS)
	bin/limber bench fleet $(BENCH_ARGS)
	for t in $(TRACES); do bin/limber bench governor --trace $$t --deadlines $(DEADLINES) --top1 $(TOP1) $(BENCH_ARGS); done
	bin/limber bench live $(if $(SUPERNET),--supernet $(SUPERNET)) $(BENCH_ARGS)

picture: build
	LIMBER_PROGRAM=$(CURDIR)/bin/limber LIMBER_PICTURE=$(CURDIR)/agent/dash/page.webp \
		$(GO) test -count=1 -run '^TestThePictureOfTheReadme$$' ./agent/dash

data:
	@family/stock/fetch.sh

runtime:
	@family/ort/fetch.sh

# python-tuf, a client of the same metadata as ours. Where there is no Python the tests
# that need it say so and are skipped.
tuf:
	@firmware/repo/fetch.sh

clean:
	rm -rf bin

clean-all: clean
	rm -rf .onnxruntime .data .tuf
