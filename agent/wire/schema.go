package wire

import (
	"embed"
	"io/fs"
)

//go:embed schema/*.json
var schemas embed.FS

// Schemas are the JSON Schemas (draft 2020-12) of the payloads, one file a
// message, such as schema/result.json.
func Schemas() fs.FS { return schemas }
