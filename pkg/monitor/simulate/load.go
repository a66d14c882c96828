package simulate

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/monitor/declare"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

const (
	// Dir is the folder of the tests, beside the files of the monitors.
	Dir = "tests"
	// defaultInterval is the time between two points.
	defaultInterval = time.Minute
	// MaxTests is how many tests are read.
	MaxTests = 5000
)

// names are what ${} stands for.
type names map[string]string

// source is a folder with tests.
type folder struct {
	files fs.FS
	dir   string // for messages
	// own tests must be of objects that are declared. Of the built-in ones, those of other objects are skipped.
	own bool
}

// loader reads the tests of a folder.
type loader struct {
	set      *declare.Set
	names    names
	datasets []names
	own      bool
	reader   *strictyaml.Reader
	file     string
	tests    []Test
}

// Load reads the tests in the folder tests of the built-in files and of a team's own, for the set that
// declare.Load made with the same options. An own test takes the place of the built-in one with its name.
// Built-in tests of what is not declared here are skipped. When files are at fault the error joins a
// *strictyaml.Problems for each of them.
func Load(o declare.Options, set *declare.Set) ([]Test, error) {
	known, err := declare.Names(o)
	if err != nil {
		return nil, err
	}
	var datasets []names
	if o.Declaration != nil {
		for _, ds := range o.Declaration.Datasets {
			datasets = append(datasets, declare.DatasetNames(ds))
		}
	}
	return load(set, known, datasets,
		folder{files: o.BuiltIn, dir: declare.BuiltInDir}, folder{files: o.Own, dir: o.OwnDir, own: true})
}

// load reads the tests of all folders. A test of a later folder takes the place of one of an earlier folder with its name.
func load(set *declare.Set, known names, datasets []names, folders ...folder) ([]Test, error) {
	var tests []Test
	var faults []error
	for _, f := range folders {
		l := &loader{set: set, names: known, datasets: datasets, own: f.own}
		if err := l.folder(f); err != nil {
			faults = append(faults, err)
		}
		tests = slices.DeleteFunc(tests, func(t Test) bool {
			return slices.ContainsFunc(l.tests, func(mine Test) bool { return mine.Name == t.Name })
		})
		tests = append(tests, l.tests...)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return tests, nil
}

// folder reads the files *.yaml of the folder's tests, by their names. Without such a folder there are none.
func (l *loader) folder(f folder) error {
	if f.files == nil {
		return nil
	}
	entries, err := fs.ReadDir(f.files, Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("list the tests in %s: %w", path.Join(f.dir, Dir), err)
	}
	var faults []error
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".yaml", ".yml"}, path.Ext(e.Name())) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		l.file = path.Join(f.dir, Dir, e.Name())
		src, err := fs.ReadFile(f.files, path.Join(Dir, e.Name()))
		if err != nil {
			return fmt.Errorf("read %s: %w", l.file, err)
		}
		l.reader = &strictyaml.Reader{}
		l.read(src)
		if err := l.reader.Err(l.file); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (l *loader) read(src []byte) {
	root := l.reader.Read(src, `a file of tests begins with "version: 1"`)
	if root == nil {
		return
	}
	s, ok := l.reader.Section(root, root.At, "", "version", "tests")
	if !ok {
		return
	}
	if v := l.reader.Need(s, "version", `write "version: 1"`); v != nil && v.Value != int64(1) {
		l.reader.Fault(v.At, "", "version must be 1, got %s", v)
	}
	list := s.Get("tests")
	if list == nil {
		return
	}
	if list.Kind != strictyaml.List {
		l.reader.Fault(list.At, "begin each test with \"- name: \"", "tests must be a list, got %s", list)
		return
	}
	for _, n := range list.Items {
		l.test(n)
	}
}

// test reads a test, once for each dataset when it says so.
func (l *loader) test(n *strictyaml.Node) {
	s, ok := l.reader.Section(n, n.At, " in a test", "name", "monitor", "slo", "for_each", "interval", "series", "expect", "detect_within", "bad_since", "skip")
	if !ok {
		return
	}
	rounds := []names{nil}
	if each := s.Get("for_each"); each != nil {
		if l.reader.OneOf(each, "for_each", "datasets") != "datasets" {
			return
		}
		rounds = l.datasets
	}
	for _, round := range rounds {
		before := l.reader.Faults()
		scope := maps.Clone(l.names)
		if scope == nil {
			scope = names{}
		}
		maps.Copy(scope, round)
		t := &testReader{loader: l, Section: s, names: scope}
		t.read()
		if l.reader.Faults() > before {
			return // the same faults would be found for each dataset
		}
		if len(l.tests) >= MaxTests {
			l.reader.Fault(n.At, "", "there are more than %d tests", MaxTests)
			return
		}
		l.tests = append(l.tests, t.Test)
	}
}

// testReader reads one test.
type testReader struct {
	*loader
	strictyaml.Section
	names names
	Test
}

