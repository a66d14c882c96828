package datadog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

const (
	pageSize   = 1000 // the most that the API gives
	searchSize = 200
	maxWalks   = 3 // how often a list is read that changes meanwhile
	maxPages   = 1000
	// maxStale is how many monitors that only the search knows are looked up one by one.
	maxStale = 200
)

// List returns the objects of a kind that carry the tags or the mark of a stack, whole. Of metrics it returns those
// among names that have settings. When it could not be read to its end, the error wraps ErrPartial.
func (c *Client) List(ctx context.Context, kind declare.Kind, stack string, names []string) ([]declare.Live, error) {
	switch kind {
	case declare.Monitor:
		return c.listMonitors(ctx, stack)
	case declare.SLO:
		return c.listSLOs(ctx, stack)
	case declare.Dashboard:
		return c.listDashboards(ctx, stack)
	}
	return c.getAll(ctx, kind, names)
}

// partial is the error of a list that was not read whole.
func partial(kind declare.Kind, format string, args ...any) error {
	return fmt.Errorf("list the %ss: %w: %s; nothing can be planned on it, try again in a minute", kind, ErrPartial, fmt.Sprintf(format, args...))
}

// ours tells whether an object has both tags of a stack.
func ours(payload map[string]any, stack string) bool {
	tags, _ := payload["tags"].([]any)
	return slices.Contains(tags, any("managed_by:latamctl")) && slices.Contains(tags, any("latamctl_stack:"+stack))
}

// keepOurs drops what the server's filter let through, such as an object with one tag only.
func keepOurs(all []declare.Live, stack string) []declare.Live {
	return slices.DeleteFunc(all, func(l declare.Live) bool { return !ours(l.Payload, stack) })
}

// listMonitors walks by the last id seen, so that changes meanwhile move nothing, and asks the search, which counts
// in another way, whether some are missing.
func (c *Client) listMonitors(ctx context.Context, stack string) ([]declare.Live, error) {
	tags := "managed_by:latamctl,latamctl_stack:" + stack
	all, err := c.readMonitors(ctx, datadogV1.ListMonitorsOptionalParameters{MonitorTags: &tags})
	if err != nil {
		return nil, err
	}
	all = keepOurs(all, stack)
	if err := c.crossCheck(ctx, stack, all); err != nil {
		return nil, err
	}
	return all, nil
}

// readMonitors walks by id, or by page if the server does not heed id_offset.
func (c *Client) readMonitors(ctx context.Context, filter datadogV1.ListMonitorsOptionalParameters) ([]declare.Live, error) {
	all, err := c.walkMonitors(ctx, filter, true)
	if errors.Is(err, errMoved) {
		all, err = c.walkMonitors(ctx, filter, false)
	}
	if errors.Is(err, errMoved) {
		return nil, partial(declare.Monitor, "%v", err)
	}
	return all, err
}

func (c *Client) walkMonitors(ctx context.Context, filter datadogV1.ListMonitorsOptionalParameters, byID bool) ([]declare.Live, error) {
	var all []declare.Live
	seen := map[string]bool{}
	size, offset := int32(pageSize), int64(0)
	filter.PageSize = &size
	for pages := range int64(maxPages) {
		page := pages
		if byID {
			page = 0
			filter.IdOffset = &offset
		}
		filter.Page = &page
		var got []map[string]any
		err := c.read(ctx, &got, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.monitors.ListMonitors(ctx, filter)
			return response, err
		})
		if err != nil {
			return nil, partly(declare.Monitor, len(all), err)
		}
		for _, payload := range got {
			live, err := liveOf(declare.Monitor, payload)
			if err != nil {
				return nil, partial(declare.Monitor, "%v", err)
			}
			if seen[live.ID] {
				return nil, fmt.Errorf("%w: monitor %s is there twice", errMoved, live.ID)
			}
			seen[live.ID] = true
			all = append(all, live)
			number, _ := strconv.ParseInt(live.ID, 10, 64)
			offset = max(offset, number)
		}
		if len(got) < pageSize {
			return all, nil
		}
	}
	return nil, partial(declare.Monitor, "it has no end")
}

// partly adds to a failure how far a list was read.
func partly(kind declare.Kind, read int, err error) error {
	if read == 0 {
		return fmt.Errorf("list the %ss: %w", kind, err)
	}
	return fmt.Errorf("list the %ss: %w after %d: %w", kind, ErrPartial, read, err)
}

