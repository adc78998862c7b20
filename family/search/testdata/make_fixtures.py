"""Writes the fixtures of package search: what the original code says.

Usage: PYTHONPATH=ofa-original python3 make_fixtures.py [PUBLISHED]

PUBLISHED is a folder with acc_predictor.pth, jetson-cpu/ and jetson-gpu/;
without it published.json stays as it is. The environment is that of
../../ofa/testdata/README.md and the PyPI package gdown, which is imported and
not used.
"""
import json
import os
import random
import sys

import torch
from ofa.tutorial.accuracy_predictor import AccuracyPredictor
from ofa.tutorial.evolution_finder import ArchManager
from ofa.tutorial.latency_table import LatencyEstimator

HERE = os.path.dirname(os.path.abspath(__file__))


class Recorder(dict):
    """A table that makes up a row for every key it is asked for."""

    def __missing__(self, key):
        mean = round(random.uniform(0.5, 5), 6)
        self[key] = {"count": 79, "mean": mean, "std": round(mean / 10, 6)}
        return self[key]


def estimator(rows):
    e = LatencyEstimator.__new__(LatencyEstimator)  # its __init__ wants YAML
    e.lut = rows
    return e


def milliseconds(e, arch):
    return round(e.predict_network_latency_given_spec(arch), 6)


def load_rows(folder, r):
    with open(os.path.join(folder, f"{r}_lookup_table.json")) as f:
        return json.load(f)


def samples(n, resolutions):
    manager = ArchManager()
    manager.resolutions = resolutions
    return [manager.random_sample() for _ in range(n)]


def write(name, rows):
    """Writes a list with a row a line."""
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    with open(os.path.join(HERE, name), "w") as f:
        f.write(f"[\n{lines}\n]\n")


def row(arch, accuracy, **ms):
    return {"arch": {"ks": arch["ks"], "e": arch["e"], "d": arch["d"], "r": arch["r"][0]}, "accuracy": round(accuracy, 7), **ms}


def small():
    """A predictor of 12 and 8 neurons and a table with made-up rows."""
    torch.manual_seed(1)
    random.seed(1)
    predictor = AccuracyPredictor(pretrained=False, device="cpu")
    layers = [torch.nn.Linear(128, 12), torch.nn.ReLU(), torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)]
    predictor.model = torch.nn.Sequential(*layers)
    torch.save(predictor.model.state_dict(), os.path.join(HERE, "predictor.pth"), _use_new_zipfile_serialization=False)
    tables = {r: Recorder() for r in (160, 176)}
    for r, rows in tables.items():
        for k in (3, 5, 7):
            for e in (3, 4, 6):
                estimator(rows).predict_network_latency_given_spec({"ks": [k] * 20, "e": [e] * 20, "d": [4] * 5, "r": [r]})
        os.makedirs(os.path.join(HERE, "table"), exist_ok=True)
        with open(os.path.join(HERE, "table", f"{r}_lookup_table.json"), "w") as f:
            json.dump(rows, f, indent=1, sort_keys=True)
            f.write("\n")
    archs = samples(40, list(tables))
    accuracy = predictor.predict_accuracy(archs)
    write("small.json", [row(a, acc.item(), ms=milliseconds(estimator(tables[a["r"][0]]), a)) for a, acc in zip(archs, accuracy)])


def published(folder):
    """The published predictor and tables on 200 architectures."""
    random.seed(1)
    predictor = AccuracyPredictor(pretrained=False, device="cpu")
    predictor.model.load_state_dict(torch.load(os.path.join(folder, "acc_predictor.pth"), map_location="cpu"))
    archs = samples(200, [160, 176, 192, 208, 224])
    accuracy = predictor.predict_accuracy(archs)
    rows = []
    for a, acc in zip(archs, accuracy):
        ms = {f"{d}_ms": milliseconds(estimator(load_rows(os.path.join(folder, f"jetson-{d}"), a["r"][0])), a) for d in ("cpu", "gpu")}
        rows.append(row(a, acc.item(), **ms))
    write("published.json", rows)


small()
if len(sys.argv) > 1:
    published(sys.argv[1])
