package declare_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/DataDog/datadog-api-client-go/v2/api/datadog"
	"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"
	"github.com/google/go-cmp/cmp"

	"github.com/latamctl/latamctl/monitors"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
)

// builtIn loads the built-in files.
func builtIn(t *testing.T) *declare.Set {
	t.Helper()
	o := options(t, nil)
	o.BuiltIn = monitors.FS()
	set, err := declare.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestContract sends every payload through the types of Datadog's own client: nothing may be unknown to
// them, and nothing may be lost.
func TestContract(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]*declare.Set{"small": load(t, nil), "built in": builtIn(t)} {
		for _, o := range set.Objects {
			var typed any
			switch o.Key.Kind {
			case declare.Monitor:
				typed = &datadogV1.Monitor{}
			case declare.SLO:
				typed = &datadogV1.ServiceLevelObjectiveRequest{}
			case declare.Dashboard:
				typed = &datadogV1.Dashboard{}
			default:
				continue
			}
			sent, err := json.Marshal(o.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(sent, typed); err != nil {
				t.Errorf("%s, %s: %v", name, o.Key, err)
				continue
			}
			if unparsed, what := datadog.ContainsUnparsedObject(typed); unparsed {
				t.Errorf("%s, %s: the client does not know %v", name, o.Key, what)
			}
			if extra := additional(reflect.ValueOf(typed), ""); extra != "" {
				t.Errorf("%s, %s: the client has no field for %s", name, o.Key, extra)
			}
			back, err := json.Marshal(typed)
			if err != nil {
				t.Fatal(err)
			}
			var want, got any
			if json.Unmarshal(sent, &want) != nil || json.Unmarshal(back, &got) != nil {
				t.Fatal("no JSON")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s: %s", name, o.Key, diff)
			}
		}
	}
}

// additional finds what a value of the client holds under AdditionalProperties.
func additional(v reflect.Value, path string) string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return additional(v.Elem(), path)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if found := additional(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); found != "" {
				return found
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			switch {
			case !field.IsExported():
			case field.Name == "AdditionalProperties":
				if v.Field(i).Len() > 0 {
					return fmt.Sprintf("%s: %v", path, v.Field(i).Interface())
				}
			default:
				if found := additional(v.Field(i), path+"."+field.Name); found != "" {
					return found
				}
			}
		}
	}
	return ""
}

// TestTypes tells whether payloads have JSON's types only, as hashes and comparisons expect.
func TestTypes(t *testing.T) {
	t.Parallel()
	var visit func(o *declare.Object, path string, v any)
	visit = func(o *declare.Object, path string, v any) {
		switch v := v.(type) {
		case string, float64, bool, nil:
		case []any:
			for i, item := range v {
				visit(o, fmt.Sprintf("%s[%d]", path, i), item)
			}
		case map[string]any:
			for key, item := range v {
				visit(o, path+"."+key, item)
			}
		default:
			t.Errorf("%s of %s is a %T", path, o.Key, v)
		}
	}
	for _, set := range []*declare.Set{load(t, nil), builtIn(t)} {
		for _, o := range set.Objects {
			visit(o, "", o.Payload)
		}
	}
}

// TestLayout tells whether the widgets of every dashboard lie within it and beside each other.
func TestLayout(t *testing.T) {
	t.Parallel()
	const columns = 12
	var check func(where string, widgets []any, width int)
	check = func(where string, widgets []any, width int) {
		taken := map[[2]int]string{}
		for i, w := range widgets {
			layout := w.(map[string]any)["layout"].(map[string]any)
			n := func(name string) int { return int(layout[name].(float64)) }
			if n("x")+n("width") > width || n("width") < 1 || n("height") < 1 {
				t.Errorf("%s, widget %d does not fit into %d columns: %v", where, i, width, layout)
			}
			for x := n("x"); x < n("x")+n("width"); x++ {
				for y := n("y"); y < n("y")+n("height"); y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Errorf("%s: widget %d lies upon widget %s at %d, %d", where, i, other, x, y)
					}
					taken[[2]int{x, y}] = fmt.Sprint(i)
				}
			}
			definition := w.(map[string]any)["definition"].(map[string]any)
			if inner, ok := definition["widgets"].([]any); ok {
				check(where+" "+definition["title"].(string), inner, n("width"))
			}
		}
	}
	for _, set := range []*declare.Set{load(t, nil), builtIn(t)} {
		for _, o := range set.Objects {
			if o.Key.Kind == declare.Dashboard {
				check(o.Key.String(), o.Payload["widgets"].([]any), columns)
			}
		}
	}
}

func TestWidgets(t *testing.T) {
	t.Parallel()
	with := options(t, map[string]string{"small.yaml": small})
	with.Values.Gateway = ""
	set, err := declare.Load(with)
	if err != nil {
		t.Fatal(err)
	}
	o := set.Lookup(declare.Key{Kind: declare.Dashboard, Name: "system"})
	groups := o.Payload["widgets"].([]any)
	if len(groups) != 4 {
		t.Fatalf("there are %d groups, want 4: the fifth has only what is off", len(groups))
	}
	text, _ := json.Marshal(groups)
	for _, want := range []string{
		`{"alert_id":"${ref:monitor.errors}","title":"Errors","type":"alert_graph","viz_type":"timeseries"}`,
		`"markers":[{"display_type":"error dashed","label":"critical \u003e 10","value":"y = 10"},{"display_type":"warning dashed","label":"warning \u003e 7","value":"y = 7"}]`,
		`"title":"Errors and limits","type":"timeseries"`,
		`{"alert_id":"${ref:monitor.silent-dead_stars}"`, `{"alert_id":"${ref:monitor.silent-flights}"`,
		`{"autoscale":false,"custom_unit":"orders","precision":2,"requests":[{"formulas":[{"formula":"query / 2"}],"queries":[{"aggregator":"sum","data_source":"metrics","name":"query","query":"sum:shop.orders{*}.as_count()"}],"response_format":"scalar"}],"title":"Orders","type":"query_value"}`,
		`{"formula":"query","limit":{"count":10,"order":"desc"}}`,
		`"content":"What *this* is."`, `"formula":"query1 - (query2 - query3) * 2"`,
		`"query":"tag:\"latamctl_stack:latam-prod\" tag:\"latamctl_id:monitor.both-low\""`,
		`"slo_id":"${ref:slo.latency-flights}","time_windows":["30d","90d"]`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the dashboard has no %s", want)
		}
	}
	if t.Failed() {
		t.Log(string(text))
	}
}
