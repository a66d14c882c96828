package deploy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// leaseName is the Lease that only one program holds which changes what runs in an environment. One
// that nobody holds says what an interrupted release was about.
const leaseName = "latamctl-release"

const (
	annotationIntent   = "latamctl/releasing"
	annotationRollback = "latamctl/rolling-back"
)

// ErrLockLost says that another program took the lock, because this one was not heard of for too long.
var ErrLockLost = errors.New("another program took the lock of the environment: this one was not heard of for too long")

// HeldError says who else changes what runs. Nothing was changed.
type HeldError struct {
	Holder string
	Since  time.Time // zero when the lock does not say
}

func (e *HeldError) Error() string {
	text := "somebody else changes what runs: " + e.Holder
	if !e.Since.IsZero() {
		text += ", since " + e.Since.UTC().Format(time.RFC3339)
	}
	return text
}

// intent is what a release is about, for the one that goes on with it.
type intent struct {
	image    string
	rollback bool
}

// lease is the lock while it is held.
type lease struct {
	c        *client
	holder   string
	lasts    time.Duration
	poll     time.Duration
	onWait   func(holder string, atMost time.Duration)
	now      func() time.Time
	before   intent // what the last holder left unfinished; zero is nothing
	stop     context.CancelFunc
	finished chan struct{}

	mu     sync.Mutex
	object *unstructured.Unstructured
}

func leaseKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}
}

// newLease prepares the lock; hold takes it.
func (m *Manifests) newLease(c *client, holder string) *lease {
	id := make([]byte, 4)
	_, _ = rand.Read(id) // It never fails.
	return &lease{
		c: c, holder: holder + " (" + hex.EncodeToString(id) + ")", lasts: m.opts.LeaseDuration, poll: m.opts.LeaseDuration / 15,
		onWait: func(string, time.Duration) {}, now: time.Now, finished: make(chan struct{}),
	}
}

// hold takes the lock and keeps it until let is called, or the context ends. A holder that shows no
// sign of life for as long as it promised is taken to be gone; one that does is a HeldError. The
// context that is returned ends when the lock is lost.
func (l *lease) hold(ctx context.Context) (context.Context, error) {
	var seen string
	var since time.Time
	for {
		o, err := l.c.get(ctx, leaseKind(), l.c.opts.Values.Name, leaseName)
		if err != nil {
			return ctx, err
		}
		holder, lasts := l.holderOf(o)
		switch {
		case o == nil || holder == "":
		case seen == "":
			seen, since = o.GetResourceVersion(), l.now()
			l.onWait(holder, lasts)
		case seen != o.GetResourceVersion():
			return ctx, held(o, holder)
		}
		if o != nil && holder != "" && l.now().Sub(since) < lasts {
			if err := pause(ctx, l.poll); err != nil {
				return ctx, err
			}
			continue
		}
		taken, err := l.take(ctx, o)
		if err != nil {
			return ctx, err
		}
		if taken {
			return l.keep(ctx), nil
		}
	}
}

func held(o *unstructured.Unstructured, holder string) *HeldError {
	e := &HeldError{Holder: holder}
	if text, _, _ := unstructured.NestedString(o.Object, "spec", "acquireTime"); text != "" {
		e.Since, _ = time.Parse(time.RFC3339Nano, text)
	}
	return e
}

// holderOf says who holds a lock and for how long without a sign of life: as long as we would, or
// longer when it says so.
func (l *lease) holderOf(o *unstructured.Unstructured) (holder string, lasts time.Duration) {
	if o == nil {
		return "", 0
	}
	holder, _, _ = unstructured.NestedString(o.Object, "spec", "holderIdentity")
	if seconds, _, _ := unstructured.NestedInt64(o.Object, "spec", "leaseDurationSeconds"); seconds > l.seconds() {
		return holder, time.Duration(seconds) * time.Second
	}
	return holder, l.lasts
}

// seconds is the duration as a Lease has it.
func (l *lease) seconds() int64 { return int64((l.lasts + time.Second - 1) / time.Second) }

// intentOf reads what the last holder was about.
func intentOf(o *unstructured.Unstructured) intent {
	notes := o.GetAnnotations()
	return intent{image: notes[annotationIntent], rollback: notes[annotationRollback] != ""}
}

