package stack

import (
	"encoding/json"
	"path/filepath"
)

// keptRuns is how many runs keep their records and raw logs.
const keptRuns = 50

// ignore keeps the folder of runs out of version control: raw logs and working folders are of no use there.
func (d *Driver) ignore() {
	path := filepath.Join(d.opts.Dir, ".gitignore")
	if d.opts.Proc.Exists(path) {
		return
	}
	if err := d.opts.Proc.WriteFile(path, []byte("*\n")); err != nil {
		d.opts.Log.Warn("the folder of runs has no .gitignore", "file", path, "error", err)
	}
}

// prune removes the oldest runs. One that began to apply and did not end stays, because what it left
// may still be taken over.
func (d *Driver) prune() {
	dir := filepath.Join(d.opts.Dir, "runs")
	old, err := d.opts.Proc.FoldersBut(dir, keptRuns)
	if err != nil {
		d.opts.Log.Warn("old runs were not removed", "folder", dir, "error", err)
		return
	}
	for _, name := range old {
		folder := filepath.Join(dir, name)
		if d.unfinished(folder) {
			continue
		}
		if err := d.opts.Proc.RemoveFolder(folder); err != nil {
			d.opts.Log.Warn("an old run was not removed", "folder", folder, "error", err)
		}
	}
}

func (d *Driver) unfinished(folder string) bool {
	var rec record
	path := filepath.Join(folder, "run.json")
	text, err := d.opts.Proc.ReadFile(path)
	if err != nil {
		return d.opts.Proc.Exists(path)
	}
	return json.Unmarshal(text, &rec) != nil || rec.Ended.IsZero()
}
