package declare

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/strictyaml"
)

// Options say what is loaded, and for which environment.
type Options struct {
	// BuiltIn and Own are folders with files *.yaml. An object of Own takes the place of the built-in one
	// with its kind and name. Either may be nil.
	BuiltIn, Own fs.FS
	// OwnDir is the path of Own for messages.
	OwnDir      string
	Declaration *dataset.Declaration
	Environment string
	Values      Environment
	// Notify has the handles of each role, such as page: @pagerduty-latam.
	Notify map[string][]string
	// MaxObjects is how many objects there may be at most; 0 is DefaultMaxObjects.
	MaxObjects int
}

// DefaultMaxObjects is how many objects there may be at most.
const DefaultMaxObjects = 5000

// Environment is what is known of the environment, for ${project} and the others. An empty text is
// not known: an object that needs it is at fault.
type Environment struct {
	Project, Region    string
	Cluster, Namespace string // of Kubernetes
	Instance           string // of Bigtable
	Gateway            string // the managed service of the API gateway
	NodeMin            int    // the fewest nodes of the cluster, all zones together
	Runbooks           string // the address under which the runbooks are; empty means docs/runbooks
}

// BuiltInDir is the path of the built-in files for messages.
const BuiltInDir = "monitors"

// Load reads the files, expands them for the environment and checks them. When files are at fault the
// error joins a *strictyaml.Problems for each of them, with every fault that was found.
func Load(o Options) (*Set, error) {
	l := newLoader(o)
	if err := l.readFolders(); err != nil {
		return nil, err
	}
	l.collect()
	l.expand()
	if !l.top.limits.exceeded(l.MaxObjects) {
		l.compile()
		l.lint()
	}
	var faults []error
	for _, f := range l.files {
		if err := f.Err(f.path); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return l.finish(), nil
}

// loader carries what is read from the files to the objects.
type loader struct {
	Options
	files []*file
	set   *Set
	top   *scope // environment, then values

	values, roles, metrics, profiles, templates, uses map[string]*named
	defs                                              map[Key]*definition
	instances                                         map[Key]*instance
	order                                             []*instance
	objects                                           map[Key]*Object
	from                                              map[*Object]*instance
	off                                               map[Key]bool // not enabled here; true when a team's own file says so
	measures                                          []measure
	shapes                                            map[Kind]*shape
	optionShape                                       *shape
	profileOptions                                    map[string]map[string]*value // of profiles that were read
	own                                               map[string]ownMetric
	widgets                                           int
	silent                                            map[string]map[string]bool // role without handles → monitors
}

// named is an entry of a file that others refer to by its name.
type named struct {
	name string
	at   strictyaml.Place
	tree *value
}

func newLoader(o Options) *loader {
	if o.MaxObjects <= 0 {
		o.MaxObjects = DefaultMaxObjects
	}
	name := ""
	if o.Declaration != nil {
		name = o.Declaration.Name
	}
	stack := strings.ToLower(name + "-" + o.Environment)
	l := &loader{
		Options: o,
		set:     &Set{Stack: stack, Environment: o.Environment},
		values:  map[string]*named{}, roles: map[string]*named{}, metrics: map[string]*named{},
		profiles: map[string]*named{}, templates: map[string]*named{}, uses: map[string]*named{},
		defs: map[Key]*definition{}, off: map[Key]bool{},
		shapes:      map[Kind]*shape{Monitor: monitorShape(), SLO: sloShape(), Dashboard: dashboardShape()},
		optionShape: optionsShape(""), profileOptions: map[string]map[string]*value{}, instances: map[Key]*instance{}, objects: map[Key]*Object{},
		from: map[*Object]*instance{}, silent: map[string]map[string]bool{},
	}
	environment := map[string]any{"name": name, "env": o.Environment, "stack": stack, "node_min": o.Values.NodeMin}
	for key, text := range map[string]string{
		"project": o.Values.Project, "region": o.Values.Region, "cluster": o.Values.Cluster, "namespace": o.Values.Namespace,
		"instance": o.Values.Instance, "gateway": o.Values.Gateway, "runbooks": o.Values.runbooks(),
	} {
		environment[key] = text
		if text == "" {
			environment[key] = unset{o.Environment}
		}
	}
	l.top = &scope{names: environment, limits: &limits{}}
	return l
}

func (l *loader) hint(name, what string, names func() []string) string {
	return l.top.limits.hint(name, what, names)
}

func (e Environment) runbooks() string {
	if e.Runbooks == "" {
		return "docs/runbooks"
	}
	return strings.TrimSuffix(e.Runbooks, "/")
}

// readFolders reads the built-in files and a team's own.
func (l *loader) readFolders() error {
	for _, source := range []struct {
		files fs.FS
		own   bool
		dir   string
	}{{l.BuiltIn, false, BuiltInDir}, {l.Own, true, l.OwnDir}} {
		if source.files == nil {
			continue
		}
		if err := l.readAll(source.files, source.own, source.dir); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads the files *.yaml of a folder, by their names.
func (l *loader) readAll(files fs.FS, own bool, dir string) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("list the monitors in %s: %w", dir, err)
	}
	shape := fileShape()
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".yaml", ".yml"}, path.Ext(e.Name())) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		src, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return fmt.Errorf("read %s: %w", path.Join(dir, e.Name()), err)
		}
		f := &file{path: path.Join(dir, e.Name()), own: own, seen: map[string]bool{}}
		l.files = append(l.files, f)
		root := f.Read(src, `a file of monitors begins with "version: 1"`)
		if root == nil {
			continue
		}
		f.root = newValue(f, root)
		if f.root.kind != strictyaml.Map {
			f.root.fault(`a file of monitors begins with "version: 1"`, "expected a map, got %s", f.root)
			continue
		}
		if f.root.get("version") == nil {
			f.fault(strictyaml.Place{}, `write "version: 1"`, "the key \"version\" is missing")
		}
		(&checker{loose: true}).check(f.root, shape, "", "")
		for _, tag := range f.root.get("tags").texts() {
			f.tags = append(f.tags, tag.text())
		}
	}
	return nil
}

