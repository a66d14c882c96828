package stack

import (
	"encoding/json"
	"path/filepath"
)

const (
	// keptRuns is how many runs keep their records and raw logs.
	keptRuns = 50
	// terraformBytes is how much memory a terraform with the Google provider takes.
	terraformBytes = 400 << 20
)

// slots is how many terraform programs run at once where nobody says: two at least, four at most, by
// processors, and no more than fit into free memory. Memory of 0 is not known.
func slots(processors int, free int64) int {
	n := min(4, max(2, processors))
	if free > 0 {
		n = min(n, int(free/terraformBytes))
	}
	return max(1, n)
}

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
