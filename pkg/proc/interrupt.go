package proc

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Interrupts are the requests to stop that reach the process. The first ends the context; what
// later ones do depends on whether somebody handles them.
type Interrupts struct {
	exit    func()
	signals chan os.Signal

	mu     sync.Mutex
	cancel context.CancelCauseFunc
	count  int
	handle func(n int)
}

// NotifyInterrupts returns a context that SIGINT or SIGTERM ends with ErrInterrupted as its cause.
// While nobody handles interrupts, a second one exits at once with the code: the first asked for a
// drain, the second says that waiting is over.
func (p *Process) NotifyInterrupts(ctx context.Context, exitCode int) (context.Context, *Interrupts, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 4)
	i := &Interrupts{exit: func() { p.Exit(exitCode) }, signals: signals, cancel: cancel}
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				i.arrived(s)
			case <-done:
				return
			}
		}
	}()
	return ctx, i, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	})
}

// Handle gives every interrupt to a function until restore is called: 1 is the first, which has
// ended the context, 2 and more are a person's Ctrl-C after it. SIGTERM and SIGHUP, which is the
// terminal being closed, count as a first one only: whoever sends them does not mean to escalate. An interrupt that came before is given at
// once. The function runs on the goroutine of the signals, one call at a time.
func (i *Interrupts) Handle(on func(n int)) (restore func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handle = on
	hangups := !signal.Ignored(syscall.SIGHUP) // nohup ignores them for us.
	if hangups {
		signal.Notify(i.signals, syscall.SIGHUP)
	}
	if i.count > 0 {
		on(i.count)
	}
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.handle = nil
		if hangups {
			signal.Reset(syscall.SIGHUP)
		}
	}
}

func (i *Interrupts) arrived(s os.Signal) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.count > 0 && i.handle != nil && s != syscall.SIGINT {
		return
	}
	i.count++
	switch {
	case i.handle != nil:
		i.cancel(ErrInterrupted)
		i.handle(i.count)
	case i.count > 1:
		i.exit()
	default:
		i.cancel(ErrInterrupted)
	}
}

// SurviveClosedPipes makes a write to a pipe that nobody reads an error of that write. Without it
// the runtime ends the process when that pipe is its standard output or error. Programs that this
// one starts are not affected.
func (p *Process) SurviveClosedPipes() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