// collect sorts what the files hold by name. What is a team's own takes the place of what is built in.
func (l *loader) collect() {
	for _, f := range l.files {
		if f.root == nil {
			continue
		}
		for section, into := range map[string]map[string]*named{
			"values": l.values, "notify": l.roles, "metrics": l.metrics, "profiles": l.profiles, "templates": l.templates, "use": l.uses,
		} {
			l.collectNamed(f, section, into)
		}
		for section, kind := range sections() {
			if v := f.root.get(section); v != nil && v.kind == strictyaml.Map {
				for _, e := range v.entries {
					l.define(&definition{key: Key{kind, e.key}, base: e.key, at: e.at, tree: e.value, own: f.own})
				}
			}
		}
	}
	l.own = l.ownMetrics()
	l.collectValues()
	l.useTemplates()
}

func sections() map[string]Kind {
	return map[string]Kind{"monitors": Monitor, "slos": SLO, "dashboards": Dashboard}
}

func (l *loader) collectNamed(f *file, section string, into map[string]*named) {
	v := f.root.get(section)
	if v == nil || v.kind != strictyaml.Map {
		return
	}
	for _, e := range v.entries {
		if before := into[e.key]; before != nil && before.tree.file.own == f.own {
			f.fault(e.at, "rename one of them", "%q in %s stands in %s:%d already", e.key, section, before.tree.file.path, before.at.Line)
			continue
		}
		into[e.key] = &named{name: e.key, at: e.at, tree: e.value}
	}
}

// collectValues puts the constants behind ${}. They may name what the environment has.
func (l *loader) collectValues() {
	constants := map[string]any{}
	for _, name := range sortedKeys(l.values) {
		n := l.values[name]
		if _, taken := l.top.lookup(name); taken || name == "each" || isThreshold(name) {
			n.tree.file.fault(n.at, "rename it", "the name %q is taken", name)
			continue
		}
		fill := &filler{scope: l.top, where: " in the value " + name}
		constants[name] = fill.fill(n.tree)
	}
	l.top = l.top.inner(constants)
}
