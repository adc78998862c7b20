//go:build !torture

package store

const backlogRecords = 30_000

// modelSeeds is how many runs of a model there are.
const modelSeeds = 10

// swollen is how many records a file had that is mostly free.
const swollen = 20_000
