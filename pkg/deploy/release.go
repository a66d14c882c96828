package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// releaser is the name under which the cluster records what a release changes: images, the number of
// pods of a colour, and the colour that is live. It is not the name of Apply, so that an older Apply
// which runs at the same time is refused instead of undoing a release.
const releaser = "latamctl-deploy"

// annotationServed is the image with which a colour was live last: where a rollback goes.
const annotationServed = "latamctl/served"

// ingestName is the Deployment and the container of ingest.
const ingestName = "ingest"

// serve is the Deployment of a colour.
func serve(colour string) string { return "serve-" + colour }

func otherColour(colour string) string {
	if colour == Blue {
		return Green
	}
	return Blue
}

// Event is something that happened in a release, in words for a person.
type Event struct {
	Step    string `json:"step"` // one of the Step constants
	Message string `json:"message"`
	// Cluster says that it is an event of the cluster, not of ours.
	Cluster bool `json:"cluster,omitempty"`
}

// The steps of a release, in their order.
const (
	StepLock    = "lock"
	StepPods    = "pods"    // the colour that is not live gets the image and its pods
	StepCheck   = "check"   // it is verified before anybody is sent there
	StepSwitch  = "switch"  // the Service selects it
	StepVerify  = "verify"  // it is verified as what is live
	StepIngest  = "ingest"  // ingest rolls
	StepSettle  = "settle"  // the old colour stays until the load balancer has moved
	StepRelease = "release" // the old colour loses its pods
	StepBack    = "back"    // everything is as it was, after a failure
)

// ReleaseOptions say what a release does. Image or Rollback is required.
type ReleaseOptions struct {
	// Image is what is released, by digest.
	Image string
	// Rollback releases the image that was live before the present one.
	Rollback bool
	// Verify proves that the API at a base URL works; its error is the evidence. Nil proves nothing
	// beyond pods that are ready.
	Verify func(ctx context.Context, baseURL string) error
	// Forward makes the port http of a pod reachable from here. Default through the API server.
	Forward func(ctx context.Context, pod string) (baseURL string, closeForward func(), err error)
	// On is told what happens, from one goroutine; it may be nil.
	On func(Event)
	// RolloutTimeout bounds each wait for pods to get ready. Default 5m.
	RolloutTimeout time.Duration
	// Settle is how long the old colour keeps its pods after the switch, for load balancers that still
	// know them. Default 30s.
	Settle time.Duration
	// Poll is the pause between two looks at the cluster. Default 1s.
	Poll time.Duration
	// UndoTimeout bounds going back after a failure. Default 2m.
	UndoTimeout time.Duration
}

// Defaults fills in what is not set.
func (o ReleaseOptions) Defaults() ReleaseOptions {
	if o.On == nil {
		o.On = func(Event) {}
	}
	for _, d := range []struct {
		value   *time.Duration
		initial time.Duration
	}{{&o.RolloutTimeout, 5 * time.Minute}, {&o.Settle, 30 * time.Second}, {&o.Poll, time.Second}, {&o.UndoTimeout, 2 * time.Minute}} {
		if *d.value == 0 {
			*d.value = d.initial
		}
	}
	return o
}

// Validate says what is missing or out of range.
func (o ReleaseOptions) Validate() error {
	var errs []error
	switch {
	case o.Image == "" && !o.Rollback:
		errs = append(errs, errors.New("release: there is neither an image nor a rollback"))
	case o.Image != "" && o.Rollback:
		errs = append(errs, errors.New("release: a rollback takes the image that was live before, so none is named"))
	case o.Image != "" && !imageForm.MatchString(o.Image):
		errs = append(errs, fmt.Errorf("release: image %q is not by digest: expected repository@sha256:<64 hex digits>; a tag can be moved, so none is taken", o.Image))
	}
	for _, d := range []struct {
		name     string
		value    time.Duration
		min, max time.Duration
	}{
		{"rollout timeout", o.RolloutTimeout, time.Millisecond, 24 * time.Hour}, {"settle time", o.Settle, time.Nanosecond, time.Hour},
		{"poll", o.Poll, time.Millisecond, time.Minute}, {"undo timeout", o.UndoTimeout, time.Millisecond, time.Hour},
	} {
		if d.value < d.min || d.value > d.max {
			errs = append(errs, fmt.Errorf("release: %s %s is not in %s..%s", d.name, d.value, d.min, d.max))
		}
	}
	return errors.Join(errs...)
}

// Outcome is how the environment is after a release.
type Outcome struct {
	Image string `json:"image"`
	// Before is the image that was live when the release began.
	Before string `json:"before,omitempty"`
	// Live is the colour that gets the requests now.
	Live string `json:"live"`
	// Switched says that the release moved the requests to another colour, and left them there.
	Switched bool `json:"switched"`
	// Changed says that anything was changed.
	Changed bool `json:"changed"`
}

// ErrNothingBefore says that there is nothing to roll back to.
var ErrNothingBefore = errors.New("no release before the present one is known: the colour that is not live never got requests")

