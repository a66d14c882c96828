package deploy

import (
	"context"
	"fmt"
)

// Running is what an environment runs, as the cluster has it.
type Running struct {
	Namespace string `json:"namespace"`
	// Live is the colour that gets the requests.
	Live string `json:"live"`
	// Parts are the two colours, the live one first, and ingest.
	Parts []RunningPart `json:"parts"`
	// Lock says who changes it at the moment.
	Lock string `json:"lock,omitempty"`
	// Unfinished is the image of a release that was interrupted.
	Unfinished string `json:"unfinished,omitempty"`
	// Before is the image to which a rollback would go.
	Before string `json:"before,omitempty"`
}

// RunningPart is one Deployment.
type RunningPart struct {
	Name  string `json:"name"`
	Live  bool   `json:"live"`
	Image string `json:"image"`
	Pods  int64  `json:"pods"`
	Ready int64  `json:"ready"`
}

// Running reads what runs and which colour is live. It changes nothing.
func (m *Manifests) Running(ctx context.Context, cluster Cluster) (*Running, error) {
	if !m.exists(cluster) {
		return nil, fmt.Errorf("read what runs: %w", errNoCluster)
	}
	c, err := m.connect(cluster)
	if err != nil {
		return nil, err
	}
	r := &release{m: m, c: c, o: ReleaseOptions{}.Defaults(), lease: m.newLease(c, "")}
	s, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	lock, err := c.get(ctx, leaseKind(), r.namespace(), leaseName)
	if err != nil {
		return nil, err
	}
	out := &Running{Namespace: r.namespace(), Live: s.live.colour}
	if lock != nil {
		out.Lock, _ = r.lease.holderOf(lock)
		r.lease.before = intentOf(lock)
		if out.Lock == "" {
			out.Unfinished = r.lease.before.image
		}
	}
	r.o.Rollback = true
	if out.Before, err = r.target(s); err != nil {
		out.Before = ""
	}
	for _, p := range []*part{s.live, s.idle, s.ingest} {
		out.Parts = append(out.Parts, RunningPart{Name: p.name, Live: p == s.live || p == s.ingest, Image: p.image, Pods: p.wanted, Ready: p.ready})
	}
	return out, nil
}
