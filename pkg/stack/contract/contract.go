// Package contract knows what every stack needs and provides: its place in the order, its variables
// with where their values come from, its outputs, and what in it must not be lost.
package contract

import (
	"io/fs"
)

// Stack is one Terraform root module with its contract, contract.yaml.
type Stack struct {
	Name        string
	Description string // one sentence
	// Needs are the stacks that must be applied before this one. The stacks that Inputs read from are added to it.
	Needs []string
	// Inputs are its Terraform variables.
	Inputs []Input
	// Provides are its Terraform outputs.
	Provides []Output
	// Protected are the resource types that are deleted or replaced only when their address is named.
	Protected []string
	// Keep leaves the stack alone in `down` unless it is named.
	Keep bool
	// Requires are the settings without which the stack is left out, such as billing_account.
	Requires []string
	// Files has the stack's files at its root.
	Files fs.FS
	// Own is true for a stack of the user's folder, false for a built-in one.
	Own bool
}

// Input is one variable of a stack.
type Input struct {
	Name string
	// Type is Terraform's type constraint, such as string, or map(object({…})).
	Type string
	// From is "stack.output" for a value that only an apply makes, and empty for one that is derived
	// from the declaration and the settings.
	From string
	// Sensitive values are never shown.
	Sensitive bool
}

// Output is one output of a stack.
type Output struct {
	Name, Type, Description string
	Sensitive               bool
}

// Set is all stacks of one run. It is read-only after Load.
type Set struct {
	// Stacks are in an order in which they can be applied, the same for the same set.
	Stacks []*Stack
}