// ReleaseError says at which step a release failed, with the evidence.
type ReleaseError struct {
	Step     string
	Err      error
	Evidence Evidence
	// Live is the colour that gets the requests now, and Image what it runs; both are empty when the
	// cluster could not be asked.
	Live, Image string
	// WentBack says that everything is as it was before. Where it is false, Undo says why.
	WentBack bool
	Undo     error
}

func (e *ReleaseError) Error() string {
	return fmt.Sprintf("release: %s: %v; %s", e.Step, e.Err, e.Standing())
}

// Standing says how the environment stands after the failure.
func (e *ReleaseError) Standing() string {
	switch {
	case e.Undo != nil:
		return fmt.Sprintf("going back did not work: %v", e.Undo)
	case e.WentBack:
		return fmt.Sprintf("went back: %s is live with %s", e.Live, e.Image)
	}
	return fmt.Sprintf("%s stays live with %s, because there is nothing better to go back to", e.Live, e.Image)
}

func (e *ReleaseError) Unwrap() error { return e.Err }

// release is one run.
type release struct {
	m     *Manifests
	c     *client
	o     ReleaseOptions
	lease *lease
	image string
	out   Outcome
	seen  map[string]bool // events of the cluster that were shown
	step  string
	// idleBefore is what the colour that is not live had before it got the image.
	idleBefore string
	// switched is when the requests were moved.
	switched time.Time
}

// Release brings an image into an environment: the colour of serve that is not live gets it and as many
// pods as the live one has, is verified, and takes over; then ingest rolls, and the old colour loses
// its pods and keeps its image. On a failure requests go back and the error is a ReleaseError. What is
// live is read from the cluster. An interrupted release is left as it stands, and the next one
// converges. Errors are HeldError, ErrNothingBefore, ErrLockLost, ErrDenied and ErrUnavailable too.
func (m *Manifests) Release(ctx context.Context, cluster Cluster, o ReleaseOptions) (*Outcome, error) {
	o = o.Defaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if !m.exists(cluster) {
		return nil, fmt.Errorf("release: %w", errNoCluster)
	}
	c, err := m.connect(cluster)
	if err != nil {
		return nil, err
	}
	r := &release{m: m, c: c, o: o, lease: m.newLease(c, m.opts.Holder), seen: map[string]bool{}}
	if r.o.Forward == nil {
		r.o.Forward = c.forward
	}
	r.begin(StepLock)
	if _, err := r.look(ctx); err != nil { // A lock needs the namespace.
		return nil, err
	}
	r.lease.onWait = func(holder string, atMost time.Duration) {
		r.say("%s holds the lock; waiting up to %s for a sign of life", holder, atMost)
	}
	held, err := r.lease.hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	done, err := r.run(held)
	r.lease.let(ctx, done)
	if err != nil {
		return nil, err
	}
	return &r.out, nil
}

func (r *release) begin(step string) { r.step = step }

func (r *release) say(format string, args ...any) {
	r.o.On(Event{Step: r.step, Message: fmt.Sprintf(format, args...)})
}

// run does everything under the lock. done says that nothing is left unfinished.
func (r *release) run(ctx context.Context) (done bool, err error) {
	s, err := r.look(ctx)
	if err != nil {
		return false, err
	}
	if r.image, err = r.target(s); err != nil {
		return true, err
	}
	r.out = Outcome{Image: r.image, Before: s.live.image, Live: s.live.colour}
	if err := r.lease.intend(ctx, intent{image: r.image, rollback: r.o.Rollback}); err != nil {
		return false, err
	}
	if err := r.rememberEvents(ctx); err != nil {
		return false, err
	}
	if err := r.forward(ctx, s); err != nil {
		return r.fail(ctx, err)
	}
	return true, nil
}

// target is the image that is to be live.
func (r *release) target(s *scene) (string, error) {
	if !r.o.Rollback {
		return r.o.Image, nil
	}
	before := r.lease.before
	switch {
	case before.rollback: // An earlier one was interrupted; a new one would go back to where it came from.
		return before.image, nil
	case before.image != "" && before.image != s.live.image: // A release that nobody saw yet is given up.
		return s.live.image, nil
	case s.idle.served == "" || s.idle.served == s.live.image:
		return "", fmt.Errorf("release: %w", ErrNothingBefore)
	}
	return s.idle.served, nil
}

// forward goes on from wherever the environment stands.
func (r *release) forward(ctx context.Context, s *scene) error {
	if s.live.image != r.image {
		if err := r.fill(ctx, s); err != nil {
			return err
		}
		if err := r.turn(ctx, s); err != nil {
			return err
		}
		var err error
		if s, err = r.look(ctx); err != nil {
			return err
		}
	} else {
		r.say("%s is live with this image already", s.live.colour)
	}
	return r.finish(ctx, s)
}

