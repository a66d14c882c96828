// Package stacks holds the Terraform stacks that are built into the binary, a folder each.
package stacks

import (
	"embed"
	"io/fs"
)

// The pattern takes every folder whole, with manifests and tests. Files whose names begin with a dot
// or an underscore are left out, so that a .terraform folder of someone who ran terraform here never
// gets into the binary; what a run needs must not be named so.
//
//go:embed *
var files embed.FS

// FS has the folders of the stacks at its root.
func FS() fs.FS { return files }
