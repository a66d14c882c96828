package query

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/latamctl/latamctl/pkg/dataset"
	"github.com/latamctl/latamctl/pkg/web"
)

// A page by an index reads one entry more than it shows, and more only where entries are stale.
func TestIndexPagesReadNoFurtherThanTheyShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, indexedYAML, Options{})
	w.addOrders(200)
	const target = "/v1/datasets/orders/rows?status=paid&limit=10"
	entries := func() (n int) {
		for _, sc := range w.store.scans {
			n += sc.Limit
		}
		w.store.scans = nil
		return n
	}
	w.page(target) // Looks whether the indexes are built.
	entries()
	if p := w.page(target); len(p.Data) != 10 || p.NextCursor == nil {
		t.Fatalf("%d rows", len(p.Data))
	}
	if n := entries(); n != 11 {
		t.Errorf("up to %d entries are read for 10 rows", n)
	}
	// The first five of the page move on; their entries stay.
	for _, n := range []string{"1", "25", "49", "73", "97"} {
		w.add("orders", `{"order_no":`+n+`,"placed":"2001-01-01T00:00:00Z","status":"shipped"}`)
	}
	if got := strings.Join(w.page(target).ids(), ","); got != "121,145,169,193,5,29,53,77,101,125" {
		t.Errorf("behind stale entries: %s", got)
	}
	if got := strings.Join(w.page(target+"&order=desc").ids(), ","); got != "189,165,141,117,93,69,45,21,185,161" {
		t.Errorf("from the end: %s", got)
	}
}

// An index whose mark is taken away, because rows are stored without it, is not used any longer.
func TestIndexThatIsNotKeptAnyMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, indexedYAML, Options{})
	w.addOrders(4)
	const target = "/v1/datasets/orders/rows?status=paid"
	w.page(target)
	mark, _ := dataset.IndexUnmarkRow(w.decl.Dataset("orders").IndexMarkRow(w.decl.Dataset("orders").Index("by_status")))
	w.store.put("orders-by_status", mark)
	w.now = w.now.Add(indexAgainInterval)
	if p := problemOf(t, w.do("GET", target, "")); p.Code != web.IndexBuilding {
		t.Errorf("%+v", p)
	}
	// A store that does not answer takes no index away.
	w.store.put("orders-by_status", w.decl.Dataset("orders").IndexMarkRow(w.decl.Dataset("orders").Index("by_status")))
	w.now = w.now.Add(indexCheckInterval)
	w.page(target)
	w.store.err = context.DeadlineExceeded
	w.now = w.now.Add(indexAgainInterval)
	w.do("GET", target, "")
	w.store.err = nil
	w.page(target)
}

// While one request looks for the mark of an index, the others go on with what is known, and the end
// of that request is not the end of the look.
func TestOneRequestLooksForTheMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t, indexedYAML, Options{})
	w.addOrders(4)
	ep := w.service.endpoints["orders"]
	ix := ep.ds.Index("by_status")
	ctx, cancel := context.WithCancel(t.Context())
	if !w.service.ready(ctx, ep)(ix) {
		t.Fatal("the index is not ready")
	}
	w.now = w.now.Add(indexAgainInterval)
	looking, release := make(chan struct{}), make(chan struct{})
	w.store.before = func(context.Context) { close(looking); <-release }
	ended := make(chan bool)
	go func() { ended <- w.service.ready(ctx, ep)(ix) }()
	<-looking
	others := make(chan bool)
	go func() { others <- w.service.ready(t.Context(), ep)(ix) }()
	select {
	case ready := <-others:
		if !ready {
			t.Error("the index counts as not built while it is looked for its mark")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the other request waits for the look")
	}
	cancel()
	close(release)
	if !<-ended {
		t.Error("the look ended with its request")
	}
}