func (t *testReader) read() {
	t.Test.File, t.Test.At = t.file, t.Section.At
	if n := t.reader.Need(t.Section, "name", "say in a sentence what is tested"); n != nil {
		t.Name = t.text(n, "the name of a test")
		t.Test.At = n.At
		if i := slices.IndexFunc(t.tests, func(o Test) bool { return o.Name == t.Name }); i >= 0 && t.Name != "" {
			t.reader.Fault(n.At, "give each test a name of its own", "the test %s stands in %s:%d already", strictyaml.Quote(t.Name), t.tests[i].File, t.tests[i].At.Line)
		}
	}
	t.Where = " in the test " + strictyaml.Quote(t.Name)
	if n := t.Get("skip"); n != nil {
		t.Skip = t.text(n, "skip")
	}
	if t.target(); t.set.Lookup(t.Target) == nil {
		return // Skipped, or at fault.
	}
	t.Interval = t.defaultInterval()
	if d, ok := t.duration("interval"); ok {
		t.Interval = d
		if d < time.Second || d > 24*time.Hour {
			t.reader.Fault(t.Get("interval").At, "such as 60s", "interval must be from 1s to 1d, got %s", dataset.FormatDuration(d))
			t.Interval = defaultInterval
		}
	}
	if d, ok := t.duration("bad_since"); ok {
		t.BadSince = &d
	}
	t.DetectWithin, _ = t.duration("detect_within")
	t.readSeries()
	t.expectations()
}