// crossCheck refuses a list that lacks monitors which exist. The search lags behind, so what only it knows is looked up.
func (c *Client) crossCheck(ctx context.Context, stack string, all []declare.Live) error {
	total, _, err := c.searchMonitors(ctx, stack, 0, 1)
	if err != nil {
		return fmt.Errorf("count the monitors: %w", err)
	}
	if total <= len(all) {
		return nil
	}
	listed := map[string]bool{}
	for _, live := range all {
		listed[live.ID] = true
	}
	var missing []string
	searched := map[string]bool{}
	for page := int64(0); len(searched) < total && page < maxPages; page++ {
		_, ids, err := c.searchMonitors(ctx, stack, page, searchSize)
		if err != nil {
			return fmt.Errorf("count the monitors: %w", err)
		}
		if len(ids) == 0 {
			break
		}
		for _, id := range ids {
			if !listed[id] && !searched[id] {
				missing = append(missing, id)
			}
			searched[id] = true
		}
	}
	if len(searched) < total {
		return partial(declare.Monitor, "it has %d of %d, and the search gives %d of them", len(all), total, len(searched))
	}
	if len(missing) > maxStale {
		return partial(declare.Monitor, "it has %d of %d", len(all), total)
	}
	found, err := c.getAll(ctx, declare.Monitor, missing)
	if err != nil {
		return err
	}
	if found = keepOurs(found, stack); len(found) > 0 {
		return partial(declare.Monitor, "it has %d of %d and lacks, for one, %s", len(all), len(all)+len(found), found[0].ID)
	}
	c.log.DebugContext(ctx, "the search of monitors lags behind", "listed", len(all), "searched", total)
	return nil
}

// searchMonitors returns how many monitors the search finds for a stack, and the ids on a page.
func (c *Client) searchMonitors(ctx context.Context, stack string, page, perPage int64) (int, []string, error) {
	query := `tag:"latamctl_stack:` + stack + `"`
	var found struct {
		Metadata struct {
			TotalCount int `json:"total_count"`
		} `json:"metadata"`
		Monitors []struct {
			ID int64 `json:"id"`
		} `json:"monitors"`
	}
	err := c.read(ctx, &found, func(ctx context.Context) (*http.Response, error) {
		_, response, err := c.monitors.SearchMonitors(ctx, datadogV1.SearchMonitorsOptionalParameters{Query: &query, Page: &page, PerPage: &perPage})
		return response, err
	})
	ids := make([]string, len(found.Monitors))
	for i, m := range found.Monitors {
		ids[i] = strconv.FormatInt(m.ID, 10)
	}
	return found.Metadata.TotalCount, ids, err
}

// chunk is a page of a list that is read by offset.
type chunk struct {
	items []map[string]any
	total int // as the server says, or -1
}

// walk reads a list by offset, whose places move when objects are made or deleted meanwhile. So each page begins with the
// last object of the one before; when it does not, the walk begins anew.
func (c *Client) walk(ctx context.Context, kind declare.Kind, read func(ctx context.Context, offset, limit int) (chunk, error)) ([]map[string]any, error) {
	var why error
	for range maxWalks {
		var all []map[string]any
		all, why = walkOnce(ctx, kind, read)
		if why == nil || !errors.Is(why, errMoved) {
			return all, why
		}
		c.log.DebugContext(ctx, "a list moved while it was read", "kind", kind, "error", why)
	}
	return nil, partial(kind, "%v in each of %d attempts", why, maxWalks)
}

// errMoved is why a walk begins anew.
var errMoved = errors.New("it changed while it was read")

func walkOnce(ctx context.Context, kind declare.Kind, read func(ctx context.Context, offset, limit int) (chunk, error)) ([]map[string]any, error) {
	var all []map[string]any
	seen := map[string]bool{}
	for range maxPages {
		overlap := min(len(all), 1)
		page, err := read(ctx, len(all)-overlap, pageSize)
		if err != nil {
			return nil, partly(kind, len(all), err)
		}
		if overlap == 1 && (len(page.items) == 0 || page.items[0]["id"] != all[len(all)-1]["id"]) {
			return nil, errMoved
		}
		fresh := page.items[overlap:]
		for _, item := range fresh {
			id := fmt.Sprint(item["id"])
			if seen[id] {
				return nil, fmt.Errorf("%w: %s is there twice", errMoved, id)
			}
			seen[id] = true
		}
		all = append(all, fresh...)
		switch {
		case page.total >= 0 && len(all) >= page.total:
			return all, nil
		case page.total >= 0 && len(fresh) == 0:
			return nil, fmt.Errorf("%w: %d of %d", errMoved, len(all), page.total)
		case page.total < 0 && last(page.items):
			return all, nil
		}
	}
	return nil, partial(kind, "it has no end")
}

