package datadog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// objectID is what an id of an SLO or a dashboard is made of. Anything else would become another path.
var objectID = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

const maxID = 100

// maxExact is the largest whole number up to which a float64 has them all.
const maxExact = 1 << 53

// Get reads an object.
func (c *Client) Get(ctx context.Context, kind declare.Kind, id string) (declare.Live, error) {
	number, err := checkID(kind, id)
	if err != nil {
		return declare.Live{}, err
	}
	switch kind {
	case declare.Monitor:
		return c.object(ctx, kind, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.monitors.GetMonitor(ctx, number)
			return response, err
		})
	case declare.SLO:
		return c.object(ctx, kind, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.slos.GetSLO(ctx, id)
			return response, err
		})
	case declare.Dashboard:
		return c.object(ctx, kind, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.dashboards.GetDashboard(ctx, id)
			return response, err
		})
	}
	return c.getMetric(ctx, id)
}

// Validate asks whether Datadog would take a monitor; id is "" for a new one.
func (c *Client) Validate(ctx context.Context, id string, payload map[string]any) error {
	var body datadogV1.Monitor
	if err := fill(payload, &body); err != nil {
		return err
	}
	if id == "" {
		_, err := c.do(ctx, func(ctx context.Context) (*http.Response, error) {
			_, response, err := c.monitors.ValidateMonitor(ctx, body)
			return response, err
		})
		return err
	}
	number, err := checkID(declare.Monitor, id)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, func(ctx context.Context) (*http.Response, error) {
		_, response, err := c.monitors.ValidateExistingMonitor(ctx, number, body)
		return response, err
	})
	return err
}

// Create makes an object. It is sent once, and again only if it certainly did not happen; when that is not known,
// the error wraps ErrAmbiguous.
func (c *Client) Create(ctx context.Context, kind declare.Kind, payload map[string]any) (declare.Live, error) {
	switch kind {
	case declare.Monitor:
		return send(ctx, c, kind, payload, func(ctx context.Context, body datadogV1.Monitor) (*http.Response, error) {
			_, response, err := c.monitors.CreateMonitor(ctx, body)
			return response, err
		})
	case declare.SLO:
		return send(ctx, c, kind, payload, func(ctx context.Context, body datadogV1.ServiceLevelObjectiveRequest) (*http.Response, error) {
			_, response, err := c.slos.CreateSLO(ctx, body)
			return response, err
		})
	case declare.Dashboard:
		return send(ctx, c, kind, payload, func(ctx context.Context, body datadogV1.Dashboard) (*http.Response, error) {
			_, response, err := c.dashboards.CreateDashboard(ctx, body)
			return response, err
		})
	}
	return c.createMetric(ctx, payload)
}

// Update replaces the content of an object.
func (c *Client) Update(ctx context.Context, kind declare.Kind, id string, payload map[string]any) (declare.Live, error) {
	number, err := checkID(kind, id)
	if err != nil {
		return declare.Live{}, err
	}
	switch kind {
	case declare.Monitor:
		return send(ctx, c, kind, payload, func(ctx context.Context, body datadogV1.MonitorUpdateRequest) (*http.Response, error) {
			_, response, err := c.monitors.UpdateMonitor(ctx, number, body)
			return response, err
		})
	case declare.SLO:
		return send(ctx, c, kind, payload, func(ctx context.Context, body datadogV1.ServiceLevelObjective) (*http.Response, error) {
			_, response, err := c.slos.UpdateSLO(ctx, id, body)
			return response, err
		})
	case declare.Dashboard:
		return send(ctx, c, kind, payload, func(ctx context.Context, body datadogV1.Dashboard) (*http.Response, error) {
			_, response, err := c.dashboards.UpdateDashboard(ctx, id, body)
			return response, err
		})
	}
	return c.updateMetric(ctx, id, payload)
}

