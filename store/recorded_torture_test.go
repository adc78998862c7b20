//go:build linux && torture

package store

// everyCut is how many states that a power cut may leave there are to one that is tried.
const everyCut = 1
