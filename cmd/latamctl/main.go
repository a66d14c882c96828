// Command latamctl runs a data platform: see the package pkg/cli for its commands.
package main

import (
	"os"

	"github.com/latamctl/latamctl/pkg/cli"
	"github.com/latamctl/latamctl/pkg/proc"
)

func main() { os.Exit(cli.Main(proc.OS())) }
