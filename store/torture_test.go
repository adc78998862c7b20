//go:build torture

package store

const backlogRecords = 1_000_000

// modelSeeds is how many runs of a model there are.
const modelSeeds = 1_000

// swollen is how many records a file had that is mostly free.
const swollen = 80_000
