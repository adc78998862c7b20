// Package stock carries the stock family, so that everything works out of the
// box: an OFA-MobileNetV3 for 32×32 colour images in ten classes (CIFAR-10),
// the members cut from it, and a sheet of test images. README.md beside it
// says how they were made and whose images they are.
package stock

import (
	"embed"
	"io/fs"

	"github.com/limber-edge/limber/family"
)

//go:embed family.json supernet.pth supernet.json blobs test1000.png test1000.labels.json
var files embed.FS

// Family returns the stock family; its blobs are part of the program.
func Family() (*family.Folder, error) { return family.OpenFolder(files) }

// Sheet opens the 1,000 test images with their labels, one image a row.
func Sheet[S any](open func(folder fs.FS, name string) (S, error)) (S, error) {
	return open(files, "test1000")
}
