package datadog

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// maxIDs is how many ids one question has; more would not fit into an address.
const maxIDs = 50

// Deletable returns, by id, why an object cannot be deleted: what needs it. Those that can be are not in it, and
// neither are those that are gone.
func (c *Client) Deletable(ctx context.Context, kind declare.Kind, ids []string) (map[string]string, error) {
	denied := map[string]string{}
	switch kind {
	case declare.Dashboard: // Nothing needs a dashboard.
		return denied, nil
	case declare.Metric:
		for _, id := range ids {
			denied[id] = "the settings of a metric are shared by the whole organisation"
		}
		return denied, nil
	}
	for _, id := range ids {
		if _, err := checkID(kind, id); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	var errs []error
	slots := make(chan struct{}, c.parallel)
	for batch := range slices.Chunk(ids, maxIDs) {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			found, err := c.askDeletable(ctx, kind, batch)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(denied, found)
			errs = append(errs, err)
		})
	}
	group.Wait()
	return denied, firstCause(ctx, errs)
}

// askDeletable asks about some ids. One that is gone spoils the answer for all, so then each is asked about alone.
func (c *Client) askDeletable(ctx context.Context, kind declare.Kind, ids []string) (map[string]string, error) {
	body, err := c.do(ctx, func(ctx context.Context) (*http.Response, error) {
		if kind == declare.SLO {
			_, response, err := c.slos.CheckCanDeleteSLO(ctx, strings.Join(ids, ","))
			return response, err
		}
		numbers := make([]int64, len(ids))
		for i, id := range ids {
			numbers[i], _ = checkID(kind, id) // Checked before.
		}
		_, response, err := c.monitors.CheckCanDeleteMonitor(ctx, numbers)
		return response, err
	})
	var failed *Error
	refused := errors.As(err, &failed) && failed.Status == http.StatusConflict
	switch {
	case errors.Is(err, ErrNotFound) && len(ids) == 1:
		return nil, nil
	case errors.Is(err, ErrNotFound):
		denied := map[string]string{}
		for _, id := range ids {
			found, err := c.askDeletable(ctx, kind, []string{id})
			if err != nil {
				return nil, err
			}
			maps.Copy(denied, found)
		}
		return denied, nil
	case err != nil && !refused:
		return nil, err
	}
	return c.readDenied(body, ids)
}

// readDenied reads who cannot be deleted. Only what is certainly free is free.
func (c *Client) readDenied(body []byte, ids []string) (map[string]string, error) {
	var answer struct {
		Data struct {
			OK []json.RawMessage `json:"ok"`
		} `json:"data"`
		Errors map[string]any `json:"errors"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, c.unreadable(&call{method: http.MethodGet, path: "can_delete"}, body, err)
	}
	free := map[string]bool{}
	for _, id := range answer.Data.OK {
		free[strings.Trim(string(id), `"`)] = true
	}
	denied := map[string]string{}
	for _, id := range ids {
		why := c.clean(strings.Join(texts("", answer.Errors[id]), "; "))
		switch {
		case strings.HasSuffix(why, "not found"): // It is gone.
		case why != "":
			denied[id] = why
		case !free[id]:
			denied[id] = "Datadog does not say that it can be deleted"
		}
	}
	return denied, nil
}
