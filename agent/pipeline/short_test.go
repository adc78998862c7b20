//go:build !torture

package pipeline

// storms are seeds of storms, changes those of the mode between two looks at the memory.
const storms, changes = 15, 250