// fill gives the colour that is not live the image and as many pods as the live one has, and verifies it.
func (r *release) fill(ctx context.Context, s *scene) error {
	r.begin(StepPods)
	r.idleBefore = s.idle.image
	r.say("%s is live with %s; %s gets %s", s.live.colour, short12(s.live.image), s.idle.colour, short12(r.image))
	if err := r.put(ctx, s.idle, r.image, s.idle.served); err != nil {
		return err
	}
	for range attempts {
		if err := r.matchPods(ctx, s); err != nil {
			return err
		}
		if err := r.rollout(ctx, s.idle.name); err != nil {
			return err
		}
		now, err := r.look(ctx)
		if err != nil {
			return err
		}
		if s.live.wanted = now.live.wanted; now.idle.wanted >= s.live.wanted { // The autoscaler may have been at work.
			break
		}
		s.idle.wanted = now.idle.wanted
	}
	r.begin(StepCheck)
	pod, err := r.readyPod(ctx, s.idle.colour)
	if err != nil {
		return err
	}
	return r.verify(ctx, pod)
}

// matchPods raises the number of pods of the colour that is not live.
func (r *release) matchPods(ctx context.Context, s *scene) error {
	want := max(s.live.wanted, s.idle.least, 1)
	if s.idle.wanted >= want {
		return nil
	}
	r.say("%s goes from %d to %d pods", s.idle.name, s.idle.wanted, want)
	return r.scale(ctx, s.idle, want)
}

// turn makes the colour live that was not.
func (r *release) turn(ctx context.Context, s *scene) error {
	r.begin(StepSwitch)
	if s.live.ready > 0 {
		if err := r.put(ctx, s.live, s.live.image, s.live.image); err != nil {
			return err
		}
	}
	return r.switchTo(ctx, s.idle.colour)
}

// finish is everything from when the image is live.
func (r *release) finish(ctx context.Context, s *scene) error {
	r.begin(StepVerify)
	if err := r.put(ctx, s.live, r.image, s.live.served); err != nil {
		return err
	}
	if err := r.rollout(ctx, s.live.name); err != nil {
		return err
	}
	if err := r.verifyLive(ctx, s.live.colour); err != nil {
		return err
	}
	r.begin(StepIngest)
	if s.ingest.image != r.image {
		r.say("ingest rolls from %s to %s", short12(s.ingest.image), short12(r.image))
	}
	if err := r.put(ctx, s.ingest, r.image, ""); err != nil {
		return err
	}
	if err := r.rollout(ctx, s.ingest.name); err != nil {
		return err
	}
	if s.idle.wanted > 0 {
		if err := r.settle(ctx, s.live.colour); err != nil {
			return err
		}
	}
	r.begin(StepRelease)
	return r.empty(ctx, s.idle, s.idle.served)
}

// settle keeps both colours for a while and verifies what is live once more.
func (r *release) settle(ctx context.Context, live string) error {
	r.begin(StepSettle)
	wait := r.o.Settle - time.Since(r.switched)
	if wait > 0 {
		r.say("%s keeps its pods for %s more", serve(otherColour(live)), wait.Round(time.Second))
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
	return r.verifyLive(ctx, live)
}

// empty takes the pods of a colour away, then gives it the image with which it was live.
func (r *release) empty(ctx context.Context, p *part, image string) error {
	if p.wanted > 0 {
		r.say("%s goes to 0 pods", p.name)
		if err := r.scale(ctx, p, 0); err != nil {
			return err
		}
	}
	if image == "" || image == p.image {
		return nil
	}
	r.say("%s gets %s back", p.name, short12(image))
	return r.put(ctx, p, image, p.served)
}

// fail ends a release that did not work: an interrupted one stays as it stands, another one goes back.
func (r *release) fail(ctx context.Context, cause error) (done bool, err error) {
	if lost := context.Cause(ctx); errors.Is(lost, ErrLockLost) {
		return false, fmt.Errorf("release: %s: %w", r.step, lost)
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return false, fmt.Errorf("release: stopped at step %s: %w", r.step, cause)
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.UndoTimeout)
	defer cancel()
	e := &ReleaseError{Step: r.step, Err: cause, Evidence: r.evidence(undo, cause)}
	r.begin(StepBack)
	e.WentBack, e.Undo = r.back(undo)
	if s, lookErr := r.look(undo); lookErr == nil {
		e.Live, e.Image = s.live.colour, s.live.image
	}
	return e.Undo == nil, e
}

// back moves the requests to the colour that had them, and takes the image out of what is not live.
func (r *release) back(ctx context.Context) (wentBack bool, err error) {
	s, err := r.look(ctx)
	if err != nil {
		return false, err
	}
	if s.live.image == r.image {
		if s.idle.image == r.image || s.idle.ready == 0 {
			return false, nil // There is nothing that would be better.
		}
		if err := r.switchTo(ctx, s.idle.colour); err != nil {
			return false, err
		}
		s.live, s.idle = s.idle, s.live
		r.out.Switched = false
	}
	if s.ingest.image == r.image {
		r.say("ingest goes back to %s", short12(s.live.image))
		if err := r.put(ctx, s.ingest, s.live.image, ""); err != nil {
			return false, err
		}
	}
	image := s.idle.served
	if image == "" {
		image = r.idleBefore
	}
	return true, r.empty(ctx, s.idle, image)
}

// short12 is an image as a person tells it from another one.
func short12(image string) string {
	m := imageForm.FindStringSubmatch(image)
	if m == nil {
		return image
	}
	return m[2][:len("sha256:")+12]
}
