//go:build torture

package store

const backlogRecords = 1_000_000
