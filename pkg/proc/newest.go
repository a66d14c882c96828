package proc

import (
	"os"
	"slices"
)

// FoldersBut returns the names of the folders in dir but the last so many of them by name, in order;
// a folder that does not exist has none.
func (p *Process) FoldersBut(dir string, keep int) ([]string, error) {
	entries, err := os.ReadDir(p.Path(dir))
	if err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names[:max(0, len(names)-keep)], nil
}
