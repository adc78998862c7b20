//go:build !torture

package store

const backlogRecords = 30_000