// take writes the lock down as ours; false is that somebody was faster.
func (l *lease) take(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	now := metav1.NewMicroTime(l.now()).UTC().Format(metav1.RFC3339Micro)
	spec := map[string]any{
		"holderIdentity": l.holder, "leaseDurationSeconds": l.seconds(), "acquireTime": now, "renewTime": now,
	}
	if o == nil {
		o = &unstructured.Unstructured{Object: map[string]any{}}
		o.SetGroupVersionKind(leaseKind())
		o.SetNamespace(l.c.opts.Values.Name)
		o.SetName(leaseName)
		o.SetLabels(map[string]string{labelManagedBy: manager, labelPartOf: l.c.opts.Values.Name})
	} else {
		o = o.DeepCopy()
		l.before = intentOf(o)
	}
	o.Object["spec"] = spec
	return l.write(ctx, o)
}

// write stores the lock, and reports whether it is ours then: somebody else may have been faster.
func (l *lease) write(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	in, err := l.c.on(ctx, leaseKind(), o.GetNamespace())
	if err != nil {
		return false, err
	}
	var stored *unstructured.Unstructured
	err = l.c.try(ctx, "write "+address(o), func(ctx context.Context) (err error) {
		if o.GetResourceVersion() == "" {
			stored, err = in.Create(ctx, o, metav1.CreateOptions{FieldManager: releaser})
		} else {
			stored, err = in.Update(ctx, o, metav1.UpdateOptions{FieldManager: releaser})
		}
		return err
	})
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return l.mine(ctx) // An answer that got lost is no other holder.
	}
	if err != nil {
		return false, err
	}
	l.object = stored
	return true, nil
}

// mine tells whether the lock is ours in the cluster.
func (l *lease) mine(ctx context.Context) (bool, error) {
	o, err := l.c.get(ctx, leaseKind(), l.c.opts.Values.Name, leaseName)
	if err != nil {
		return false, err
	}
	if holder, _ := l.holderOf(o); holder != l.holder {
		return false, nil
	}
	l.object = o
	return true, nil
}

// intend writes down what the release is about.
func (l *lease) intend(ctx context.Context, what intent) error {
	notes := map[string]string{annotationIntent: what.image}
	if what.rollback {
		notes[annotationRollback] = "true"
	}
	return l.change(ctx, func(o *unstructured.Unstructured) { o.SetAnnotations(notes) })
}

// change edits the lock while it is ours. The edit may be done twice.
func (l *lease) change(ctx context.Context, edit func(*unstructured.Unstructured)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range attempts {
		o := l.object.DeepCopy()
		edit(o)
		switch ok, err := l.write(ctx, o); {
		case err != nil:
			return err
		case !ok:
			return ErrLockLost
		}
		again := l.object.DeepCopy()
		if edit(again); text(plain(again)) == text(plain(l.object)) {
			return nil
		}
	}
	return ErrLockLost
}

// keep renews the lock until it is let go.
func (l *lease) keep(ctx context.Context) context.Context {
	held, lose := context.WithCancelCause(ctx)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go func() {
		defer close(l.finished)
		defer lose(nil)
		last := l.now()
		for pause(renewing, l.lasts/3) == nil {
			now := metav1.NewMicroTime(l.now()).UTC().Format(metav1.RFC3339Micro)
			err := l.change(renewing, func(o *unstructured.Unstructured) {
				_ = unstructured.SetNestedField(o.Object, now, "spec", "renewTime") // It fails only when spec is no map.
			})
			switch {
			case err == nil:
				last = l.now()
			case errors.Is(err, ErrLockLost), l.now().Sub(last) > l.lasts:
				lose(ErrLockLost)
				return
			}
		}
	}()
	return held
}

// letTimeout bounds how long giving up the lock may take.
const letTimeout = 5 * time.Second

// let gives the lock up. With done nothing is left unfinished, else the intent stays to be read.
func (l *lease) let(ctx context.Context, done bool) {
	l.stop()
	<-l.finished
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), letTimeout)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if ok, err := l.mine(ctx); err != nil || !ok {
		return
	}
	o := l.object
	if done || o.GetAnnotations()[annotationIntent] == "" {
		if err := l.c.remove(ctx, o); err != nil {
			l.c.opts.Log.Warn("give up the lock of the environment", "error", err)
		}
		return
	}
	_ = unstructured.SetNestedField(o.Object, "", "spec", "holderIdentity") // It fails only when spec is no map.
	if _, err := l.write(ctx, o); err != nil {
		l.c.opts.Log.Warn("give up the lock of the environment", "error", err)
	}
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