// Delete removes an object, even one that others need if force is set. Of dashboards force means nothing, since
// nothing needs them. When an attempt had no good answer and the next one finds nothing, the first one did it.
func (c *Client) Delete(ctx context.Context, kind declare.Kind, id string, force bool) error {
	number, err := checkID(kind, id)
	if err != nil {
		return err
	}
	text := strconv.FormatBool(force)
	var uncertain func() bool
	_, err = c.do(ctx, func(ctx context.Context) (*http.Response, error) {
		uncertain = func() bool { k, ok := ctx.Value(callKey{}).(*call); return ok && k.uncertain }
		switch kind {
		case declare.Monitor:
			_, response, err := c.monitors.DeleteMonitor(ctx, number, datadogV1.DeleteMonitorOptionalParameters{Force: &text})
			return response, err
		case declare.SLO:
			_, response, err := c.slos.DeleteSLO(ctx, id, datadogV1.DeleteSLOOptionalParameters{Force: &text})
			return response, err
		case declare.Dashboard:
			_, response, err := c.dashboards.DeleteDashboard(ctx, id)
			return response, err
		}
		return nil, errors.New("the settings of a metric are shared by the whole organisation and never deleted")
	})
	if errors.Is(err, ErrNotFound) && uncertain() {
		return nil
	}
	return err
}

// checkID refuses what is no id of the kind, and returns the number of a monitor.
func checkID(kind declare.Kind, id string) (int64, error) {
	ok, number := len(id) <= maxID && objectID.MatchString(id), int64(0)
	switch kind {
	case declare.Monitor:
		var err error
		number, err = strconv.ParseInt(id, 10, 64)
		ok = err == nil && number > 0 && number < maxExact
	case declare.Metric:
		ok = isMetric(id)
	}
	if !ok {
		return 0, invalid(fmt.Sprintf("%q is not the id of a %s", id, kind))
	}
	return number, nil
}

// send fills the official type of a request and makes a call whose answer is one object.
func send[Body any](ctx context.Context, c *Client, kind declare.Kind, payload map[string]any, call func(context.Context, Body) (*http.Response, error)) (declare.Live, error) {
	var body Body
	if err := fill(payload, &body); err != nil {
		return declare.Live{}, err
	}
	return c.object(ctx, kind, func(ctx context.Context) (*http.Response, error) { return call(ctx, body) })
}

// object makes a call whose answer is one object.
func (c *Client) object(ctx context.Context, kind declare.Kind, send func(context.Context) (*http.Response, error)) (declare.Live, error) {
	var answer objectAnswer
	answer.kind = kind
	err := c.read(ctx, &answer, send)
	return answer.live, err
}

// objectAnswer is an object as the API wraps it: bare, or of SLOs within data, alone or as a list of one.
type objectAnswer struct {
	kind declare.Kind
	live declare.Live
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *objectAnswer) UnmarshalJSON(data []byte) error {
	var payload map[string]any
	if err := json.Unmarshal(data, &payload); err != nil {
		return err
	}
	if a.kind == declare.SLO {
		switch inner := payload["data"].(type) {
		case map[string]any:
			payload = inner
		case []any:
			if len(inner) != 1 {
				return fmt.Errorf("%d objects where one was expected", len(inner))
			}
			payload, _ = inner[0].(map[string]any)
		default:
			return errors.New("no data")
		}
	}
	var err error
	a.live, err = liveOf(a.kind, payload)
	return err
}

// liveOf finds the id and the time of the last change in an object.
func liveOf(kind declare.Kind, payload map[string]any) (declare.Live, error) {
	live := declare.Live{Kind: kind, Payload: payload}
	switch id := payload["id"].(type) {
	case string:
		live.ID = id
	case float64:
		if id != float64(int64(id)) || id >= maxExact {
			return live, fmt.Errorf("the id %v is not exact", id)
		}
		live.ID = strconv.FormatInt(int64(id), 10)
	}
	if _, err := checkID(kind, live.ID); err != nil {
		return live, fmt.Errorf("a %s without an id", kind)
	}
	for _, field := range []string{"modified", "modified_at"} {
		switch at := payload[field].(type) {
		case string:
			live.Modified = at
		case float64:
			live.Modified = strconv.FormatFloat(at, 'f', -1, 64)
		}
	}
	return live, nil
}
