// Package monitor makes Datadog match what is declared: it compares, plans, and carries out plans.
// It keeps no state of its own; who owns an object, and what was applied to it, stands on the object.
package monitor

import (
	"context"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// Live is an object as Datadog has it.
type Live = declare.Live

// Reader reads Datadog.
type Reader interface {
	// List returns the objects of a kind that carry the stack's tag or mark, whole: with all their fields.
	// A list that could not be read to its end is an error that wraps datadog.ErrPartial.
	// Of metrics it returns the configured ones among names.
	List(ctx context.Context, kind declare.Kind, stack string, names []string) ([]Live, error)
	Get(ctx context.Context, kind declare.Kind, id string) (Live, error)
	// Deletable returns, by id, why an object cannot be deleted. Those that can are not in it.
	Deletable(ctx context.Context, kind declare.Kind, ids []string) (map[string]string, error)
}

// Writer changes Datadog. Its errors wrap those of package datadog.
type Writer interface {
	// Validate asks whether the content of a monitor would be taken; id is "" for a new one.
	Validate(ctx context.Context, id string, payload map[string]any) error
	// Create is sent once. When it is not known whether it happened, the error wraps datadog.ErrAmbiguous.
	Create(ctx context.Context, kind declare.Kind, payload map[string]any) (Live, error)
	Update(ctx context.Context, kind declare.Kind, id string, payload map[string]any) (Live, error)
	Delete(ctx context.Context, kind declare.Kind, id string, force bool) error
}

// Remote is Datadog.
type Remote interface {
	Reader
	Writer
}
