package terraform

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkPlan compares a plan of this package with the bare program.
func BenchmarkPlan(b *testing.B) {
	if _, err := exec.LookPath("terraform"); err != nil {
		b.Skip("no terraform on the PATH")
	}
	r, err := newRunner(nil)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	w := Workspace{Stack: "demo", Dir: filepath.Join(dir, "work"), RunDir: filepath.Join(dir, "run")}
	if err := r.proc.WriteFile(filepath.Join(w.Dir, "main.tf"), []byte(`resource "terraform_data" "a" { input = "a" }`)); err != nil {
		b.Fatal(err)
	}
	if err := r.Init(b.Context(), w); err != nil {
		b.Fatal(err)
	}
	b.Run("package", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Plan(b.Context(), w, PlanOptions{}, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command(r.options.Bin, "plan", "-json", "-input=false")
			cmd.Dir = w.Dir
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
	})
	b.Run("skipped init", func(b *testing.B) {
		for b.Loop() {
			if err := r.Init(b.Context(), w); err != nil {
				b.Fatal(err)
			}
		}
	})
}
