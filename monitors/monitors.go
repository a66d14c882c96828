// Package monitors holds the declared monitors, SLOs and dashboards, and the tests of their alerts.
package monitors

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml tests/*.yaml
var files embed.FS

// FS returns the YAML files: objects at the top, tests in tests/.
func FS() fs.FS { return files }
