package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/store"
)

// scriptedSink answers each call with the next function.
type scriptedSink struct {
	answers []func(row dataset.Row) error
	calls   []int // the rows of each
}

func (s *scriptedSink) Put(_ context.Context, _ string, rows []dataset.Row) []error {
	errs := make([]error, len(rows))
	for i, row := range rows {
		errs[i] = s.answers[min(len(s.calls), len(s.answers)-1)](row)
	}
	s.calls = append(s.calls, len(rows))
	return errs
}

func TestPutAll(t *testing.T) {
	t.Parallel()
	taken := func(dataset.Row) error { return nil }
	away := func(dataset.Row) error { return store.ErrUnavailable }
	poison := func(dataset.Row) error { return store.ErrPoison }
	some := func(row dataset.Row) error {
		if row.Key < "1" {
			return fmt.Errorf("%w: %s", store.ErrUnavailable, row.Key)
		}
		return nil
	}
	for _, tc := range []struct {
		name    string
		answers []func(dataset.Row) error
		calls   []int
		want    error
	}{
		{"at once", []func(dataset.Row) error{taken}, []int{3}, nil},
		{"only what failed is written again", []func(dataset.Row) error{some, taken}, []int{3, 1}, nil},
		{"a store that stays away", []func(dataset.Row) error{away}, []int{3, 3, 3, 3, 3}, store.ErrUnavailable},
		{"a row that is refused", []func(dataset.Row) error{poison}, []int{3}, store.ErrPoison},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := &scriptedSink{answers: tc.answers}
			err := putAll(t.Context(), s, "t", []dataset.Row{{Key: "0"}, {Key: "1"}, {Key: "2"}})
			if !errors.Is(err, tc.want) || fmt.Sprint(s.calls) != fmt.Sprint(tc.calls) {
				t.Errorf("calls of %v rows and %v, want %v and %v", s.calls, err, tc.calls, tc.want)
			}
			if err != nil && (!strings.Contains(err.Error(), "3 of 3 rows are not stored") || strings.Count(err.Error(), tc.want.Error()) != 1) {
				t.Errorf("%q does not say once what is wrong", err)
			}
		})
	}
}
