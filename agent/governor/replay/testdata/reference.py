#!/usr/bin/env python3
"""The policy that Limber's began with in plain Python, and what it decides on a
made-up trace. `python3 reference.py > golden.json` renews the file that the Go tests
compare with. Standard library only. Times are milliseconds, top-1 is percent.
"""
import json
import math
import random

TOP1 = [74.202, 74.968, 76.134, 77.54, 78.346, 79.03]
PROFILE = [2.98, 3.89, 6.55, 8.54, 13.62, 23.21]
M = len(TOP1)
DEADLINES = [16, 24, 32, 48]

# (slowdown of the processor, competitors per core); the first two are unloaded
LEVELS = [(1, 0), (1.15, 0), (1.05, .5), (1.05, 1), (1.05, 2), (1.05, 4), (1.05, 8)]
K, UNLOADED = len(LEVELS), 2
LOW, RATIO, BINS = .75, 1.08, 42
SLICE, JITTER, PREEMPTED, OUTLIER = 4, .08, .4, .01
N0, MEMORY, JUMP, DRIFT, P_UNLOADED = 10, 200, .01, .05, .5
MARGIN, OPTIMISM = .5, 1


def normal(z):
    return .5 * (1 + math.erf(z / math.sqrt(2)))


def prior_row(g, h, p):
    escape = math.exp(-p / SLICE) if h else 1
    spread = PREEMPTED / math.sqrt(1 + p / SLICE)
    c = []
    for b in range(BINS + 1):
        x = math.log(LOW) + b * math.log(RATIO) - math.log(g)
        base = .4 * math.exp(x / (.35 * JITTER)) if x < 0 else 1 - .6 * math.exp(-x / JITTER)
        c.append(escape * base + ((1 - escape) * normal((x - math.log(1 + h)) / spread) if h else 0))
    r = [max(0, c[b + 1] - c[b]) for b in range(BINS)]
    r[0] += c[0]
    r[-1] += 1 - c[-1]
    return [N0 * ((1 - OUTLIER) * x / sum(r) + OUTLIER / BINS) for x in r]


class Grid:
    def __init__(self):
        self.H = [[prior_row(g, h, p) for p in PROFILE] for g, h in LEVELS]
        self.N = [[float(N0)] * M for _ in LEVELS]
        self.prior = [P_UNLOADED / UNLOADED] * UNLOADED + [(1 - P_UNLOADED) / (K - UNLOADED)] * (K - UNLOADED)
        self.filtered, self.predicted = self.prior[:], self.prior[:]
        self.current = -1

    def cdf(self, k, j, d):
        if d <= 0:
            return 0
        x = (math.log(d) - math.log(PROFILE[j]) - math.log(LOW)) / math.log(RATIO)
        if x <= 0:
            return 0
        if x >= BINS:
            return 1
        b, r = int(x), self.H[k][j]
        return (sum(r[:b]) + (x - b) * r[b]) / self.N[k][j]

    def pick(self, d):
        g = self.filtered
        f = [[TOP1[j] * self.cdf(k, j, d) for j in range(M)] for k in range(K)]
        v = [sum(g[k] * f[k][j] for k in range(K)) for j in range(M)]
        c = self.current
        if max(v) < 5:
            self.current = 0
        elif c < 0:
            self.current = v.index(max(v))
        else:
            for j in range(c + 1, M):
                v[j] += OPTIMISM * sum(g[k] * max(0, f[k][j] - f[k][c]) for k in range(K))
            b = v.index(max(v))
            if v[b] - v[c] > MARGIN:
                self.current = b
        return self.current

    def observe(self, i, latency):
        x = (math.log(latency) - math.log(PROFILE[i]) - math.log(LOW)) / math.log(RATIO)
        b = min(BINS - 1, max(0, int(x)))
        like = [self.H[k][i][b] / self.N[k][i] for k in range(K)]
        g = [x * y for x, y in zip(self.predicted, like)]
        g = [x / sum(g) for x in g]
        self.filtered = g
        for k in range(K):
            if g[k] < .02:
                continue
            r = self.H[k][i]
            r[b] += .5 * g[k]
            r[max(b - 1, 0)] += .25 * g[k]
            r[min(b + 1, BINS - 1)] += .25 * g[k]
            self.N[k][i] += g[k]
            if self.N[k][i] > MEMORY:
                self.H[k][i] = [.9 * w for w in r]
                self.N[k][i] *= .9
        p = [0.] * K
        for k in range(K):
            p[k] += g[k] * (1 - DRIFT)
            p[max(k - 1, 0)] += g[k] * DRIFT / 2
            p[min(k + 1, K - 1)] += g[k] * DRIFT / 2
        self.predicted = [(1 - JUMP) * x + JUMP * y for x, y in zip(p, self.prior)]


def trace(r):
    """Quiet and loaded phases; a run is preempted about once a slice."""
    steps, at = [], 0.
    for hogs in (0, 2, 0, 4, 1, 0, 3, 0):
        for _ in range(r.randrange(20, 60)):
            latency = []
            for p in PROFILE:
                x = p * math.exp(abs(r.gauss(0, .05)))
                left = p
                while left > 0:
                    if hogs and r.random() < min(left, SLICE) / SLICE * .8:
                        x += SLICE * hogs / 2 * r.uniform(.5, 1.5)
                    left -= SLICE
                latency.append(round(x * 1e6))
            steps.append({"at": round(at * 1e6), "hogs": hogs, "latency": latency})
            at += 60
    return steps


def main():
    r = random.Random(1)
    steps = trace(r)
    for s in steps:
        s["pick"] = []
    for d in DEADLINES:
        g = Grid()
        for s in steps:
            i = g.pick(d)
            s["pick"].append(i)
            g.observe(i, s["latency"][i] / 1e6)
    out = {"top1": [x / 100 for x in TOP1], "profile": [round(p * 1e6) for p in PROFILE],
           "deadlines": [d * 1000000 for d in DEADLINES], "steps": steps}
    print(json.dumps(out, separators=(",", ":")).replace('{"at"', '\n{"at"'))


if __name__ == "__main__":
    main()
