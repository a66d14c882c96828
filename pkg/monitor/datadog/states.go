package datadog

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"

	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// MonitorState is how a monitor is doing.
type MonitorState struct {
	ID, Name string
	Tags     []string
	// State is OK, Alert, Warn, No Data, Ignored, Skipped or Unknown.
	State string
	// Since is when it came to that state, zero if Datadog does not say.
	Since time.Time
	// Groups are those that are not OK, by name.
	Groups []GroupState
}

// GroupState is how one group of a monitor is doing, such as one host.
type GroupState struct {
	Name, State string
	Since       time.Time
}

// States returns how the monitors of a stack are doing, by name. Of groups only those that alert, warn or have no data are asked for.
func (c *Client) States(ctx context.Context, stack string) ([]MonitorState, error) {
	tags, groups := "managed_by:latamctl,latamctl_stack:"+stack, "alert,warn,no data"
	all, err := c.readMonitors(ctx, datadogV1.ListMonitorsOptionalParameters{MonitorTags: &tags, GroupStates: &groups})
	if err != nil {
		return nil, err
	}
	all = keepOurs(all, stack)
	states := make([]MonitorState, 0, len(all))
	for _, live := range all {
		state, err := stateOf(live)
		if err != nil {
			return nil, partial(declare.Monitor, "the state of %s: %v", live.ID, err)
		}
		states = append(states, state)
	}
	slices.SortFunc(states, func(a, b MonitorState) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return states, nil
}

func stateOf(live declare.Live) (MonitorState, error) {
	data, err := json.Marshal(live.Payload)
	if err != nil {
		return MonitorState{}, err
	}
	var monitor struct {
		Name, Type   string
		Tags         []string
		OverallState string `json:"overall_state"`
		Changed      string `json:"overall_state_modified"`
		State        struct {
			Groups map[string]struct {
				Status    string
				Triggered int64 `json:"last_triggered_ts"`
				NoData    int64 `json:"last_nodata_ts"`
			}
		}
	}
	if err := json.Unmarshal(data, &monitor); err != nil {
		return MonitorState{}, err
	}
	state := MonitorState{ID: live.ID, Name: monitor.Name, Tags: monitor.Tags, State: cmp.Or(monitor.OverallState, "Unknown")}
	if at, err := time.Parse(time.RFC3339, monitor.Changed); err == nil {
		state.Since = at.UTC()
	}
	for name, group := range monitor.State.Groups {
		if group.Status == "OK" || group.Status == "" {
			continue
		}
		since := group.Triggered
		if group.Status == "No Data" {
			since = cmp.Or(group.NoData, group.Triggered)
		}
		g := GroupState{Name: name, State: group.Status}
		if since > 0 {
			g.Since = time.Unix(since, 0).UTC()
		}
		state.Groups = append(state.Groups, g)
	}
	slices.SortFunc(state.Groups, func(a, b GroupState) int { return cmp.Compare(a.Name, b.Name) })
	return state, nil
}
