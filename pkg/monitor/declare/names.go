package declare

import (
	"github.com/latamctl/latamctl/pkg/dataset"
)

// Names returns what ${…} stands for in an environment, as text: what is known of the environment, and
// the values of the files. The faults of the files are those that Load reports.
func Names(o Options) (map[string]string, error) {
	l := newLoader(o)
	if err := l.readFolders(); err != nil {
		return nil, err
	}
	for _, f := range l.files {
		if f.root != nil {
			l.collectNamed(f, "values", l.values)
		}
	}
	l.collectValues()
	return l.top.texts(), nil
}

// DatasetNames returns what ${each.…} stands for of a dataset, as text.
func DatasetNames(ds *dataset.Dataset) map[string]string {
	return (&scope{names: datasetNames(ds)}).texts()
}

// texts returns the names that have a value with a place inside of a text.
func (s *scope) texts() map[string]string {
	out := map[string]string{}
	for _, name := range s.all() {
		v, _ := s.lookup(name)
		if _, missing := v.(unset); missing {
			continue
		}
		if text, ok := plain(v); ok {
			out[name] = text
		}
	}
	return out
}
