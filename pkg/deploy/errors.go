package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	// ErrDenied says that the cluster does not know who asks, or does not let them.
	ErrDenied = errors.New("not allowed")
	// ErrUnavailable says that the cluster cannot be reached, or is too busy, after all retries.
	ErrUnavailable = errors.New("the cluster does not answer")
)

// MissingAPIError says which APIs the cluster does not have. Nothing was changed.
type MissingAPIError struct {
	// APIs are group/version with the kinds that are needed, such as "gateway.networking.k8s.io/v1 (Gateway, HTTPRoute)".
	APIs []string
}

func (e *MissingAPIError) Error() string {
	text := "the cluster does not have the API " + strings.Join(e.APIs, " and ")
	if strings.Contains(text, "gateway.networking.k8s.io") || strings.Contains(text, "networking.gke.io") {
		text += ": turn on its Gateway API (gateway_api_config with CHANNEL_STANDARD in the stack cluster), which takes some minutes to appear"
	}
	return text
}

// Conflict is a field that somebody else declares with another value.
type Conflict struct {
	Address string // of the object
	Field   string // such as .spec.type
	Manager string // such as argocd-controller
}

// ConflictError says which fields of which objects others declare. Nothing was changed.
type ConflictError struct{ Conflicts []Conflict }

func (e *ConflictError) Error() string {
	lines := make([]string, len(e.Conflicts))
	for i, c := range e.Conflicts {
		lines[i] = fmt.Sprintf("%s: %s is declared by %q too, with another value", c.Address, c.Field, c.Manager)
	}
	return strings.Join(lines, "\n") + "\nlet one of the two declare it: take it out there, or take it over from here"
}

// ForeignError says which objects have our names and are not ours. Nothing was changed.
type ForeignError struct{ Addresses []string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s: there already, and not made by latamctl (without the labels %s=%s and %s of this environment); rename or delete it, or take it over",
		strings.Join(e.Addresses, ", "), labelManagedBy, manager, labelPartOf)
}

// classify adds what a caller can tell apart.
func classify(err error) error {
	var netErr net.Error
	switch {
	case apierrors.IsUnauthorized(err), apierrors.IsForbidden(err):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case errors.Is(err, context.Canceled), errors.Is(err, ErrDenied):
		return err
	case transient(err), errors.As(err, &netErr):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// transient tells whether the same request may do better a little later.
func transient(err error) bool {
	if apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsInternalError(err) || apierrors.IsTimeout(err) {
		return true
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return slices.Contains([]int32{500, 502, 504}, status.Status().Code)
	}
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// conflictsOf returns the fields of a refused apply; none when the error is another one.
func conflictsOf(err error, address string) []Conflict {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var all []Conflict
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			all = append(all, Conflict{Address: address, Field: cause.Field, Manager: managerIn(cause.Message)})
		}
	}
	return all
}

// managerIn finds the name in: conflict with "kubectl-edit" using apps/v1.
func managerIn(message string) string {
	_, rest, _ := strings.Cut(message, `"`)
	name, _, found := strings.Cut(rest, `"`)
	if !found {
		return message
	}
	return name
}