// target finds the monitor or the SLO that is tested.
func (t *testReader) target() {
	monitor, slo := t.Get("monitor"), t.Get("slo")
	var n *strictyaml.Node
	switch {
	case monitor != nil && slo == nil:
		n, t.Target.Kind = monitor, declare.Monitor
	case slo != nil && monitor == nil:
		n, t.Target.Kind = slo, declare.SLO
	default:
		t.reader.Fault(t.Section.At, "write monitor: NAME or slo: NAME", "the test must name a monitor or an SLO%s", t.Where)
		return
	}
	t.Target.Name = t.text(n, string(t.Target.Kind))
	if t.Target.Name == "" || t.set.Lookup(t.Target) != nil {
		return
	}
	if !t.own {
		if t.Skip == "" {
			t.Skip = fmt.Sprintf("the %s %s is not declared here", t.Target.Kind, t.Target.Name)
		}
		return
	}
	var known []string
	for _, o := range t.set.Objects {
		if o.Key.Kind == t.Target.Kind {
			known = append(known, o.Key.Name)
		}
	}
	hint := "names are those after for_each, such as ingest-rate-flights"
	if near := strictyaml.Nearest(t.Target.Name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	t.reader.Fault(n.At, hint, "there is no %s %s%s", t.Target.Kind, strictyaml.Quote(t.Target.Name), t.Where)
}

// defaultInterval is that of the slices of an SLO of time, else a minute.
func (t *testReader) defaultInterval() time.Duration {
	if o := t.set.Lookup(t.Target); o != nil && o.SLI != nil && o.SLI.Slice != nil && o.SLI.SliceSeconds > 0 {
		return time.Duration(o.SLI.SliceSeconds) * time.Second
	}
	return defaultInterval
}

func (t *testReader) readSeries() {
	n := t.Get("series")
	if n == nil {
		return
	}
	if n.Kind != strictyaml.Map {
		t.reader.Fault(n.At, `write "latam.errors{env:prod}": "0x5 11 0x12"`, "series must be a map, got %s", n)
		return
	}
	for _, e := range n.Entries {
		name, ok := t.fill(e.At, e.Key)
		if !ok {
			continue
		}
		one, err := parseSeries(name)
		if err != nil {
			t.reader.Fault(e.At, "", "%s: %v", strictyaml.Quote(name), err)
			continue
		}
		text, ok := t.notation(e.Value)
		if !ok {
			continue
		}
		if one.points, err = parsePoints(text); err != nil {
			at := e.Value.At
			var fault *notationFault
			if errors.As(err, &fault) && !strings.Contains(text, "\n") {
				at.Column += fault.column + 1 // behind the quote
			}
			t.reader.Fault(at, "", "series %s: %v", strictyaml.Quote(name), err)
			continue
		}
		t.series = append(t.series, one)
	}
}

// notation returns the points as they are written. A single number needs no quotes.
func (t *testReader) notation(n *strictyaml.Node) (string, bool) {
	if n.Broken {
		return "", false
	}
	switch v := n.Value.(type) {
	case string:
		return t.fill(n.At, v)
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	}
	t.reader.Fault(n.At, `such as "0x5 11 0x12"`, "the points of a series must be text, got %s", n)
	return "", false
}

// expectations reads one expectation or a list of them.
func (t *testReader) expectations() {
	n := t.Get("expect")
	if n == nil {
		if t.Skip == "" {
			t.reader.Need(t.Section, "expect", "write expect: [{at: 6m, state: alert}]")
		}
		return
	}
	if n.Kind == strictyaml.Map {
		t.expectation(n)
		return
	}
	if n.Kind != strictyaml.List || len(n.Items) == 0 {
		t.reader.Fault(n.At, "write [{at: 6m, state: alert}]", "expect must be a list of what is expected%s, got %s", t.Where, n)
		return
	}
	for _, item := range n.Items {
		t.expectation(item)
	}
}

func (t *testReader) expectation(n *strictyaml.Node) {
	s, ok := t.reader.Section(n, n.At, " in expect", "at", "state", "group", "notified", "not_notified", "message_contains", "alerts", "detect_within")
	if !ok {
		return
	}
	inner := &testReader{loader: t.loader, Section: s, names: t.names}
	var e Expectation
	if t.reader.Need(s, "at", "write at: 6m") != nil {
		e.At, _ = inner.duration("at")
	}
	if e.At/t.Interval >= MaxPoints {
		t.reader.Fault(s.Get("at").At, "a longer interval has fewer points", "at has to be before the point %d, which is %s", MaxPoints, dataset.FormatDuration(MaxPoints*t.Interval))
	}
	if v := s.Get("state"); v != nil {
		e.State = inner.state(v, "state")
	}
	if v := s.Get("group"); v != nil {
		e.Group = normalGroup(inner.text(v, "group"))
	}
	e.Notified, e.NotNotified = inner.who("notified"), inner.who("not_notified")
	if v := s.Get("message_contains"); v != nil {
		e.Message = inner.text(v, "message_contains")
	}
	e.Alerts = inner.alerts(t.Target.Kind)
	if d, ok := inner.duration("detect_within"); ok {
		t.DetectWithin = d
	}
	if e.State == "" && s.Get("alerts") == nil && e.Message == "" && len(e.Notified)+len(e.NotNotified) == 0 {
		t.reader.Fault(s.At, "write state: ok or alerts: {fast: ok}", "nothing is expected%s", t.Where)
	}
	t.Expect = append(t.Expect, e)
}

// normalGroup sorts the tags of a group as groupKey does.
func normalGroup(text string) string {
	var tags []string
	for part := range strings.SplitSeq(strings.ToLower(text), ",") {
		tags = append(tags, strings.TrimSpace(part))
	}
	slices.Sort(tags)
	return strings.Join(tags, ",")
}

func (t *testReader) state(n *strictyaml.Node, what string) State {
	states := make([]string, len(States()))
	for i, s := range States() {
		states[i] = string(s)
	}
	return State(t.reader.OneOf(n, what, states...))
}

func (t *testReader) alerts(of declare.Kind) map[string]State {
	n := t.Get("alerts")
	if n == nil {
		return nil
	}
	if of != declare.SLO {
		t.reader.Fault(n.At, "write state", "alerts are expected of an SLO, and a monitor is tested")
		return nil
	}
	if n.Kind != strictyaml.Map || len(n.Entries) == 0 {
		t.reader.Fault(n.At, "write {fast: alert, slow: ok}", "alerts must be a map of tiers and states, got %s", n)
		return nil
	}
	out := map[string]State{}
	for _, e := range n.Entries {
		out[e.Key] = t.state(e.Value, "the state of "+strictyaml.Quote(e.Key))
	}
	return out
}

// who reads one or more roles or handles.
func (t *testReader) who(key string) []string {
	n := t.Get(key)
	if n == nil {
		return nil
	}
	if n.Kind == strictyaml.Scalar {
		return []string{t.text(n, key)}
	}
	var out []string
	for _, item := range t.reader.Texts(n, key) {
		out = append(out, t.text(item, key))
	}
	return out
}

// text reads a text and puts the values in.
func (t *testReader) text(n *strictyaml.Node, what string) string {
	text, ok := t.reader.Text(n, what)
	if ok {
		text, _ = t.fill(n.At, text)
	}
	return text
}

func (t *testReader) duration(key string) (time.Duration, bool) {
	n := t.Get(key)
	if n == nil {
		return 0, false
	}
	if n.Value == int64(0) {
		return 0, true
	}
	text, ok := t.reader.Text(n, key)
	if !ok {
		return 0, false
	}
	d, err := dataset.ParseDuration(text)
	if err != nil || d < 0 {
		t.reader.Fault(n.At, "such as 6m, 90s or 2h", "%s is a time, got %s", key, n)
		return 0, false
	}
	return d, true
}

// fill puts values in the place of ${name}. $${ is a literal ${.
func (t *testReader) fill(at strictyaml.Place, text string) (string, bool) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), true
		}
		if literal, ok := strings.CutSuffix(before, "$"); ok {
			out.WriteString(literal + "${")
			text = rest
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		value, known := t.names[name]
		switch {
		case !closed:
			t.reader.Fault(at, "write $${ for a literal ${", "a ${ has no }%s", t.Where)
			return "", false
		case !known:
			all := slices.Sorted(maps.Keys(t.names))
			hint := "known are " + strings.Join(all, ", ")
			if near := strictyaml.Nearest(name, all); near != "" {
				hint = fmt.Sprintf("did you mean ${%s}?", near)
			} else if strings.HasPrefix(name, "each.") {
				hint = "each is known in tests with for_each: datasets"
			}
			t.reader.Fault(at, hint, "nothing is called ${%s}%s", strictyaml.Cut(name), t.Where)
			return "", false
		}
		out.WriteString(before + value)
		text = after
	}
}
