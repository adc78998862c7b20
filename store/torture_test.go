//go:build torture

package store

const backlogRecords = 1_000_000

// modelSeeds is how many runs of a model there are.
const modelSeeds = 1_000