// last tells whether a page is the last one. A short page of a round length may be as much as the server gives at once.
func last(items []map[string]any) bool {
	return len(items) <= 1 || len(items) < pageSize && len(items)%100 != 0
}

func (c *Client) listSLOs(ctx context.Context, stack string) ([]declare.Live, error) {
	all, err := c.slosWith(ctx, "latamctl_stack:"+stack)
	return keepOurs(all, stack), err
}

// slosWith reads the SLOs that carry a tag, and holds their number against the one that the server counts.
func (c *Client) slosWith(ctx context.Context, tag string) ([]declare.Live, error) {
	items, err := c.walk(ctx, declare.SLO, func(ctx context.Context, offset, limit int) (chunk, error) {
		from, most := int64(offset), int64(limit)
		var page struct {
			Data     []map[string]any `json:"data"`
			Metadata struct {
				Page struct {
					Total    *int `json:"total_count"`
					Filtered *int `json:"total_filtered_count"`
				} `json:"page"`
			} `json:"metadata"`
		}
		err := c.read(ctx, &page, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.slos.ListSLOs(ctx, datadogV1.ListSLOsOptionalParameters{TagsQuery: &tag, Offset: &from, Limit: &most})
			return response, err
		})
		total := -1
		if n := page.Metadata.Page.Filtered; n != nil {
			total = *n
		} else if n := page.Metadata.Page.Total; n != nil {
			total = *n
		}
		return chunk{page.Data, total}, err
	})
	if err != nil {
		return nil, err
	}
	all := make([]declare.Live, len(items))
	for i, item := range items {
		if all[i], err = liveOf(declare.SLO, item); err != nil {
			return nil, partial(declare.SLO, "%v", err)
		}
	}
	return all, nil
}

// listDashboards reads the summaries of all dashboards, and those whole whose description has the mark of the stack.
func (c *Client) listDashboards(ctx context.Context, stack string) ([]declare.Live, error) {
	items, err := c.walk(ctx, declare.Dashboard, func(ctx context.Context, offset, limit int) (chunk, error) {
		from, most := int64(offset), int64(limit)
		var page struct {
			Dashboards []map[string]any `json:"dashboards"`
		}
		err := c.read(ctx, &page, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.dashboards.ListDashboards(ctx, datadogV1.ListDashboardsOptionalParameters{Start: &from, Count: &most})
			return response, err
		})
		return chunk{page.Dashboards, -1}, err
	})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, item := range items {
		if id, ok := item["id"].(string); ok && marked(item, stack) {
			ids = append(ids, id)
		}
	}
	all, err := c.getAll(ctx, declare.Dashboard, ids)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(l declare.Live) bool { return !marked(l.Payload, stack) }), nil
}

// marked tells whether a line of a dashboard's description is the mark of a stack.
func marked(payload map[string]any, stack string) bool {
	description, _ := payload["description"].(string)
	for line := range strings.Lines(description) {
		if strings.HasPrefix(strings.TrimSpace(line)+" ", "latamctl stack="+stack+" ") {
			return true
		}
	}
	return false
}

// getAll reads objects one by one, some at a time, in order. Those that do not exist are left out.
func (c *Client) getAll(ctx context.Context, kind declare.Kind, ids []string) ([]declare.Live, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	found, errs := make([]*declare.Live, len(ids)), make([]error, len(ids))
	slots := make(chan struct{}, c.parallel)
	var group sync.WaitGroup
	for i, id := range ids {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			live, err := c.Get(inner, kind, id)
			switch {
			case err == nil:
				found[i] = &live
			case !errors.Is(err, ErrNotFound):
				errs[i] = fmt.Errorf("read %s %s: %w", kind, id, err)
				cancel()
			}
		})
	}
	group.Wait()
	if err := firstCause(ctx, errs); err != nil {
		return nil, err
	}
	all := make([]declare.Live, 0, len(ids))
	for _, live := range found {
		if live != nil {
			all = append(all, *live)
		}
	}
	return all, nil
}

// firstCause is the first error that is not only a consequence of stopping the others.
func firstCause(ctx context.Context, errs []error) error {
	var first error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if first == nil || ctx.Err() == nil && errors.Is(first, context.Canceled) {
			first = err
		}
	}
	return first
}
